"""Features chosen one after the other, each for what it adds to those chosen before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from memshare_jupyter.information._codes import information_given, information_with
from memshare_jupyter.information._ties import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

Method = Literal["top", "mrmr", "jmi", "cmim"]

#: Bins of a variable: a table of two has 16 x 16 cells, one of two and 32 classes 8 x 8 x 32.
BINS: Final[Mapping[Method, int]] = {"mrmr": 16, "jmi": 8, "cmim": 8}


@dataclass(frozen=True, slots=True, eq=False)
class With:
    """A pass over the codes of all features, in batches: what each has with one code."""

    other: NDArray[np.intp]
    levels: int

    def __call__(self, codes: NDArray[np.uint8]) -> NDArray[np.float64]:
        return information_with(codes, self.other, self.levels)


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A pass over the codes of all features: what each has with the label, given one code."""

    label: NDArray[np.intp]
    classes: int
    given: NDArray[np.intp]
    levels: int

    def __call__(self, codes: NDArray[np.uint8]) -> NDArray[np.float64]:
        return information_given(codes, self.label, self.classes, self.given, self.levels)


Pass = With | Given


def chosen_stepwise(
    method: Method,
    k: int,
    label: NDArray[np.intp],
    code_of: Callable[[int], NDArray[np.uint8]],
    over_all: Callable[[Pass], NDArray[np.float64]],
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Choose k features; the first is the one that tells most about the label.

    Parameters
    ----------
    method : {"mrmr", "jmi", "cmim"}
        What a further feature x is chosen for, with the label y and those chosen before, s:
        "mrmr" ``I(x; y) - mean_s(I(x; s))`` [1]_; "jmi" ``sum_s(I(x; y | s))`` [2]_, which is the
        joint information but for what is the same for all x; "cmim" ``min_s(I(x; y | s))`` [3]_.
    k : int
        How many.
    label : ndarray of shape (n_samples,), int
        Codes of y.
    code_of : callable
        Gives the codes of a feature.
    over_all : callable
        Makes a pass over the codes of all features, here or on engines.

    Returns
    -------
    chosen, scores : ndarray of shape (k,)
        Features in the order of their choice, and what each was chosen for; of equal ones the
        first in X.
    relevance : ndarray of shape (n_features,)
        ``I(x; y)`` of all.

    References
    ----------
    .. [1] H. Peng, F. Long, C. Ding, "Feature selection based on mutual information: criteria of
       max-dependency, max-relevance, and min-redundancy", IEEE Transactions on Pattern Analysis
       and Machine Intelligence 27:1226-1238, 2005. :doi:`10.1109/TPAMI.2005.159`
    .. [2] H. H. Yang, J. Moody, "Data visualization and feature selection: new algorithms for
       nongaussian data", Advances in Neural Information Processing Systems 12:687-693, 1999.
    .. [3] F. Fleuret, "Fast binary feature selection with conditional mutual information",
       Journal of Machine Learning Research 5:1531-1555, 2004.
    """
    classes = int(label.max(initial=0)) + 1
    relevance = over_all(With(label, classes))
    k = min(k, relevance.size)
    chosen = np.empty(k, dtype=np.intp)
    scores = np.empty(k)
    total = np.zeros(relevance.size)
    least = relevance.copy()
    score = relevance.copy()
    for step in range(k):
        best = int(np.argmax(score >= score.max() - TOLERANCE))
        chosen[step], scores[step] = best, score[best]
        if step == k - 1:
            break
        given = code_of(best).astype(np.intp)
        levels = int(given.max(initial=0)) + 1
        if method == "mrmr":
            total += over_all(With(given, levels))
            score = relevance - total / (step + 1)
        else:
            added = over_all(Given(label, classes, given, levels))
            total += added
            np.minimum(least, added, out=least)
            score = total.copy() if method == "jmi" else least.copy()
        score[chosen[: step + 1]] = -np.inf
    return chosen, scores, relevance
