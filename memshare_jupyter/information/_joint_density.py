"""The smoothed joint density of two variables on 512 x 512 cells.

Penalised smoothing along both axes, then convolution with a normal kernel along both: four
products with 512 x 512 matrices. But the kernel is smooth: of its 1,024 Fourier modes only some
130 (at a radius of 20 cells) are above rounding, and with these the products are thin.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from memshare_jupyter.information._smoothing import GRID_POINTS, smoothed

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Strength of the smoother: a quarter of the number of bins.
_STRENGTH: Final = GRID_POINTS / 4
_PERIOD: Final = 2 * GRID_POINTS  # no lag of the kernel meets another one
# Modes left out add up to less than this share of the kernel's maximum.
_LEFT_OUT: Final = 1e-14
_MOST_MODES: Final = 400  # with more, products of whole matrices are as fast


def joint_density(
    counts: NDArray[np.float64], radius_x: float, radius_y: float
) -> NDArray[np.float64]:
    """Smooth counts of shape (512, 512) to the shares of the cells.

    The shares have sum 1 before the convolution, without the last row and column; what that
    moves over the border of the grid is lost. Radii are in cells.
    """
    total = _all_but_last() @ counts @ _all_but_last()
    outer_x, outer_y = _modes(radius_x), _modes(radius_y)
    if outer_x is None or outer_y is None:
        # The smoother is symmetric: instead of the rows of the table, which lie across the memory,
        # it smooths the kernel they are convolved with.
        across = smoothed(gaussian_convolution(radius_y).T, _STRENGTH)
        return gaussian_convolution(radius_x) @ (smoothed(counts, _STRENGTH) / total) @ across
    inner = _waves()[1]
    core = inner[:, : outer_x.shape[1]].T @ counts @ inner[:, : outer_y.shape[1]]
    return outer_x @ (core / total) @ outer_y.T


def gaussian_convolution(radius: float) -> NDArray[np.float64]:
    """Matrix of the convolution along 512 cells with a normal density of this s.d., in cells.

    It reaches from 255 cells to the left to 256 to the right and has sum 1 over that window; what
    it moves over the border of the grid is lost.
    """
    # Row i holds the weights of lags i - j for j = 0..511, so row i + 1 is row i moved on by one:
    # a window sliding over the reversed weights with zeros on either side.
    padded = np.zeros(_PERIOD - 1)
    padded[255 : 255 + 512] = _weights(radius)[::-1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, GRID_POINTS)
    return np.ascontiguousarray(windows[::-1])


def _weights(radius: float) -> NDArray[np.float64]:
    with np.errstate(under="ignore"):
        weights = np.exp(-0.5 * (np.arange(-255, 257) / radius) ** 2)
    weights /= weights.sum()
    return weights


def _modes(radius: float) -> NDArray[np.float64] | None:
    """Return the outer factor of the convolution, whose inner one is the first of `_waves`.

    None if it needs too many modes: a narrow kernel, or one so wide that its window cuts it off.
    """
    weights = _weights(radius)
    around = np.zeros(_PERIOD)
    around[np.arange(-255, 257)] = weights
    spectrum = np.fft.rfft(around)[:-1] / GRID_POINTS
    left_out = np.cumsum(np.abs(spectrum[::-1]))[::-1]
    modes = int(np.count_nonzero(left_out > _LEFT_OUT * weights.max()))
    if 2 * modes > _MOST_MODES:
        return None
    # cos(t (i - j) + p) = cos(t i + p) cos(t j) + sin(t i + p) sin(t j), likewise of t i + p.
    waves = _waves()[0]
    cosines, sines = waves[:, : 2 * modes : 2], waves[:, 1 : 2 * modes : 2]
    real, imaginary = spectrum.real[:modes], spectrum.imag[:modes]
    outer = np.empty((GRID_POINTS, 2 * modes))
    outer[:, ::2] = cosines * real - sines * imaginary
    outer[:, 1::2] = sines * real + cosines * imaginary
    outer[:, 0] /= 2.0  # the constant mode has no partner of negative frequency
    return outer


@lru_cache(maxsize=1)
def _waves() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines of the slowest modes, in turn, and the same smoothed; 3 MB."""
    turns = np.outer(np.arange(GRID_POINTS), np.arange(_MOST_MODES // 2)) / _PERIOD
    waves = np.empty((GRID_POINTS, _MOST_MODES))
    waves[:, ::2], waves[:, 1::2] = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    return waves, np.ascontiguousarray(smoothed(waves, _STRENGTH))


@lru_cache(maxsize=1)
def _all_but_last() -> NDArray[np.float64]:
    """Weights of counts whose sum is that of the smoothed counts without the last cell."""
    ones = np.ones((GRID_POINTS, 1))
    ones[-1] = 0.0
    return smoothed(ones, _STRENGTH)[:, 0]
