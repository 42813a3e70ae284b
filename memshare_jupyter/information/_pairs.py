"""Mutual information of all pairs of some columns: here, or on the engines of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memshare_jupyter.apply import memapply
from memshare_jupyter.information._blocks import kinds_of, numbers_of, on_engines, value_of
from memshare_jupyter.information._inputs import missing, raise_missing
from memshare_jupyter.information._kinds import score_of
from memshare_jupyter.information._mutual_info import mutualinfo
from memshare_jupyter.worker import columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from memshare_jupyter.engines import AnyCluster
    from memshare_jupyter.information._kinds import Kinds


def mutual_info_pairs(
    X: ArrayLike | str,
    columns: Sequence[Any] | NDArray[Any] | None = None,
    *,
    x_discrete: Kinds = False,
    given: ArrayLike | str | None = None,
    cluster: AnyCluster = None,
    namespace: str | None = None,
    max_cores: int | None = None,
    progress_after: float | None = 2.0,
    **options: Any,
) -> NDArray[np.float64]:
    """Mutual information of each of some columns with each other, in nats.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features), or str
        As in `mutual_info_matrix`.
    columns : sequence, optional
        Numbers of columns, or names of a frame's; all if not given. They are copied, and nothing
        else is.
    x_discrete, given, cluster, namespace, max_cores, progress_after : optional
        As in `mutual_info_matrix`.
    **options
        The other arguments of `mutualinfo`.

    Returns
    -------
    ndarray of shape (k, k), float64
        Symmetric. A label has its entropy on the diagonal, numbers ``inf``, which is how much they
        tell about themselves; a constant 0, and with `normalize` everything else 1.

    Raises
    ------
    ValueError, TypeError
        As `mutual_info_matrix` does.

    Notes
    -----
    ``k * (k - 1) / 2`` calls of `mutualinfo`: 50 columns of 10,000 numbers take some seconds.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import mutual_info_pairs
    >>> X = np.random.default_rng(0).normal(size=(1000, 3))
    >>> X[:, 2] += 2 * X[:, 0]
    >>> mutual_info_pairs(X, transform="normal", normalize=True).round(1)
    array([[1. , 0.1, 0.7],
           [0.1, 1. , 0.1],
           [0.7, 0.1, 1. ]])
    """
    table = value_of(X, namespace)
    kinds = kinds_of(x_discrete, table)
    frame = columns_of(table)
    names = list(range(kinds.size)) if frame is None else list(frame.names)
    wanted = names if columns is None else list(columns)
    chosen = np.array([_place(name, names) for name in wanted], dtype=np.intp)
    block = numbers_of(table, chosen, kinds)
    if not options.get("na_rm"):
        for name, column in zip(wanted, block.T, strict=True):
            if (absent := missing(column)).any():
                raise_missing(**{f"column {name!r} of X": absent})
    options["given"] = value_of(given, namespace)
    row = PairsOfColumn(kinds[chosen], options)
    items = np.arange(chosen.size)[:, None]
    if on_engines(X, cluster, max_cores):
        rows = memapply(
            *(items, 1, row, "mutual_info_pairs", cluster, {"X": block}, max_cores),
            progress_after=progress_after,
        )
    else:
        rows = [row(item, block) for item in items]
    upper = np.array(rows).reshape(chosen.size, chosen.size)
    return upper + np.triu(upper, 1).T


def _place(name: Any, names: list[Any]) -> int:
    try:
        return names.index(name)
    except ValueError:
        raise ValueError(
            f"X has no column {name!r}; its columns are {', '.join(map(repr, names[:5]))}"
            f"{', ...' if len(names) > 5 else ''}"
        ) from None


class PairsOfColumn:
    """Mutual information of one column with itself and those behind it; 0 for those before."""

    def __init__(self, kinds: NDArray[np.bool_], options: dict[str, Any]) -> None:
        self._kinds, self._options = kinds, options

    def __call__(self, number: NDArray[np.intp], X: NDArray[Any]) -> NDArray[np.float64]:
        one = int(number[0])
        found = np.zeros(self._kinds.size)
        column, discrete = X[:, one], bool(self._kinds[one])
        behind = slice(one + 1, None)
        score = score_of(column, self._kinds, y_discrete=discrete, **self._options)
        found[behind] = score(X[:, behind], one + 1)
        found[one] = self._itself(column, discrete=discrete)
        return found

    def _itself(self, column: NDArray[Any], *, discrete: bool) -> float:
        known = column[~missing(column)]
        if known.size == 0 or (known == known[0]).all():
            return 0.0
        if discrete:
            return mutualinfo(column, column, x_discrete=True, y_discrete=True, **self._options)
        return 1.0 if self._options.get("normalize") else np.inf
