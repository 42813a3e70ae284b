"""Pareto density estimation: its radius and its grid.

A variable is first mapped to the unit interval, in steps of 2**-40 of its range. From
there on its unit and its origin are forgotten, so nothing that follows can depend on them, and
distances between values are exact numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from memshare_jupyter.information._pair_distances import PairDistances
from memshare_jupyter.information._smoothing import GRID_POINTS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Ultsch 2005: neighbourhoods that hold a fifth of the data on average keep most information about
# a density for their size (the Pareto 80/20 rule). The reference takes this share of distances.
PARETO_SHARE: Final = 0.18
# The radius of n values shrinks as n**(-1/5), the rate of a kernel's best bandwidth
# (Silverman 1986, section 3.4.2), once n is over 1,024 = 4**5, where the factor is 1.
LARGE_SAMPLE: Final = 1024
# Steps of the unit interval: fine against the grid and the tolerance below, coarse against the
# rounding of values up to 4,096 times their own range away from zero.
_STEP: Final = 2.0**-40
# Below it a step is no normal number.
_SMALLEST_RANGE: Final = 2.0**-980
# The radius is rounded up to a binary fraction of the range, finer than this tolerance.
_RADIUS_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Gridded:
    """One continuous variable on its grid of 512 cells: all that the estimators use of it."""

    cell: NDArray[np.intp]  # of each value, 0 to 511
    radius: float  # Pareto radius, in cells
    width: float  # of a cell, in standard deviations
    distinct: int  # different values
    mostly_tied: bool = False  # more tied pairs than the radius leaves room for


def pareto_radius(values: ArrayLike) -> float:
    """Radius of the neighbourhoods of Pareto density estimation.

    Parameters
    ----------
    values : array_like of shape (n_samples,)
        Real numbers; those that are not finite are left out.

    Returns
    -------
    float
        In the unit of the values. NaN for fewer than two different values.

    Notes
    -----
    The radius is the 18 % quantile of all ``m = n * (n - 1) / 2`` distances between two values
    (the one of rank ``floor(0.18 * m)``, counted from 0), times ``4 / n**0.2`` when n is over
    1,024 [1]_. It is rounded up by less than 1e-9 of itself and the standard deviation, as the
    reference does with 1e-9 of itself and 1.

    When more than 18 % of the pairs are tied, as in counts with many zeros, that quantile is
    0 and no neighbourhood. The radius is then the first of the 19, 20, ... 100 % quantiles that is
    not 0. So the reference means it, but its search for a quantile of 0 ends at about 1e-9 and it
    never gets there. (The 18 % quantile of the positive distances, which does not come near
    0 when one more percent of the pairs is about to be tied, was tried: it is many times as wide,
    and of a half-censored normal pair with correlation 0.6 it left 0.079 of 0.177 nats, not 0.101.)

    All values count, however many: the reference draws 10,000 at random from more.
    Takes O(n log n) time and O(n) memory.

    References
    ----------
    .. [1] A. Ultsch, "Pareto density estimation: a density estimation for knowledge
       discovery", in D. Baier and K.-D. Wernecke (eds.), Innovations in Classification, Data
       Science, and Information Systems, Springer 2005, pp. 91-100.
       :doi:`10.1007/3-540-26981-9_12`

    Examples
    --------
    >>> import numpy as np
    >>> round(pareto_radius(np.arange(101.0)), 6)
    10.0
    >>> round(pareto_radius([0, 0, 0, 0, 0, 0, 1, 2, 4]), 6)
    1.0
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if found.size < 2 or found.min() == found.max():
        return float("nan")
    unit, spread, length = to_unit_interval(found)
    radius, _ = _unit_radius(PairDistances(np.sort(unit)), spread)
    return radius * length


