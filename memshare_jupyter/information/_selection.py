"""Choose the columns of a matrix that say most about a variable."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from memshare_jupyter.apply import memapply
from memshare_jupyter.information._inputs import as_vector
from memshare_jupyter.information._matrix import (
    mutual_info_matrix,
    numbers_of,
    on_engines,
    value_of,
)
from memshare_jupyter.information._permuted import Permuted
from memshare_jupyter.information._ties import best_first, reaching
from memshare_jupyter.worker import Seeds, columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from memshare_jupyter.engines import AnyCluster


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
        1 for the best; equal values, to 1e-12, share the better rank.
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
    X: ArrayLike | str,
    y: ArrayLike | str,
    *,
    k: int | None = None,
    threshold: float | None = None,
    names: Sequence[Any] | None = None,
    y_discrete: bool = True,
    permutations: int = 0,
    seed: int | None = 0,
    transform: Literal["normal"] | None = "normal",
    cluster: AnyCluster = None,
    namespace: str | None = None,
    max_cores: int | None = None,
    progress_after: float | None = 2.0,
    **options: Any,
) -> SelectedFeatures:
    """Select the columns with the highest mutual information with y.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features), or str
        One feature per column: an array, a view of shared memory, a frame, or the name of a page.
    y : array_like of shape (n_samples,), or str
        The classes, or with ``y_discrete=False`` a continuous variable; or the name of its page.
    k : int, optional
        Select so many. Exactly one of `k` and `threshold` must be given.
    threshold : float, optional
        Select all with at least this much, in nats or to `base`.
    names : sequence of length n_features, optional
        Names of the columns; a frame's own if not given.
    y_discrete : bool, default: True
    permutations : int, default: 0
        Estimate p-values of the selected columns from so many permutations of y: the share of
        permutations, the given order included, with at least the same mutual information. With
        classes and continuous columns each takes a quarter of the time that the selected columns
        take, otherwise as long. A copy of these columns is made.
    seed : int or None, default: 0
        Of the permutations; None for another each time.
    transform : {"normal", None}, default: "normal"
        Rank columns by the estimate on normal scores, as in `mutualinfo`: on raw values that of
        skewed columns is far too low.
    cluster, namespace, max_cores, progress_after
        As in `mutual_info_matrix`: where to compute, permutations too. The result is the same.
    **options
        The other arguments of `mutualinfo`.

    Returns
    -------
    SelectedFeatures
        Best first; of equal ones, which differ by less than 1e-12, the first in X.

    Raises
    ------
    ValueError
        Neither `k` nor `threshold` is given, or both; `k` or `permutations` is negative; or
        `names` are not as many as the columns.
    ValueError, TypeError, PageNotFoundError, ClusterError
        As in `mutual_info_matrix`.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import select_features
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, size=500)
    >>> X = rng.normal(size=(500, 4))
    >>> X[:, 2] += y
    >>> X[:, 0] += 2 * y
    >>> select_features(X, y, k=2, names=["a", "b", "c", "d"]).names
    ['a', 'c']
    """
    if (k is None) == (threshold is None):
        raise ValueError("give either k (how many features) or threshold (how much at least)")
    if k is not None:
        k = _whole(k, "k")
    permutations = _whole(permutations, "permutations")
    engines: dict[str, Any] = {
        "cluster": cluster,
        "max_cores": max_cores,
        "progress_after": progress_after,
    }
    options |= {"y_discrete": y_discrete, "transform": transform}
    values = mutual_info_matrix(X, y, namespace=namespace, **engines, **options)
    table, labels = value_of(X, namespace), value_of(y, namespace)
    if names is None and (columns := columns_of(table)) is not None:
        names = columns.names
    if names is not None and len(names) != values.size:
        raise ValueError(f"there are {len(names)} names for the {values.size} columns of X")
    order, ranks = best_first(values)
    chosen = order[: k if threshold is None else reaching(values, threshold)]
    found, ranks = values[chosen], ranks[: chosen.size]
    p_values = None
    if permutations and chosen.size:
        part = numbers_of(table, chosen)
        reached = Permuted(
            as_vector(labels, "y", labels=bool(options["y_discrete"])), found, options
        )
        seeds = Seeds.of(np.random.SeedSequence(seed))
        numbers = np.arange(permutations)[:, None]
        if on_engines(X, cluster, max_cores):
            each = memapply(
                *(numbers, 1, reached, "select_features"),
                vars={"X": part},
                seed=np.random.SeedSequence(seeds.entropy),
                **engines,
            )
        else:
            each = [reached(n, part, seeds.generator(i)) for i, n in enumerate(numbers)]
        p_values = (1 + np.sum(each, axis=0)) / (1 + permutations)
    chosen_names = [int(c) if names is None else names[c] for c in chosen]
    return SelectedFeatures(chosen_names, chosen, found, ranks, p_values)


def _whole(number: Any, what: str) -> int:
    """Return a number that must be a whole one, and not negative."""
    try:
        whole = operator.index(number)
    except TypeError:
        raise TypeError(f"{what} must be a whole number, not {number!r}") from None
    if whole < 0:
        raise ValueError(f"{what} must not be negative, but is {number}")
    return whole
