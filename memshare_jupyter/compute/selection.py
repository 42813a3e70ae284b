"""Choose the columns of a matrix that say most about a variable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .columns import ColumnMutualInfo, mutual_info_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SelectedFeatures:
    """The chosen columns, best first; every attribute has one entry for each.

    Attributes
    ----------
    names : list
        Of the columns; their numbers when they have no names.
    columns : ndarray of int
        Where they are in X: ``X[:, selected.columns]``.
    values : ndarray of float64
        Mutual information, in nats or to `base`.
    ranks : ndarray of int
        1 for the best; equal values share the better rank.
    p_values : ndarray of float64 or None
        By permutation, if asked for; not corrected for the number of columns.
    """

    names: list[Any]
    columns: NDArray[np.intp]
    values: NDArray[np.float64]
    ranks: NDArray[np.intp]
    p_values: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        width = max((len(str(name)) for name in self.names), default=0)
        p_values = [""] * len(self)
        if self.p_values is not None:
            p_values = [f"  p = {p:.2g}" for p in self.p_values]
        rows = zip(self.ranks, self.names, self.values, p_values, strict=True)
        lines = [f"{rank:>6}  {name!s:{width}}  {value:.4f}{p}" for rank, name, value, p in rows]
        return "\n".join([f"{len(self)} features", *lines])


def select_features(
    X: ArrayLike,
    y: ArrayLike,
    *,
    k: int | None = None,
    threshold: float | None = None,
    names: Sequence[Any] | None = None,
    y_discrete: bool = True,
    permutations: int = 0,
    seed: int | None = 0,
    **options: Any,
) -> SelectedFeatures:
    """Select the columns with the highest mutual information with y.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features)
        One feature per column: an array, a view of shared memory, or a frame.
    y : array_like of shape (n_samples,)
        The classes, or with ``y_discrete=False`` a continuous variable.
    k : int, optional
        Select so many. Exactly one of `k` and `threshold` must be given.
    threshold : float, optional
        Select all with at least this much, in nats or to `base`.
    names : sequence of length n_features, optional
        Names of the columns; a frame's own if not given.
    y_discrete : bool, default: True
    permutations : int, default: 0
        Estimate p-values of the selected columns from so many permutations of y: the share of
        permutations, the given order included, with at least the same mutual information. Each
        takes as long as the selected columns do.
    seed : int or None, default: 0
        Of the permutations; None for another each time.
    **options
        The other arguments of `mutualinfo`.

    Returns
    -------
    SelectedFeatures
        Best first; of equal ones the first in X.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, size=500)
    >>> X = rng.normal(size=(500, 4))
    >>> X[:, 2] += y
    >>> X[:, 0] += 2 * y
    >>> select_features(X, y, k=2, names=["a", "b", "c", "d"]).names
    ['a', 'c']
    """
    if names is None:
        names = getattr(X, "columns", None)
    matrix = np.asarray(X)
    options["y_discrete"] = y_discrete
    values = mutual_info_matrix(matrix, y, **options)
    if names is not None and len(names) != values.size:
        raise ValueError(f"there are {len(names)} names for the {values.size} columns of X")
    order = np.argsort(-values, kind="stable")
    if k is not None and threshold is None:
        chosen = order[:k]
    elif k is None and threshold is not None:
        chosen = order[: np.count_nonzero(values >= threshold)]
    else:
        raise ValueError("give either k (how many features) or threshold (how much at least)")
    # The rank is one more than the number of better ones.
    ranks = np.searchsorted(-values[order], -values[chosen]) + 1
    p_values = None
    if permutations:
        p_values = np.ones(chosen.size)
        rng = np.random.default_rng(seed)
        for _ in range(permutations):
            score = ColumnMutualInfo(rng.permutation(np.asarray(y)), **options)
            # Values equal but for rounding count as equal.
            p_values += score(matrix[:, chosen]) >= values[chosen] * (1 - 1e-12)
        p_values /= permutations + 1
    labels = [int(c) if names is None else names[c] for c in chosen]
    return SelectedFeatures(labels, chosen, values[chosen], ranks, p_values)


def mutual_info_score_func(
    X: ArrayLike, y: ArrayLike, *, y_discrete: bool = True, **options: Any
) -> NDArray[np.float64]:
    """Mutual information of each column with y, as scikit-learn's selectors want it.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features)
    y : array_like of shape (n_samples,)
    y_discrete : bool, default: True
        For a continuous y pass ``functools.partial(mutual_info_score_func, y_discrete=False)``.
    **options
        The other arguments of `mutualinfo`.

    Returns
    -------
    ndarray of shape (n_features,), float64
        In nats; there are no p-values.

    Examples
    --------
    >>> from sklearn.feature_selection import SelectKBest
    >>> import numpy as np
    >>> y = np.repeat([0, 1], 50)
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> X[:, 1] += 2 * y
    >>> SelectKBest(mutual_info_score_func, k=1).fit(X, y).get_support()
    array([False,  True, False])
    """
    return mutual_info_matrix(X, y, y_discrete=y_discrete, **options)