def pareto_density(
    values: ArrayLike, points: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pareto density estimate of one variable: the share of values within one Pareto radius.

    Parameters
    ----------
    values : array_like of shape (n_samples,)
        Real numbers; those that are not finite are left out. At least two different ones.
    points : array_like of shape (n_points,), optional
        Where to estimate; 512 points over the data and one radius beyond if not given.

    Returns
    -------
    points, density : ndarray of shape (n_points,), float64
        Densities are per unit of the values and have integral 1 over the whole line.

    Notes
    -----
    O(n log n) time. See `pareto_radius` for the radius and the reference.

    Examples
    --------
    >>> import numpy as np
    >>> points, density = pareto_density(np.random.default_rng(0).normal(size=10_000), [0.0])
    >>> round(float(density[0]), 2)  # the truth is 0.399
    0.38
    """
    found = np.asarray(values, dtype=np.float64)
    found = np.sort(found[np.isfinite(found)])
    radius = pareto_radius(found)
    if math.isnan(radius):
        raise ValueError("a density needs two different finite values; there is only one or none")
    if points is None:
        points = np.linspace(found[0] - radius, found[-1] + radius, GRID_POINTS)
    at = np.asarray(points, dtype=np.float64)
    inside = np.searchsorted(found, at + radius, side="right")
    inside -= np.searchsorted(found, at - radius, side="left")
    return at, inside / (2.0 * radius * found.size)


def to_unit_interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
    """Map finite values, not all equal, to [0, 1] in steps of 2**-40.

    Also return their new s.d. and the length of their range. Values that differ by a factor and a
    shift are mapped alike bit for bit, unless rounding moved one across the middle of a step.
    """
    low, high = float(values.min()), float(values.max())
    scale = 1.0
    if not math.isfinite(high - low):
        scale = 0.25
    elif high - low < _SMALLEST_RANGE:
        scale = 2.0**1000
    if scale != 1.0:
        values, low, high = values * scale, low * scale, high * scale
    unit = values - low
    unit /= (high - low) * _STEP
    np.rint(unit, out=unit)
    unit *= _STEP
    # Not `unit @ unit`: BLAS gives a product of over 10,000 numbers to threads, and on a busy
    # machine to wait for them takes longer than all else here.
    square = float(np.einsum("i,i->", unit, unit)) - float(unit.sum()) ** 2 / unit.size
    spread = math.sqrt(max(square, 0.0) / (unit.size - 1))
    return unit, spread, (high - low) / scale


def _unit_radius(distances: PairDistances, spread: float) -> tuple[float, bool]:
    """Pareto radius of values on the unit interval, whose s.d. is `spread`.

    Also whether the quantile was 0, because too many pairs are tied.
    """
    rank = int(PARETO_SHARE * distances.number)
    mostly_tied = rank < distances.tied
    if mostly_tied:
        ranks = np.minimum(np.arange(1, 101) * distances.number // 100, distances.number - 1)
        rank = int(ranks[ranks >= distances.tied][0])
    radius = bisected(distances.kth(rank), 1.0, spread)
    return radius * large_sample_factor(distances.ordered.size), mostly_tied


def large_sample_factor(n: int) -> float:
    """Return by how much the radius of n values shrinks."""
    return 4.0 / n**0.2 if n > LARGE_SAMPLE else 1.0


def bisected(quantile: float, span: float, unit: float) -> float:
    """Round a quantile up to the bracket a bisection of ``[0, span]`` ends with.

    The bracket is at most ``1e-9 * (unit + its upper end)`` wide. Mutual information follows the
    radius with an elasticity of up to about a half, so agreement with the reference to 1e-9
    needs its very bracket and not just the exact quantile inside (which is off by up to
    2e-9 on the reference cases).
    """
    low, high = 0.0, span
    while high - low > _RADIUS_TOLERANCE * (unit + high):
        middle = 0.5 * (low + high)
        if middle >= quantile:
            high = middle
        else:
            low = middle
    return high


def is_constant(values: NDArray[np.float64], eps: float) -> bool:
    """Say whether the s.d. of finite values is not above `eps` times the largest absolute one."""
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    # The s.d. is at least the range over sqrt(2 n): most variables need no look at it.
    if high / 2 - low / 2 > eps * largest * math.sqrt(values.size):
        return False
    if low == high:
        return True
    _, spread, length = to_unit_interval(values)
    return spread * (length / largest) <= eps


def on_grid(
    values: NDArray[np.float64], eps: float, order: NDArray[np.intp] | None = None
) -> Gridded | None:
    """Put a continuous variable, of two or more finite values, on its grid of 512 cells.

    The cells' centres are evenly spaced from one Pareto radius below the smallest value to one
    above the largest; a value on the border of two cells belongs to the upper one, except in
    the middle of the range (see `_middle_cell`). None if the variable is constant: its s.d. is
    not above `eps` times its largest absolute value. `order` sorts the values, if it is known.
    """
    if is_constant(values, eps):
        return None
    unit, spread, _ = to_unit_interval(values)
    distances = PairDistances(np.sort(unit) if order is None else unit[order])
    radius, mostly_tied = _unit_radius(distances, spread)
    step = (1.0 + 2.0 * radius) / (GRID_POINTS - 1)
    place = unit + radius
    place /= step
    place += 0.5
    cell = place.astype(np.intp)
    middle = _middle_cell(distances.ordered)
    if middle is not None:
        cell[unit == 0.5] = middle
    return Gridded(cell, radius / step, step / spread, distances.values.size, mostly_tied)


def _middle_cell(ordered: NDArray[np.float64]) -> int | None:
    """Cell, 255 or 256, of values exactly in the middle of the range; None if there is none.

    They lie on a border whatever the radius, and rounded data and counts often have many
    such values. The reference means the upper cell, but the rounding of its grid points decides,
    and the result moves by 1e-4 of itself. Not to depend on rounding, and so on scale and shift,
    they join the more frequent one of the next smaller and next larger value, or the upper cell
    if these are equal. (The reference has them there in its stored results on rounded data.)
    """
    start = int(np.searchsorted(ordered, 0.5))
    if ordered[start] != 0.5:
        return None
    stop = int(np.searchsorted(ordered, 0.5, side="right"))
    below = start - np.searchsorted(ordered, ordered[start - 1])
    above = np.searchsorted(ordered, ordered[stop], side="right") - stop
    return 255 if below > above else 256
