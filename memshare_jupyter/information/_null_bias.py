"""What the class estimate gives when there is nothing to find.

The smoother is linear, so what independence alone produces follows from the histogram of all
samples and the sizes of the classes, without permutations.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from memshare_jupyter.information._smoothing import GRID_POINTS, smoothed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRESENT: Final = 1e-14  # share of a cell from which on it counts
_HALVINGS: Final = 60
_LEAST_LEFT: Final = 1e-3  # share of the entropy that chance must leave for a correction by it


@np.errstate(under="ignore")
def without_bias(
    found: NDArray[np.float64],
    histogram: NDArray[np.float64],
    sizes: NDArray[np.float64],
    strength: float,
) -> NDArray[np.float64]:
    """Correct the mutual information of variables with a label for what chance adds.

    Parameters
    ----------
    found : ndarray of shape (n_variables,), float64
        The estimates in nats, with the mixture of the classes as overall density.
    histogram : ndarray of shape (512, n_variables), float64
        Counts of all samples.
    sizes : ndarray of shape (n_classes,), float64
        Samples of each class.
    strength : float
        Of the smoother.

    Returns
    -------
    ndarray of shape (n_variables,), float64
        ``(found - E0) / (H - E0) * H`` with the expectation E0 under independence and the entropy H
        of the label, as in the adjusted mutual information [1]_: 0 on average when there is
        nothing, and still H when the variable determines the label. 0 where chance can do all.

    References
    ----------
    .. [1] N. X. Vinh, J. Epps, J. Bailey, "Information theoretic measures for clusterings
       comparison", Journal of Machine Learning Research 11:2837-2854, 2010.
    """
    n = sizes.sum()
    shares = sizes[sizes > 0] / n
    entropy = -float(shares @ np.log(shares))
    by_chance = _by_chance(histogram / n, sizes[sizes > 0], strength)
    left = entropy - by_chance
    safe = left > _LEAST_LEFT * entropy
    return np.where(safe, (found - by_chance) / np.where(safe, left, 1.0) * entropy, 0.0)


def _by_chance(
    shares: NDArray[np.float64], sizes: NDArray[np.float64], strength: float
) -> NDArray[np.float64]:
    """Return the expected estimate of variables that have nothing to do with the label.

    A class of n_c samples drawn without replacement has ``v = (n - n_c) / (n_c (n - 1))`` times the
    variance of a class of one. With the smoother S and the smooth density p = S h of the
    shares h, its expected divergence from p is about ``T v / 2`` when v is small, for T effective
    degrees of freedom, ``T = sum((S * S) h / p) - 1`` (Miller and Madow's correction is that of
    an S that does nothing); and it is ``E1 = sum_j(h_j sum_i(S_ij log S_ij)) - sum_i(p_i log p_i)``
    exactly when v = 1. ``a log(1 + T v / (2 a))`` has both limits if a is such that it is E1 at 1.
    """
    squares, entropies = _smoother(strength)
    density = np.maximum(smoothed(shares, strength), 0.0)
    present = density > _PRESENT
    safe = np.where(present, density, 1.0)
    freedom = np.where(present, squares @ shares / safe, 0.0).sum(axis=0) - 1.0
    alone = entropies @ shares - (safe * np.log(safe)).sum(axis=0, where=present)
    half = np.maximum(freedom, 1e-12) / 2.0
    low, high = np.full(half.shape, 1e-6), np.full(half.shape, 1e6)
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        below = middle * np.log1p(half / middle) < alone
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    n = sizes.sum()
    variance = (n - sizes) / (sizes * (n - 1.0))
    bias = high[:, None] * np.log1p(half[:, None] * variance / high[:, None])
    found: NDArray[np.float64] = bias @ (sizes / n)
    return found


@lru_cache(maxsize=8)
def _smoother(strength: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squares of the smoother's matrix, 2 MB, and sums of its p log p by columns."""
    matrix = smoothed(np.eye(GRID_POINTS), strength)
    positive = np.maximum(matrix, 1e-300)
    return matrix**2, (positive * np.log(positive)).sum(axis=0)
