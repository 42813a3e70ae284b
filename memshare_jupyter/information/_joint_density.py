"""The smoothed joint density of two variables on 512 x 512 cells.

Penalised smoothing along both axes, then convolution with a normal kernel along both: four
products with 512 x 512 matrices. But the kernel is smooth: of its 1,024 Fourier modes only some
130 (at a radius of 20 cells) are above rounding, and with these the products are thin. The modes
are even or odd about the grid's middle, so half of the rows give the other half.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from memshare_jupyter.information._smoothing import GRID_POINTS, smoothed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Strength of the smoother: a quarter of the number of bins.
_STRENGTH: Final = GRID_POINTS / 4
_PERIOD: Final = 2 * GRID_POINTS  # no lag of the kernel meets another one
_HALF: Final = GRID_POINTS // 2
_ROWS: Final = 32  # of a part of the table
_FEW_SAMPLES: Final = 2500  # with more, products with the table of counts are faster
# Modes left out add up to less than this share of the kernel's maximum.
_LEFT_OUT: Final = 1e-14
_MOST_MODES: Final = 400  # with more, products of whole matrices are as fast


class JointDensity:
    """Shares of the cells after smoothing the counts of samples; radii are in cells.

    `cell_x` and `cell_y` are where the samples are. The shares have sum 1 before the convolution,
    without the last row and column; what that moves over the border of the grid is lost.

    Attributes
    ----------
    of_x, of_y : ndarray of shape (512,)
        Sums of rows and of columns.
    """

    def __init__(
        self,
        cell_x: NDArray[np.intp],
        cell_y: NDArray[np.intp],
        radius_x: float,
        radius_y: float,
    ) -> None:
        total = float(_all_but_last()[cell_x] @ _all_but_last()[cell_y])
        in_x, in_y = _modes(radius_x), _modes(radius_y)
        self._whole = None
        if in_x is None or in_y is None:
            # The smoother is symmetric: instead of the rows of the table, which lie across the
            # memory, it smooths the kernel they are convolved with.
            across = smoothed(gaussian_convolution(radius_y).T, _STRENGTH)
            self._whole = gaussian_convolution(radius_x)
            self._right = (smoothed(_table(cell_x, cell_y), _STRENGTH) / total) @ across
            self.of_x = self._whole @ self._right.sum(axis=1)
            self.of_y = self._whole.sum(axis=0) @ self._right
            return
        waves, smooth = _waves()
        outer_y = np.vstack([waves[parity, : in_y.size] * in_y[:, None] for parity in (0, 1)])
        self._halves = []
        for parity, core in enumerate(_cores(cell_x, cell_y, smooth, in_x.size, in_y.size)):
            left = (waves[parity, : in_x.size, :_HALF] * in_x[:, None]).T
            self._halves.append((left, (core / total) @ outer_y))
        even, odd = (left @ right.sum(axis=1) for left, right in self._halves)
        self.of_x = np.concatenate([even + odd, (even - odd)[::-1]])
        # Odd modes have no sum over all rows.
        left, right = self._halves[0]
        self.of_y = 2.0 * left.sum(axis=0) @ right

    def parts(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Yield the table in parts of some rows, which stay in the cache while they are used."""
        if self._whole is not None:
            for start in range(0, GRID_POINTS, _ROWS):
                rows = slice(start, start + _ROWS)
                yield rows, self._whole[rows] @ self._right
            return
        (even, right_even), (odd, right_odd) = self._halves
        for start in range(0, _HALF, _ROWS):
            stop = start + _ROWS
            symmetric, rest = even[start:stop] @ right_even, odd[start:stop] @ right_odd
            yield slice(start, stop), symmetric + rest
            symmetric -= rest
            yield slice(GRID_POINTS - stop, GRID_POINTS - start), symmetric[::-1]


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
    """Return the weights of the convolution's slowest modes, up to where they no longer count.

    None if there are too many: a narrow kernel, or one so wide that its window cuts it off.
    """
    weights = _weights(radius)
    around = np.zeros(_PERIOD)
    around[np.arange(-255, 257)] = weights
    # Real but for the one tap more on the right, which counts only where the window cuts it off.
    spectrum = np.fft.rfft(around)[:-1] / GRID_POINTS
    left_out = np.cumsum(np.abs(spectrum[::-1]))[::-1]
    modes = int(np.count_nonzero(left_out > _LEFT_OUT * weights.max()))
    if 2 * modes > _MOST_MODES:
        return None
    strengths = spectrum.real[:modes].copy()
    strengths[0] /= 2.0  # the constant mode has no partner of negative frequency
    return strengths


def _cores(
    cell_x: NDArray[np.intp],
    cell_y: NDArray[np.intp],
    smooth: NDArray[np.float64],
    modes_x: int,
    modes_y: int,
) -> Iterator[NDArray[np.float64]]:
    """Yield the smoothed counts in modes: even and odd ones of x, with those of y side by side."""
    in_x, in_y = smooth[:, :modes_x, :_HALF], smooth[:, :modes_y]
    both_y = in_y.reshape(-1, GRID_POINTS).T
    few = cell_x.size <= _FEW_SAMPLES
    if few:  # their modes of y summed for each cell of x, which has few or none of them
        order = np.argsort(cell_x)
        starts = np.flatnonzero(np.diff(cell_x[order], prepend=-1))
        counts = np.zeros((GRID_POINTS, both_y.shape[1]))
        counts[cell_x[order[starts]]] = np.add.reduceat(both_y[cell_y[order]], starts)
    else:
        counts = _table(cell_x, cell_y)
    top, bottom = counts[:_HALF], counts[: _HALF - 1 : -1]
    yield from (
        part @ folded if few else part @ folded @ both_y
        for part, folded in ((in_x[0], top + bottom), (in_x[1], top - bottom))
    )


def _table(cell_x: NDArray[np.intp], cell_y: NDArray[np.intp]) -> NDArray[np.float64]:
    counts = np.bincount(cell_x * GRID_POINTS + cell_y, minlength=GRID_POINTS**2)
    return counts.astype(np.float64).reshape(GRID_POINTS, GRID_POINTS)


@lru_cache(maxsize=1)
def _waves() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines about the middle of the grid, and the same smoothed; 3 MB.

    Of shape (2, modes, 512). ``cos(t (i - j)) = cos(t i) cos(t j) + sin(t i) sin(t j)``.
    """
    from_middle = np.arange(GRID_POINTS) - (GRID_POINTS - 1) / 2
    turns = np.outer(np.arange(_MOST_MODES // 2), from_middle) / _PERIOD
    waves = np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)])
    smooth = smoothed(waves.reshape(-1, GRID_POINTS).T, _STRENGTH).T.reshape(waves.shape)
    return waves, np.ascontiguousarray(smooth)


@lru_cache(maxsize=1)
def _all_but_last() -> NDArray[np.float64]:
    """Weights of counts whose sum is that of the smoothed counts without the last cell."""
    ones = np.ones((GRID_POINTS, 1))
    ones[-1] = 0.0
    return smoothed(ones, _STRENGTH)[:, 0]
