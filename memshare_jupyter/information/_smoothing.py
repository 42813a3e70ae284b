"""Smoothing of counts on the 512 cells by penalised differences.

It is linear and the same for every column of counts, so columns of many variables and classes
are smoothed side by side, as products of small dense matrices with wide ones.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRID_POINTS: Final = 512
# Rows solved by one matrix product: 8 are better for over 500 columns, 32 for under 50, by less
# than a third. LAPACK's banded solver takes one column at a time, 2 to 8 times as long.
_ROWS: Final = 16
# Columns at a time: in the cache, and below the 900 from which OpenBLAS takes two threads, which on
# a busy machine wait for each other ten times as long as they work.
_WIDTH: Final = 512


def smoothed(counts: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Smooth each column of counts on the grid, of shape (512, k).

    Notes
    -----
    Counts h become the f that minimises ``|f - h|**2 + s**2 |D2 f|**2 + 2 s |D1 f|**2`` with
    first and second differences D1, D2 and strength s [1]_: one linear system with five bands.
    The sum of a column is kept, because D1 and D2 of a constant are 0.

    References
    ----------
    .. [1] P. H. C. Eilers, J. J. Goeman, "Enhancing scatterplots with smoothed densities",
       Bioinformatics 20:623-628, 2004. :doi:`10.1093/bioinformatics/btg454`
    """
    if counts.shape[1] > _WIDTH:
        parts = range(0, counts.shape[1], _WIDTH)
        return np.hstack([smoothed(counts[:, part : part + _WIDTH], strength) for part in parts])
    down, up = _substitutions(strength)
    # Two rows of zeros on either side stand for the rows before the first and after the last.
    padded = np.zeros((GRID_POINTS + 4, counts.shape[1]))
    padded[2:-2] = counts
    for block, start in zip(down, range(0, GRID_POINTS, _ROWS), strict=True):
        padded[start + 2 : start + 2 + _ROWS] = block @ padded[start : start + 2 + _ROWS]
    for block, start in zip(up, range(0, GRID_POINTS, _ROWS), strict=True):
        stop = GRID_POINTS - start
        padded[stop + 2 - _ROWS : stop + 2] = block @ padded[stop + 2 - _ROWS : stop + 4]
    return padded[2:-2]


@lru_cache(maxsize=64)
def _substitutions(strength: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return forward and back substitution of the penalised system, `_ROWS` rows at a time.

    With the Cholesky factor L of two bands, 16 rows of the solution of L z = h depend on the two
    rows before and on 16 rows of h: a 16 x 18 matrix for each of 32 blocks; 150 kB in all.
    """
    diagonal, first, second = _cholesky(strength)
    blocks = GRID_POINTS // _ROWS
    shape = (blocks, _ROWS, 1)
    # Each row as a combination of the 18: z_i = (h_i - first_i z_i-1 - second_i z_i-2) / diagonal_i
    known = np.broadcast_to(np.eye(_ROWS + 2), (blocks, _ROWS + 2, _ROWS + 2))
    down, up = known.copy(), known.copy()
    pivot, one, two = (band.reshape(shape) for band in (diagonal, first, second))
    for i in range(_ROWS):
        row = down[:, i + 2] - one[:, i] * down[:, i + 1] - two[:, i] * down[:, i]
        down[:, i + 2] = row / pivot[:, i]
    # Upwards: x_i = (z_i - first_i+1 x_i+1 - second_i+2 x_i+2) / diagonal_i
    one = np.append(first[1:], 0.0).reshape(shape)
    two = np.append(second[2:], (0.0, 0.0)).reshape(shape)
    for i in reversed(range(_ROWS)):
        row = up[:, i] - one[:, i] * up[:, i + 1] - two[:, i] * up[:, i + 2]
        up[:, i] = row / pivot[:, i]
    return down[:, 2:].copy(), up[::-1, :_ROWS].copy()


def _cholesky(
    strength: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the diagonal and the two bands below it of the factor of the penalised system.

    Row i has ``second[i], first[i], diagonal[i]`` in columns i - 2, i - 1, i. Half a millisecond
    of plain Python; scipy's banded factorisation would take 0.2 s to import.
    """
    rows = zip(*(band.tolist() for band in _penalised_bands(strength)), strict=True)
    factor = [(1.0, 0.0, 0.0), (1.0, 0.0, 0.0)]
    for center, below, far_below in rows:
        (pivot_2, _, _), (pivot_1, first_1, _) = factor[-2:]
        second = far_below / pivot_2
        first = (below - second * first_1) / pivot_1
        factor.append((math.sqrt(center - first**2 - second**2), first, second))
    diagonal, one, two = np.array(factor[2:]).T
    return diagonal, one, two


def _penalised_bands(strength: float) -> NDArray[np.float64]:
    """Return ``I + s**2 D2'D2 + 2 s D1'D1`` by rows: on the diagonal, and one and two before it."""
    first, second = 2.0 * strength, strength**2
    bands = np.zeros((3, GRID_POINTS))
    bands[0] = 1.0 + 2.0 * first + 6.0 * second
    bands[0, [0, -1]] = 1.0 + first + second
    bands[0, [1, -2]] = 1.0 + 2.0 * first + 5.0 * second
    bands[1, 1:] = -first - 4.0 * second
    bands[1, [1, -1]] = -first - 2.0 * second
    bands[2, 2:] = second
    return bands
