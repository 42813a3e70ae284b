"""Mutual information of many variables with one."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memshare_jupyter.information._estimates import MOST_BINS, continuous_discrete
from memshare_jupyter.information._inputs import (
    as_array,
    as_codes,
    as_numbers,
    as_vector,
    is_sparse,
    missing,
    raise_missing,
)
from memshare_jupyter.information._mutual_info import FEWEST_SAMPLES, pair_mutualinfo
from memshare_jupyter.information._normal_scores import grid_of
from memshare_jupyter.information._options import Options
from memshare_jupyter.information._smoothing import GRID_POINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from memshare_jupyter.information._density import Gridded

_BLOCK_BYTES: Final = 8 * 2**20  # of columns copied side by side at a time
_TABLE_BYTES: Final = 4 * 2**20  # of their tables, smoothed at a time


class ColumnMutualInfo:
    """Mutual information of columns with one variable y, as a function of blocks of columns.

    Made for workers: what depends on y is prepared once, an object pickles to about the size of y,
    and it is called with one batch of columns after the other. It takes some 30 MB beside the
    batch (with over 1,000 classes 35 kB for each more).

    Parameters
    ----------
    y : array_like of shape (n_samples,)
        As in `mutualinfo`.
    **options
        The other arguments of `mutualinfo`, for every column.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.repeat([0, 1], 50)
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> X[:, 1] += 2 * y
    >>> int(ColumnMutualInfo(y, y_discrete=True)(X).argmax())
    1
    """

    def __init__(self, y: ArrayLike, **options: Any) -> None:
        self._options = Options(**options)
        chosen = self._options
        self._y = as_vector(y, "y", labels=chosen.y_discrete)
        if not chosen.y_discrete:
            as_numbers(self._y, "y", remedy="; for labels pass y_discrete=True")
        self._absent = missing(self._y)
        if self._absent.any() and not chosen.na_rm and chosen.compat is None:
            raise_missing(y=self._absent)
        # The headline case has a way of its own; all others go one pair at a time.
        labelled = chosen.y_discrete and not chosen.x_discrete
        self._tabular = labelled and (chosen.estimator, chosen.compat) == ("pde", None)
        if self._tabular:
            codes = as_codes(self._y[~self._absent], "y")
            self._classes = int(codes.max(initial=0)) + 1
            self._codes = codes.astype(np.min_scalar_type(self._classes))
            self._weights = np.bincount(codes, minlength=1) / max(codes.size, 1)

    def __call__(self, block: ArrayLike, first: int = 0) -> NDArray[np.float64]:
        """Return the mutual information of each column of an array of shape (n_samples, k).

        Any real dtype and memory layout, also sparse; nothing is copied but one part of the columns
        at a time.
        Errors count the columns from `first`.
        """
        sparse = is_sparse(block)
        columns: Any = block.tocsc() if sparse else as_array(block, "X")  # type: ignore[union-attr]
        self.check(columns.shape)
        found = np.empty(columns.shape[1])
        step = max(1, _BLOCK_BYTES // (8 * max(self._y.size, 1)))
        for start in range(0, found.size, step):
            part = columns[:, start : start + step]
            if sparse:
                part = part.toarray(order="F")
            if self._tabular:
                found[start : start + step] = self._by_tables(part, first + start)
            else:
                found[start : start + step] = [
                    self._one(column, first + start + place) for place, column in enumerate(part.T)
                ]
        return found

    def permuter(self, block: NDArray[Any]) -> Callable[[NDArray[np.intp]], NDArray[np.float64]]:
        """Return a function of a permutation: what columns have with y in that order.

        The columns' grids are made once and kept, with two bytes for each value of the block: a
        permutation takes a quarter of the time of a call. Where the estimate needs other things,
        or values are missing, it takes as long.
        """
        numbers = np.asarray(block)
        fit = self._tabular and not self._absent.any() and numbers.dtype.kind in "biuf"
        if not fit or len(numbers) < FEWEST_SAMPLES or not np.isfinite(numbers).all():
            options = asdict(self._options)
            return lambda order: ColumnMutualInfo(self._y[order], **options)(numbers)
        grids: list[Gridded | None] = []
        for column in numbers.T:
            contiguous = np.ascontiguousarray(column, dtype=np.float64)
            grid = grid_of(contiguous, self._options)
            grids.append(grid and replace(grid, cell=grid.cell.astype(np.uint16)))
        return lambda order: self._from_grids(grids, self._codes[order])

    @property
    def x_discrete(self) -> bool:
        """Whether columns are labels."""
        return self._options.x_discrete

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless matrices of this shape are possible."""
        if len(shape) != 2 or shape[0] != self._y.size:
            raise ValueError(
                f"X must have one row for each of the {self._y.size} values of y, "
                f"but has shape {shape}"
            )

    def _one(self, column: NDArray[Any], number: int) -> float:
        try:
            return pair_mutualinfo(np.ascontiguousarray(column), self._y, self._options)
        except (TypeError, ValueError) as error:
            raise type(error)(f"column {number} of X: {error}") from error

    def _by_tables(self, part: NDArray[Any], first: int) -> NDArray[np.float64]:
        """Return those of a few continuous columns with the classes."""
        columns = _turned(part, first)
        if self._absent.any():
            columns = np.ascontiguousarray(columns[:, ~self._absent])
        found = np.zeros(len(columns))
        if columns.shape[1] < FEWEST_SAMPLES or self._classes == 1:
            return found
        variables: list[Gridded | None] = [None] * len(columns)
        by_itself: list[tuple[int, float]] = []
        for place, column in enumerate(columns):
            if not np.isfinite(column).all():
                if not self._options.na_rm:
                    raise_missing(**{f"column {first + place} of X": ~np.isfinite(column)})
                by_itself.append((place, self._one(part[:, place], first + place)))
                continue
            variables[place] = grid_of(column, self._options)
        found = self._from_grids(variables, self._codes)
        for place, value in by_itself:
            found[place] = value
        return found

    def _from_grids(
        self, variables: Sequence[Gridded | None], codes: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return the mutual information of variables with classes; 0 where there is none."""
        found = np.zeros(len(variables))
        alike: dict[int, list[tuple[int, Gridded]]] = {}
        for place, gridded in enumerate(variables):
            if gridded is not None:
                alike.setdefault(min(gridded.distinct, MOST_BINS), []).append((place, gridded))
        for distinct, members in alike.items():
            for some in _portions(members, max(1, _TABLE_BYTES // (8 * 512 * self._classes))):
                nats = self._from_tables([gridded for _, gridded in some], distinct, codes)
                found[[place for place, _ in some]] = [self._options.in_unit(v) for v in nats]
        return found

    def _from_tables(
        self, variables: list[Gridded], distinct: int, codes: NDArray[Any]
    ) -> NDArray[np.float64]:
        tables = np.empty((GRID_POINTS, len(variables), self._classes))
        for place, variable in enumerate(variables):
            flat = variable.cell.astype(np.intp, copy=False) * self._classes + codes
            counts = np.bincount(flat, minlength=GRID_POINTS * self._classes)
            tables[:, place] = counts.reshape(GRID_POINTS, self._classes)
        widths = np.array([variable.width for variable in variables])
        tied = np.array([variable.mostly_tied for variable in variables])
        return continuous_discrete(
            *(tables, distinct, widths, tied, self._weights, self._options.eps),
            bias_correction=self._options.bias_correction,
        )


def _turned(part: NDArray[Any], first: int) -> NDArray[np.float64]:
    """Return the columns of a matrix as rows, each contiguous; a view where they lie so."""
    if part.dtype == np.float64 and part.T.flags.c_contiguous:
        return part.T
    # In two steps, each of which runs along the rows it reads or writes: from a row-wise
    # matrix of 20,000 columns five times as fast as at once.
    if part.dtype.kind == "O":
        names = (f"column {number} of X" for number in range(first, first + part.shape[1]))
        columns = [as_numbers(column, name) for column, name in zip(part.T, names, strict=True)]
        return np.array(columns).reshape(part.T.shape)
    numbers = as_numbers(np.ascontiguousarray(part).reshape(-1), "X").reshape(part.shape)
    return np.ascontiguousarray(numbers.T)


def _portions(members: list[tuple[int, Gridded]], size: int) -> Iterator[list[tuple[int, Gridded]]]:
    return (members[start : start + size] for start in range(0, len(members), size))
