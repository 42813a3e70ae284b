"""Mutual information in nats from what the estimators see: cells, labels and weights.

Written in probabilities of cells, so no unit of the data is left: a density and a cell's width
meet only in the thresholds below which a density counts as zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from memshare_jupyter.information._joint_density import JointDensity
from memshare_jupyter.information._null_bias import without_bias
from memshare_jupyter.information._smoothing import GRID_POINTS, smoothed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memshare_jupyter.information._density import Gridded

# The smoother's strength is a quarter of the number of bins, for which the reference takes the
# number of different values up to this.
MOST_BINS: Final = 250
_TINY: Final = 1e-300


@np.errstate(under="ignore")
def two_continuous(x: Gridded, y: Gridded, eps: float) -> float:
    """Mutual information of two continuous variables by their joint Pareto density.

    Cells whose density is not above ``2 * eps`` per area of the unit of `width` add nothing.
    """
    joint = JointDensity(x.cell, y.cell, x.radius, y.radius)
    # Convolution loses what it moves over the border of the grid, so the total is a little below
    # 1, which adds about -log(total). The reference's values have that in them, and so do these;
    # but zeros at the lower end lose a sixth of their mass, and that is made good.
    total = float(joint.of_x.sum()) if x.mostly_tied or y.mostly_tied else 1.0
    least = 2 * eps * x.width * y.width
    log_x, log_y = _log(joint.of_x / total), _log(joint.of_y / total)
    found = 0.0
    for rows, shares in joint.parts():
        part = shares if total == 1.0 else shares / total
        logarithm = part
        if part.min() <= least:  # near the border of the grid only
            part = part * (part > least)
            logarithm = np.maximum(part, _TINY)
        logarithm = np.log(logarithm)
        found += float(np.vdot(part, logarithm))
        found -= float(part.sum(axis=1) @ log_x[rows]) + float(part.sum(axis=0) @ log_y)
    return found


def continuous_discrete(
    tables: NDArray[np.float64],
    distinct: int,
    widths: NDArray[np.float64],
    mostly_tied: NDArray[np.bool_],
    weights: NDArray[np.float64],
    eps: float,
    *,
    bias_correction: bool = False,
) -> NDArray[np.float64]:
    """Mutual information of continuous variables and a label by the density in each class.

    Parameters
    ----------
    tables : ndarray of shape (512, n_variables, n_classes), float64
        Counts of cells and classes.
    distinct : int
        Different values of each variable; above 250 as good as 250.
    widths : ndarray of shape (n_variables,), float64
        Of a cell of each variable, in standard deviations.
    mostly_tied : ndarray of shape (n_variables,), bool
        Whether more pairs of each variable are tied than its radius leaves room for.
    weights : ndarray of shape (n_classes,), float64
        Share of each class.
    eps : float
        Densities up to this, per standard deviation, add nothing.
    bias_correction : bool, default: False
        Correct by what independence alone would give; see `without_bias`.

    Returns
    -------
    ndarray of shape (n_variables,), float64

    Notes
    -----
    ``sum_c(w_c * sum_i(g_ic * log(g_ic / p_i)))`` with the class's share of its own mass in cell
    i, ``g_ic = f_ic / s_c``, and of all mass, p_i. The reference divides p and the classes'
    densities by the mass without its last row, and then the latter by their own; p is kept so,
    which lowers the result by -log(1 - p_511). Of a variable that is tied at its upper end, as
    values capped by a limit of detection are, that would be nearly all: it is made good.
    """
    strength = min(distinct, MOST_BINS) / 4
    density = smoothed(tables.reshape(GRID_POINTS, -1), strength).reshape(tables.shape)
    mass = density.sum(axis=0)
    overall = density.sum(axis=2)
    mixture = mostly_tied | bias_correction
    overall /= np.where(mixture, overall.sum(axis=0), overall[:-1].sum(axis=0))
    # Columns of classes from here on; the total is that of all rows.
    density[density <= eps * widths[:, None] * mass] = 0.0
    present = density.sum(axis=0)
    terms = _log(density)
    terms *= density
    own = terms.sum(axis=0) - present * np.log(mass)
    shared = np.einsum("ij,ijc->jc", _log(overall), density)
    found: NDArray[np.float64] = ((own - shared) / mass) @ weights
    if bias_correction:
        return without_bias(found, tables.sum(axis=2), tables[:, 0].sum(axis=0), strength)
    return found


def two_discrete(x: NDArray[np.intp], y: NDArray[np.intp]) -> float:
    """Plug-in mutual information of two variables given as codes 0, 1, ...; O(n log n)."""
    n = x.size
    _, pair, count = np.unique(x * (y.max() + 1) + y, return_index=True, return_counts=True)
    in_x, in_y = np.bincount(x)[x[pair]], np.bincount(y)[y[pair]]
    return float((count / n * np.log(count / in_x * (n / in_y))).sum())


def entropy(counts: NDArray[np.intp]) -> float:
    """Entropy in nats of a label, from how often each of its values occurs."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return -float(shares @ np.log(shares))


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm, and a finite number where there is none: for terms p log p with p = 0."""
    found = np.maximum(values, _TINY)
    return np.log(found, out=found)
