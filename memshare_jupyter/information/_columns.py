"""Mutual information of many variables with one."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memshare_jupyter.information._classes import Classes
from memshare_jupyter.information._inputs import (
    as_array,
    as_codes,
    as_numbers,
    as_vector,
    is_sparse,
    missing,
    raise_missing,
)
from memshare_jupyter.information._normal_scores import grid_of
from memshare_jupyter.information._options import Options
from memshare_jupyter.information._pair import FEWEST_SAMPLES, levels_of, pair_mutualinfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from memshare_jupyter.information._density import Gridded

_BLOCK_BYTES: Final = 8 * 2**20  # of columns copied side by side at a time


class ColumnMutualInfo:
    """Mutual information of columns with one variable y, as a function of blocks of columns.

    Made for workers: what depends on y is prepared once, an object pickles to about the size of y,
    and it is called with one batch of columns after the other. It takes some 30 MB beside the
    batch (with over 1,000 classes 35 kB for each more).

    Parameters
    ----------
    y : array_like of shape (n_samples,)
        As in `mutualinfo`.
    given : array_like of shape (n_samples,), optional
        Of a covariate, as in `mutualinfo`.
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

    __name__ = "mutual information"
    """What lists of runs call it."""

    def __init__(self, y: ArrayLike, *, given: ArrayLike | None = None, **options: Any) -> None:
        self._options = Options.of(options)
        chosen = self._options
        self._y = as_vector(y, "y", labels=chosen.y_discrete)
        if not chosen.y_discrete:
            as_numbers(self._y, "y", remedy="; for labels pass y_discrete=True")
        self._given = None if given is None else as_vector(given, "given", labels=True)
        absent = self._absent()
        # The headline case has a way of its own; all others go one pair at a time.
        labelled = chosen.y_discrete and not chosen.x_discrete
        self._tabular = labelled and (chosen.estimator, chosen.compat) == ("pde", None)
        if not self._tabular:
            return
        present = np.flatnonzero(~absent)
        self._levels: list[tuple[Any, float, Classes]] = []  # samples, their share, their classes
        groups: list[NDArray[np.intp]] = [present]
        if self._given is not None:
            groups = [present[level] for level in levels_of(self._given[present])]
        for group in groups:
            classes = Classes(as_codes(self._y[group], "y"), chosen)
            samples = slice(None) if group.size == absent.size else group
            self._levels.append((samples, group.size / max(present.size, 1), classes))
        self._complete = not absent.any()

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
        fit = self._tabular and self._complete and numbers.dtype.kind in "biuf"
        if not fit or len(numbers) < FEWEST_SAMPLES or not np.isfinite(numbers).all():
            options = asdict(self._options)
            return lambda order: ColumnMutualInfo(self._y[order], given=self._given, **options)(
                numbers
            )
        gridded = [self._grids(numbers[samples].T) for samples, _, _ in self._levels]
        codes = np.empty(self._y.size, dtype=np.intp)
        for samples, _, classes in self._levels:
            codes[samples] = classes.codes

        def permuted(order: NDArray[np.intp]) -> NDArray[np.float64]:
            new, found = codes[order], np.zeros(numbers.shape[1])
            for (samples, share, classes), grids in zip(self._levels, gridded, strict=True):
                found += share * classes.nats(grids, new[samples])
            return self._options.in_unit(found, self._most)

        return permuted

    def order(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return a random order of y: of a covariate, within its levels."""
        if self._given is None:
            return rng.permutation(self._y.size)
        found = np.arange(self._y.size)
        present = np.flatnonzero(~self._absent())
        for level in levels_of(self._given[present]):
            found[present[level]] = rng.permutation(present[level])
        return found

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

    @property
    def _most(self) -> float:
        return sum(share * classes.entropy for _, share, classes in self._levels)

    def _absent(self) -> NDArray[np.bool_]:
        """Say which samples cannot be used; raise if there are any and nobody asked to."""
        used = {"y": self._y} | ({} if self._given is None else {"given": self._given})
        absent = {name: missing(values) for name, values in used.items()}
        if self._given is not None and self._given.size != self._y.size:
            raise ValueError(
                f"given must have one value for each of the {self._y.size} of y, but has "
                f"{self._given.size}"
            )
        dropped = np.logical_or.reduce(list(absent.values()))
        if dropped.any() and not self._options.na_rm and self._options.compat is None:
            raise_missing(**absent)
        return np.asarray(dropped)

    def _one(self, column: NDArray[Any], number: int) -> float:
        try:
            found = pair_mutualinfo(
                np.ascontiguousarray(column), self._y, self._options, self._given
            )
        except (TypeError, ValueError) as error:
            raise type(error)(f"column {number} of X: {error}") from error
        return float(self._options.in_unit(*found))

    def _by_tables(self, part: NDArray[Any], first: int) -> NDArray[np.float64]:
        """Return those of a few continuous columns with the classes."""
        columns = _turned(part, first)
        by_itself: list[int] = []
        for place, column in enumerate(columns):
            known = np.isfinite(column)
            if not known.all():
                if not self._options.na_rm:
                    raise_missing(**{f"column {first + place} of X": ~known})
                by_itself.append(place)
        usable = np.setdiff1d(np.arange(len(columns)), by_itself)
        nats = np.zeros(len(columns))
        for samples, share, classes in self._levels:
            if classes.codes.size >= FEWEST_SAMPLES and classes.count > 1:
                some = columns if usable.size == len(columns) else columns[usable]
                nats[usable] += share * classes.nats(self._grids(some[:, samples]))
        found = self._options.in_unit(nats, self._most)
        for place in by_itself:
            found[place] = self._one(part[:, place], first + place)
        return found

    def _grids(self, columns: NDArray[Any]) -> list[Gridded | None]:
        """Return variables, the rows of an array, on their grids; cells take two bytes each."""
        found: list[Gridded | None] = []
        for column in columns:
            grid = grid_of(np.ascontiguousarray(column, dtype=np.float64), self._options)
            found.append(grid and replace(grid, cell=grid.cell.astype(np.uint16)))
        return found


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
