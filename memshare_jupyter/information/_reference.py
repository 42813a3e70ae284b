"""The reference's own numbers: R memshare 1.0.3.1, with its units, faults, errors and warnings.

Only what differs from ours is written here: the checks, the radius and the grid in the unit of
the data, the weights, and the table of two discrete variables. The estimates from cells are
shared. Errors and warnings carry R's words, so that a result can be compared with a log of R's.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Final

import numpy as np

from memshare_jupyter.information._density import (
    PARETO_SHARE,
    Gridded,
    bisected,
    large_sample_factor,
)
from memshare_jupyter.information._estimates import continuous_discrete, two_continuous
from memshare_jupyter.information._kernel_mi import (
    epanechnikov,
    kernel_mutualinfo,
    normal_scale,
    plug_in_bandwidth,
)
from memshare_jupyter.information._pair_distances import PairDistances
from memshare_jupyter.information._smoothing import GRID_POINTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEWEST_ROWS: Final = 3


def reference_mutualinfo(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    x_discrete: bool,
    y_discrete: bool,
    eps: float,
    na_rm: bool,
    use_mpmi: bool = False,
    radii: tuple[float | None, float | None] = (None, None),
) -> float:
    """Mutual information as R memshare gives it: in nats, but in bits if both are discrete.

    Parameters
    ----------
    x, y : ndarray of shape (n_samples,), float64
    x_discrete, y_discrete, eps, na_rm, use_mpmi
        As in `mutualinfo`; with `use_mpmi` the reference takes both variables as continuous.
    radii : pair of float or None
        Pareto radii of x and y to use in place of our own. Above 10,000 values R takes
        the radius of 10,000 draws from its random stream, which nobody else can repeat; a test
        that knows what R drew feeds it in here. Without, all values are used: the number
        that R's scatters about.
    """
    if x.size != y.size:
        raise ValueError("mutualinfo: x and y have to be of the same length")
    if na_rm:
        kept = np.isfinite(x) & np.isfinite(y)
        x, y = x[kept], y[kept]
    if x.size < _FEWEST_ROWS or _sd(x) < eps or _sd(y) < eps:
        return 0.0
    if use_mpmi:
        in_x, in_y = epanechnikov(x, _bandwidth(x)), epanechnikov(y, _bandwidth(y))
        return kernel_mutualinfo(in_x, in_y, x.size)
    if x_discrete and y_discrete:
        return _two_discrete_in_bits(x, y)
    if x_discrete:
        x, y, radii = y, x, radii[::-1]
    one_discrete = x_discrete or y_discrete
    radius_x = _radius(x) if radii[0] is None else radii[0]
    radius_y = 0.0 if one_discrete else _radius(y) if radii[1] is None else radii[1]
    if math.isnan(radius_x) or math.isnan(radius_y):
        warnings.warn("the Pareto radius is NaN", RuntimeWarning, stacklevel=3)
        return 0.0
    if one_discrete:
        return _continuous_discrete(x, y, radius_x, eps)
    return two_continuous(_on_grid(x, radius_x), _on_grid(y, radius_y), eps)


def _sd(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    if known.size < 2 or not np.isfinite(known).all():
        raise ValueError("missing value where TRUE/FALSE needed")
    return float(known.std(ddof=1))


def _radius(values: NDArray[np.float64]) -> float:
    """Return the radius in the unit of the data, with the reference's absolute tolerance."""
    ordered = np.sort(values[np.isfinite(values)])
    n = ordered.size
    span = float(ordered[-1] - ordered[0])
    if span == 0.0:
        return math.nan
    distances = PairDistances(ordered)
    quantile = distances.kth(int(PARETO_SHARE * distances.number))
    return bisected(quantile, span, 1.0) * large_sample_factor(n)


def _bandwidth(values: NDArray[np.float64]) -> float:
    if not np.isfinite(values).all():
        raise ValueError(
            "Error in seq.default(a, b, length = M) : 'from' must be a finite number\n"
        )
    scale = normal_scale(values)
    if scale == 0.0:
        warnings.warn(
            "Using standard deviation as scale estimate, probably because IQR == 0",
            RuntimeWarning,
            stacklevel=4,
        )
        scale = float(values.std(ddof=1))
    return plug_in_bandwidth(values, scale)


def _on_grid(values: NDArray[np.float64], radius: float) -> Gridded:
    if not np.isfinite(values).all():
        raise ValueError("'from' must be a finite number")
    start, stop = values.min() - radius, values.max() + radius
    # A value in the middle between two centres is put up or down by the rounding of these two
    # lines, which is R's.
    centres = start + np.arange(GRID_POINTS) * ((stop - start) / (GRID_POINTS - 1))
    borders = 0.5 * (centres[1:] + centres[:-1])
    width = float(np.diff(centres).mean())
    cell = np.searchsorted(borders, values, side="right")
    return Gridded(cell, radius / width, width, np.unique(values).size)


def _continuous_discrete(
    x: NDArray[np.float64], y: NDArray[np.float64], radius: float, eps: float
) -> float:
    gridded = _on_grid(x, radius)
    labelled = np.isfinite(y)
    _, code, count = np.unique(y[labelled], return_inverse=True, return_counts=True)
    flat = gridded.cell[labelled] * count.size + code
    table = np.bincount(flat, minlength=GRID_POINTS * count.size).astype(np.float64)
    table = table.reshape(GRID_POINTS, 1, count.size)
    width, tied = np.array([gridded.width]), np.array([False])
    # Rows without a label lower the sum of the weights below 1.
    return float(continuous_discrete(table, gridded.distinct, width, tied, count / y.size, eps)[0])


def _two_discrete_in_bits(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the plug-in estimate, in bits, of the table that the reference builds by mistake.

    With K levels of x and M of y the pair (i, j), from 1, is counted in cell (i-1)(M-1) + j of a
    table that has (K-1)(M-1) of them and M-1 rows; what lies beyond is dropped.
    """
    n = x.size
    known = np.isfinite(x) & np.isfinite(y)
    x_levels, i = np.unique(x[known], return_inverse=True)
    y_levels, j = np.unique(y[known], return_inverse=True)
    rows, columns = y_levels.size - 1, x_levels.size - 1
    for name in "xy":
        warnings.warn(
            f"fast_table_num: {name} counts outside of bins.", RuntimeWarning, stacklevel=4
        )
    flat = i * rows + j
    counts = np.bincount(flat[flat < rows * columns], minlength=rows * columns)
    shares = counts.reshape(columns, rows) / n
    expected = shares.sum(axis=1, keepdims=True) * shares.sum(axis=0)
    present = shares > 0
    return float((shares[present] * np.log2(shares[present] / expected[present])).sum())
