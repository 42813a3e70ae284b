"""Normal scores: ranks as quantiles of the normal distribution, so that no scale is left."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from memshare_jupyter.information._density import Gridded, is_constant, on_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memshare_jupyter.information._options import Options


def normal_scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace each of n finite values by the normal quantile of its rank over ``n + 1``.

    Equal values share the mean of their ranks, so ties stay ties. O(n log n) time.

    Examples
    --------
    >>> normal_scores(np.array([1.0, 1000.0, 10.0])).round(3)
    array([-0.674,  0.674,  0.   ])
    """
    return _scores(*_ranked(values))


def grid_of(values: NDArray[np.float64], options: Options) -> Gridded | None:
    """Put a variable, or its normal scores, on its grid of 512 cells; None if it is constant."""
    if options.transform is None:
        return on_grid(values, options.eps)
    if is_constant(values, options.eps):
        return None
    order, ends = _ranked(values)
    if ends is not None:
        return on_grid(_scores(order, ends), options.eps, order)
    # All variables of n different values have the same scores in another order.
    common = _grid_of_quantiles(values.size, options.eps)
    cell = np.empty_like(common.cell)
    cell[order] = common.cell
    return Gridded(cell, common.radius, common.width, common.distinct)


def _ranked(values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp] | None]:
    """Return the order of values, and where groups of equal ones end in it; None without any."""
    order = np.argsort(values)
    steps = np.diff(values[order]) > 0
    return order, None if steps.all() else np.append(np.flatnonzero(steps) + 1, values.size)


def _scores(order: NDArray[np.intp], ends: NDArray[np.intp] | None) -> NDArray[np.float64]:
    scores = np.empty(order.size)
    if ends is None:
        scores[order] = _quantiles(order.size)
        return scores
    starts = np.concatenate(([0], ends[:-1]))
    middle = normal_quantile((starts + ends + 1) / 2 / (order.size + 1))
    scores[order] = np.repeat(middle, ends - starts)
    return scores


@lru_cache(maxsize=4)
def _quantiles(n: int) -> NDArray[np.float64]:
    return normal_quantile(np.arange(1, n + 1) / (n + 1))


@lru_cache(maxsize=4)
def _grid_of_quantiles(n: int, eps: float) -> Gridded:
    grid = on_grid(_quantiles(n), eps)
    assert grid is not None  # noqa: S101 - they differ
    return grid


def normal_quantile(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the normal distribution has reached these shares."""
    from scipy.special import ndtri  # noqa: PLC0415 - slow to import

    return np.asarray(ndtri(shares))
