"""Mutual information in nats from what the estimators see: cells, labels and weights.

Written in probabilities of cells, so no unit of the data is left: a density and a cell's width
meet only in the thresholds below which a density counts as zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ._smoothing import GRID_POINTS, gaussian_convolution, smoothed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .density import Gridded

# Strength of the smoother: a quarter of the number of bins. The reference passes 512 bins for
# two continuous variables, and for one the number of different values up to 250.
JOINT_STRENGTH: Final = GRID_POINTS / 4
_MOST_BINS: Final = 250


def two_continuous(x: Gridded, y: Gridded, eps: float) -> float:
    """Mutual information of two continuous variables by their joint Pareto density.

    Cells whose density is not above ``2 * eps`` per area of the unit of `width` add nothing.
    """
    flat = x.cell * GRID_POINTS + y.cell
    joint = np.bincount(flat, minlength=GRID_POINTS**2).astype(np.float64)
    joint = joint.reshape(GRID_POINTS, GRID_POINTS)
    joint = smoothed(smoothed(joint, JOINT_STRENGTH).T, JOINT_STRENGTH).T
    joint /= joint[:-1, :-1].sum()
    joint = gaussian_convolution(x.radius) @ joint @ gaussian_convolution(y.radius).T
    # Convolution loses what it moves over the border of the grid, so the total is a little below
    # 1, which adds about -log(total). The reference's values have that in them, and so do these;
    # but zeros at the lower end lose a sixth of their mass, and that is made good.
    if x.mostly_tied or y.mostly_tied:
        joint /= joint.sum()
    log_x, log_y = _log(joint.sum(axis=1)), _log(joint.sum(axis=0))
    joint[joint <= 2 * eps * x.width * y.width] = 0.0
    independent = joint.sum(axis=1) @ log_x + joint.sum(axis=0) @ log_y
    return float((joint * _log(joint)).sum() - independent)


def continuous_discrete(
    x: Gridded,
    table: NDArray[np.float64],
    weights: NDArray[np.float64],
    eps: float,
) -> float:
    """Mutual information of a continuous variable and a label by the density in each class.

    Parameters
    ----------
    x : Gridded
        The continuous variable; its cells are in `table`.
    table : ndarray of shape (512, n_classes), float64
        Counts of cells and classes.
    weights : ndarray of shape (n_classes,), float64
        Share of each class.
    eps : float
        Densities up to this, per unit of `width`, add nothing.
    """
    density = smoothed(table, min(x.distinct, _MOST_BINS) / 4)
    density /= density[:-1].sum()
    overall = density.sum(axis=1)
    density /= density.sum(axis=0)
    density[density <= eps * x.width] = 0.0
    terms = density * _log(density)
    return float(weights @ (terms.sum(axis=0) - _log(overall) @ density))


def two_discrete(x: NDArray[np.intp], y: NDArray[np.intp]) -> float:
    """Plug-in mutual information of two variables given as codes 0, 1, ...; O(n log n)."""
    n = x.size
    _, pair, count = np.unique(x * (y.max() + 1) + y, return_index=True, return_counts=True)
    in_x, in_y = np.bincount(x)[x[pair]], np.bincount(y)[y[pair]]
    return float((count / n * np.log(count / in_x * (n / in_y))).sum())


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm, and 0 where there is none: for terms p log p, which are 0 there."""
    return np.log(values, where=values > 0, out=np.zeros_like(values))
