"""Choose the columns of a matrix that say most about a variable."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from memshare_jupyter.information._blocks import kinds_of, numbers_of, over_columns, value_of
from memshare_jupyter.information._discoveries import (
    Untied,
    may_share,
    q_values,
    sequential_p_values,
    shared_p_values,
)
from memshare_jupyter.information._inputs import as_vector
from memshare_jupyter.information._matrix import mutual_info_matrix
from memshare_jupyter.information._permuted import Permuted
from memshare_jupyter.information._repeated import Repeated
from memshare_jupyter.information._selected import SelectedFeatures
from memshare_jupyter.information._stepwise import Method, Redundancy
from memshare_jupyter.information._ties import best_first, reaching
from memshare_jupyter.information._together import chosen_together
from memshare_jupyter.worker import columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from memshare_jupyter.engines import AnyCluster
    from memshare_jupyter.information._kinds import Kinds

_ENOUGH = 20_000  # permutations for a selection by `alpha`, at most


def select_features(
    X: ArrayLike | str,
    y: ArrayLike | str,
    *,
    k: int | None = None,
    threshold: float | None = None,
    alpha: float | None = None,
    method: Method = "top",
    redundancy: Redundancy = "bins",
    names: Sequence[Any] | None = None,
    x_discrete: Kinds = False,
    y_discrete: bool = True,
    given: ArrayLike | str | None = None,
    permutations: int = 0,
    seed: int | None = 0,
    transform: Literal["normal"] | None = "normal",
    cluster: AnyCluster = None,
    namespace: str | None = None,
    max_cores: int | None = None,
    progress_after: float | None = 2.0,
    **options: Any,
) -> SelectedFeatures:
    """Select the columns that tell most about y: each by itself, or together.

    Parameters
    ----------
    X : array_like of shape (n_samples, n_features), or str
        One feature per column: an array, a view of shared memory, a frame, or the name of a page.
    y : array_like of shape (n_samples,), or str
        The classes, or with ``y_discrete=False`` a continuous variable; or the name of its page.
    k : int, optional
        Select so many, or all columns if there are fewer. Exactly one of `k`, `threshold` and
        `alpha` must be given.
    threshold : float, optional
        Select all with at least this much, in nats or to `base`.
    alpha : float, optional
        Select all that are discoveries at this false discovery rate, by p-values of all columns;
        `permutations` is then how many a p-value is made of at most, 20,000 if not given.
    method : {"top", "mrmr", "jmi", "cmim"}, default: "top"
        "top": those with the highest mutual information with y, however much they say the same. The
        others choose k columns one after the other, each for what it adds to those before: its
        information less its mean redundancy ("mrmr"), its joint information with each of them
        ("jmi"), or what it adds at least ("cmim"); see Notes.
    redundancy : {"bins", "copula"}, default: "bins"
        How "mrmr" estimates what two columns tell of one another: from a table of their bins, which
        sees every kind of dependence and is low for strong ones; or as if their normal scores were
        a normal pair, which is right for those that rise and fall together, and blind to others.
    names : sequence of length n_features, optional
        Names of the columns; a frame's own if not given.
    x_discrete : bool, "auto", or sequence, default: False
        Which columns are labels, as in `mutual_info_matrix`; with `names`, by these. The result
        says which of the selected ones are.
    y_discrete : bool, default: True
        Whether y are classes.
    given : array_like of shape (n_samples,), or str, optional
        Labels of a covariate, such as the batch, as in `mutualinfo`: what columns tell within its
        levels; permutations are within them, too. With "top" only.
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
    cluster, namespace, max_cores, progress_after : optional
        As in `mutual_info_matrix`: where to compute, permutations too. The result is the same.
    **options
        The other arguments of `mutualinfo`; with "top" only.

    Returns
    -------
    SelectedFeatures
        Best first; of equal ones, which differ by less than 1e-12, the first in X.

    Raises
    ------
    ValueError
        Not exactly one of `k`, `threshold` and `alpha` is given; `k` or `permutations` is negative;
        `alpha` is not between 0 and 1; `names` are not as many as the columns; or a method other
        than "top" is not given `k`, or is given what is for "top" only.
    ValueError, TypeError, PageNotFoundError, ClusterError
        As in `mutual_info_matrix`.

    Notes
    -----
    The methods other than "top" see variables as codes of 16 bins ("mrmr") or 8 of equal counts,
    with Miller and Madow's correction of the bias: one byte for each value, which engines share,
    and one pass over all codes for each feature. Of a continuous y they see codes, too.

    `alpha`: all columns without ties have the same normal scores, so permutations of one serve
    them all. For a column with ties permutations end when ten of them have reached its value, or
    when there are enough for a discovery: ``n_features / (alpha * d)`` if d columns seem to be
    discoveries. Which permutation is which depends on `seed` alone.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import select_features
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, size=500)
    >>> X = rng.normal(size=(500, 4))
    >>> X[:, 2] += y
    >>> X[:, 0] += 2 * y
    >>> X[:, 3] = X[:, 0] + 0.1 * X[:, 3]  # nearly the same again
    >>> select_features(X, y, k=2, names=["a", "b", "c", "d"]).names
    ['a', 'd']
    >>> select_features(X, y, k=2, names=["a", "b", "c", "d"], method="cmim").names
    ['a', 'c']
    """
    if given is not None:
        options["given"] = as_vector(value_of(given, namespace), "given", labels=True)
    k, permutations = _checked(k, threshold, alpha, method, permutations, options)
    if redundancy not in get_args(Redundancy):
        raise ValueError(f"redundancy must be 'bins' or 'copula', not {redundancy!r}")
    engines: dict[str, Any] = {
        "cluster": cluster,
        "max_cores": max_cores,
        "progress_after": progress_after,
    }
    labels = as_vector(value_of(y, namespace), "y", labels=y_discrete)
    table = value_of(X, namespace)
    kinds = kinds_of(x_discrete, table, names)
    if redundancy == "copula" and (method != "mrmr" or kinds.any()):
        raise ValueError("redundancy='copula' is for method='mrmr' and columns of numbers")
    if method != "top":
        return _stepwise(
            *(X, labels, method, redundancy, k or 0, names, namespace, engines, y_discrete, kinds)
        )
    options |= {"y_discrete": y_discrete, "transform": transform}
    values = mutual_info_matrix(
        X, labels, x_discrete=kinds, namespace=namespace, **engines, **options
    )
    names = _names(names, table, values.size)
    order, ranks = best_first(values)
    repeat = Repeated(seed, X, engines)
    if alpha is not None:
        p_all = _all_p_values(
            *(X, table, labels, values, kinds, options, alpha, permutations or _ENOUGH),
            *(repeat, namespace),
        )
        q_all = q_values(p_all)
        kept = q_all[order] <= alpha
        chosen = order[kept]
        rest = values[chosen], ranks[kept], p_all[chosen], q_all[chosen]
        return SelectedFeatures(
            *([names[c] for c in chosen], chosen, *rest),
            discrete=_discrete(kinds, chosen),
            all_values=values,
            all_q_values=q_all,
            alpha=alpha,
        )
    chosen = order[: k if threshold is None else reaching(values, threshold)]
    found, ranks = values[chosen], ranks[: chosen.size]
    p_values = None
    if permutations and chosen.size:
        part = numbers_of(table, chosen, kinds)
        test = Permuted(labels, found, options | {"x_discrete": kinds[chosen]})
        each = repeat(test, range(permutations), part)
        p_values = (1 + np.sum(each, axis=0)) / (1 + permutations)
    return SelectedFeatures(
        *([names[c] for c in chosen], chosen, found, ranks, p_values),
        discrete=_discrete(kinds, chosen),
        all_values=values,
    )


def _discrete(kinds: NDArray[np.bool_], chosen: NDArray[np.intp]) -> NDArray[np.bool_] | None:
    return kinds[chosen] if kinds.any() else None


def _checked(
    k: Any, threshold: Any, alpha: Any, method: Any, permutations: Any, options: dict[str, Any]
) -> tuple[int | None, int]:
    """Return `k` and `permutations` if all of them fit together."""
    if [k, threshold, alpha].count(None) != 2:
        raise ValueError(
            "give either k (how many features), threshold (how much at least) or alpha (the false "
            "discovery rate)"
        )
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, not {method!r}")
    k = None if k is None else _whole(k, "k")
    permutations = _whole(permutations, "permutations")
    if alpha is not None and not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha!r}")
    if options.get("normalize"):
        raise ValueError(
            "columns are ranked in nats; normalize=True is for the selected ones: "
            "mutual_info_matrix(X[:, found.columns], y, normalize=True, ...)"
        )
    if method != "top" and (k is None or permutations or options):
        raise ValueError(
            f"method={method!r} chooses k features by their codes; threshold, alpha, permutations "
            f"and the arguments of mutualinfo are for method='top'"
        )
    return k, permutations


def _whole(number: Any, what: str) -> int:
    """Return a number that must be a whole one, and not negative."""
    try:
        whole = operator.index(number)
    except TypeError:
        raise TypeError(f"{what} must be a whole number, not {number!r}") from None
    if whole < 0:
        raise ValueError(f"{what} must not be negative, but is {number}")
    return whole


def _names(names: Sequence[Any] | None, table: Any, count: int) -> Sequence[Any]:
    if names is None:
        columns = columns_of(table)
        return range(count) if columns is None else columns.names
    if len(names) != count:
        raise ValueError(f"names has length {len(names)}, and X has {count} columns")
    return names


def _stepwise(
    X: Any,
    labels: NDArray[Any],
    method: Method,
    redundancy: Redundancy,
    k: int,
    names: Sequence[Any] | None,
    namespace: str | None,
    engines: dict[str, Any],
    y_discrete: bool,
    kinds: NDArray[np.bool_],
) -> SelectedFeatures:
    chosen, scores, relevance = chosen_together(
        *(X, labels, kinds, method, redundancy, k, namespace, engines), y_discrete=y_discrete
    )
    names = _names(names, value_of(X, namespace), relevance.size)
    found = np.maximum(relevance[chosen], 0.0)
    ranks = np.arange(1, chosen.size + 1)
    return SelectedFeatures(
        *([names[c] for c in chosen], chosen, found, ranks),
        scores=scores,
        discrete=_discrete(kinds, chosen),
        all_values=relevance,
    )


def _all_p_values(
    X: Any,
    table: Any,
    labels: NDArray[Any],
    values: NDArray[np.float64],
    kinds: NDArray[np.bool_],
    options: dict[str, Any],
    alpha: float,
    enough: int,
    repeat: Repeated,
    namespace: str | None,
) -> NDArray[np.float64]:
    found = np.ones(values.size)
    positive = values > 0.0
    untied = np.zeros(values.size, dtype=bool)
    if may_share(labels, options) and not kinds.all():
        untied = over_columns(X, Untied(), kinds, namespace, repeat.engines).astype(bool)
        untied &= positive & ~kinds
    if untied.any():
        found[untied] = shared_p_values(values[untied], labels, options, enough, repeat)
    tied = np.flatnonzero(positive & ~untied)
    discoveries = int(np.count_nonzero(q_values(found) <= alpha))

    def most(never_reached: int) -> int:
        if not never_reached:
            return enough
        return min(enough, math.ceil(values.size / (alpha * (never_reached + discoveries))))

    found[tied] = sequential_p_values(
        values[tied],
        lambda places: numbers_of(table, tied[places], kinds),
        lambda places: Permuted(
            labels, values[tied[places]], options | {"x_discrete": kinds[tied[places]]}
        ),
        repeat,
        most,
        labels.size,
    )
    return found
