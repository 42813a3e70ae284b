"""Which columns of a matrix are labels, and the mutual information of columns of both kinds."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from memshare_jupyter.information._columns import ColumnMutualInfo
from memshare_jupyter.information._inputs import as_array, as_numbers, is_sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    Kinds = bool | Literal["auto"] | Sequence[Any] | NDArray[np.bool_]

_TYPES_OF_LABELS = ("CategoricalDtype", "Categorical", "Enum", "String", "Utf8", "StringDtype")


def labels_of(x_discrete: Kinds, matrix: Any, names: Sequence[Any] | None) -> NDArray[np.bool_]:
    """Say of each column whether it is labels.

    Parameters
    ----------
    x_discrete : bool, "auto", or sequence
        All or none; by dtype; one bool for each column; or the names of those that are.
    matrix : array, or the columns of a frame
        For "auto": booleans, strings, categories and other things that are no numbers are labels.
    names : sequence, optional
        Of the columns; their numbers if not given.

    Raises
    ------
    ValueError
        There is no column of a name, or another number of bools than of columns.
    """
    count = len(matrix) if hasattr(matrix, "raw") else np.shape(matrix)[1]
    if isinstance(x_discrete, bool | np.bool_):
        return np.full(count, bool(x_discrete))
    if isinstance(x_discrete, str):
        if x_discrete != "auto":
            raise ValueError(
                f"x_discrete must be True, False, 'auto', a mask or names, not {x_discrete!r}"
            )
        return np.array([_is_label(column) for column in _raw(matrix)], dtype=bool)
    given = list(x_discrete)
    if given and all(isinstance(one, bool | np.bool_) for one in given):
        if len(given) != count:
            raise ValueError(f"x_discrete has length {len(given)}, and X has {count} columns")
        return np.array(given, dtype=bool)
    known = list(range(count)) if names is None else list(names)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(
            f"x_discrete names {', '.join(map(repr, unknown))}, but the columns of X are "
            f"{', '.join(map(repr, known[:5]))}{', ...' if count > 5 else ''}"
        )
    return np.array([name in given for name in known], dtype=bool)


def _raw(matrix: Any) -> Iterator[Any]:
    if hasattr(matrix, "raw"):
        return (matrix.raw(i) for i in range(len(matrix)))
    if is_sparse(matrix):
        return iter([np.empty(0, dtype=matrix.dtype)] * matrix.shape[1])
    return iter(as_array(matrix, "X").T)


def _is_label(column: Any) -> bool:
    """Say whether a column is no numbers, by its dtype."""
    dtype = getattr(column, "dtype", None)
    if type(dtype).__name__ in _TYPES_OF_LABELS:
        return True
    numbers = getattr(dtype, "numpy_dtype", None)  # of nullable and Arrow-backed columns
    if isinstance(numbers, np.dtype) and numbers.kind in "biuf":
        return numbers.kind == "b"
    if hasattr(column, "type") and not isinstance(column, np.ndarray):  # of Arrow
        return not any(word in str(column.type) for word in ("int", "float", "double", "decimal"))
    plain = as_array(column, "X")
    if plain.dtype.kind != "O":
        return plain.dtype.kind not in "iuf"
    try:
        as_numbers(plain, "X")
    except TypeError:
        return True
    return all(isinstance(value, bool | np.bool_) for value in plain)


def score_of(
    y: ArrayLike, x_discrete: bool | NDArray[np.bool_], **options: Any
) -> ColumnMutualInfo | MixedMutualInfo:
    """Return the function of blocks of columns: of one kind, or of both."""
    labels = np.unique(x_discrete)
    if labels.size == 2:
        return MixedMutualInfo(y, np.asarray(x_discrete), **options)
    return ColumnMutualInfo(y, x_discrete=bool(labels.all() and labels.size), **options)


class MixedMutualInfo:
    """Mutual information of columns with one variable, where some of the columns are labels.

    Parameters
    ----------
    y : array_like of shape (n_samples,)
    labels : ndarray of shape (n_features,), bool
        Which ones.
    **options
        As of `ColumnMutualInfo`.
    """

    __name__ = ColumnMutualInfo.__dict__["__name__"]

    def __init__(self, y: ArrayLike, labels: NDArray[np.bool_], **options: Any) -> None:
        self._labels = labels
        self._of = [ColumnMutualInfo(y, x_discrete=kind, **options) for kind in (False, True)]

    def __call__(self, block: Any, first: int = 0) -> NDArray[np.float64]:
        """Return that of each column of a block that begins with this column."""
        columns = block.tocsc() if is_sparse(block) else as_array(block, "X")
        self.check(columns.shape)
        found = np.empty(columns.shape[1])
        for start, stop in self._runs(first, first + found.size):
            some = slice(start - first, stop - first)
            found[some] = self._of[int(self._labels[start])](columns[:, some], start)
        return found

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless matrices of this shape are possible."""
        self._of[0].check(shape)

    def order(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return a random order of y."""
        return self._of[0].order(rng)

    def permuter(self, block: NDArray[Any]) -> Callable[[NDArray[np.intp]], NDArray[np.float64]]:
        """Return a function of a permutation: what all columns have with y in that order."""
        parts = [np.flatnonzero(self._labels == bool(kind)) for kind in (False, True)]
        of = [one.permuter(block[:, part]) for one, part in zip(self._of, parts, strict=True)]

        def permuted(order: NDArray[np.intp]) -> NDArray[np.float64]:
            found = np.empty(self._labels.size)
            for one, part in zip(of, parts, strict=True):
                found[part] = one(order)
            return found

        return permuted

    def _runs(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield where columns of one kind begin and end."""
        changes = np.flatnonzero(np.diff(self._labels[first:last])) + first + 1
        edges = [first, *changes.tolist(), last]
        return ((a, b) for a, b in itertools.pairwise(edges) if a < b)


class Picked:
    """A function of blocks of columns and the number of the first, as one of numbers and X."""

    def __init__(self, fun: Callable[[Any, int], Any]) -> None:
        self._fun = fun

    def __call__(self, numbers: NDArray[np.intp], X: NDArray[Any]) -> Any:
        first, last = int(numbers[0, 0]), int(numbers[-1, 0])
        return self._fun(X[:, first : last + 1], first)
