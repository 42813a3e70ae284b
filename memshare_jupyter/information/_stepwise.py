"""Features chosen one after the other, each for what it adds to those chosen before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from memshare_jupyter.information._codes import (
    information_by_copula,
    information_given,
    information_with,
    scores_of,
)
from memshare_jupyter.information._ties import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from memshare_jupyter.information._codes import QuantileCodes

Method = Literal["top", "mrmr", "jmi", "cmim"]
Redundancy = Literal["bins", "copula"]

#: Bins of a variable: a table of two has 16 x 16 cells, one of two and 32 classes 8 x 8 x 32.
BINS: Final[Mapping[Method, int]] = {"mrmr": 16, "jmi": 8, "cmim": 8}
#: For normal scores: as many as fit into a byte, which loses 0.1 % of their variance.
COPULA_BINS: Final = 256


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


@dataclass(frozen=True, slots=True, eq=False)
class Copula:
    """A pass over codes of 256 bins: what a normal copula of each and one variable tells."""

    scores: NDArray[np.float64]

    def __call__(self, codes: NDArray[np.uint8]) -> NDArray[np.float64]:
        return information_by_copula(codes, self.scores)


Pass = With | Given | Copula


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """Makes the pass that says what all features tell beside one that has these codes.

    Parameters
    ----------
    method : {"mrmr", "jmi", "cmim"}
        Of the choice: with the one ("mrmr"), or about the label given the one.
    redundancy : {"bins", "copula"}
        How "mrmr" estimates it.
    label : ndarray of shape (n_samples,), int
        Codes of y.
    classes : int
        How many.
    """

    method: Method
    redundancy: Redundancy
    label: NDArray[np.intp]
    classes: int

    def __call__(self, code: NDArray[np.uint8]) -> Pass:
        if self.redundancy == "copula":
            return Copula(scores_of(code))
        other = code.astype(np.intp)
        levels = int(other.max(initial=0)) + 1
        if self.method == "mrmr":
            return With(other, levels)
        return Given(self.label, self.classes, other, levels)


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """What each column of a block tells about a label, by its codes."""

    coded: QuantileCodes
    label: NDArray[np.intp]
    classes: int

    def __call__(self, block: NDArray[np.float64], first: int = 0) -> NDArray[np.float64]:
        return information_with(self.coded(block, first), self.label, self.classes)


def chosen_stepwise(
    method: Method,
    k: int,
    relevance: NDArray[np.float64],
    beside: Callable[[int], NDArray[np.float64]],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Choose k features; the first is the one that tells most about the label.

    Parameters
    ----------
    method : {"mrmr", "jmi", "cmim"}
        What a further feature x is chosen for, with the label y and those chosen before, s:
        "mrmr" ``I(x; y) - mean_s(I(x; s))`` [1]_; "jmi" ``sum_s(I(x; y | s))`` [2]_, which is the
        joint information but for what is the same for all x; "cmim" ``min_s(I(x; y | s))`` [3]_.
    k : int
        How many.
    relevance : ndarray of shape (n_features,)
        ``I(x; y)`` of all.
    beside : callable
        Gives ``I(x; s)`` for "mrmr", else ``I(x; y | s)``, of all x for the number of s.

    Returns
    -------
    chosen, scores : ndarray of shape (k,)
        Features in the order of their choice, and what each was chosen for; of equal ones the
        first in X.

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
        added = beside(best)
        total += added
        if method == "mrmr":
            score = relevance - total / (step + 1)
        elif method == "jmi":
            score = total.copy()
        else:
            np.minimum(least, added, out=least)
            score = least.copy()
        score[chosen[: step + 1]] = -np.inf
    return chosen, scores
