"""Smoothing of counts on the 512 cells by penalised differences.

It is linear and the same for every column of counts, so columns of many variables and classes
are smoothed side by side, as products of small dense matrices with wide ones.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRID_POINTS: Final = 512
# Rows solved by one matrix product: 8 are better for over 500 columns, 32 for under 50, by less
# than a third. LAPACK's banded solver takes one column at a time, 2 to 8 times as long.
_ROWS: Final = 16


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


@lru_cache(maxsize=32)
def _substitutions(strength: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return forward and back substitution of the penalised system, `_ROWS` rows at a time.

    With the Cholesky factor L of two bands, 16 rows of the solution of L z = h depend on the two
    rows before and on 16 rows of h: a 16 x 18 matrix for each of 32 blocks; 150 kB in all.
    """
    from scipy.linalg import cholesky_banded, solve_triangular  # noqa: PLC0415 - slow to import

    bands = cholesky_banded(_penalised_bands(strength), lower=True)
    lower = np.diag(bands[0]) + np.diag(bands[1, :-1], -1) + np.diag(bands[2, :-2], -2)
    lower = np.pad(lower, 2)
    blocks = GRID_POINTS // _ROWS
    down, up = np.empty((blocks, _ROWS, _ROWS + 2)), np.empty((blocks, _ROWS, _ROWS + 2))
    for block in range(blocks):
        start = 2 + block * _ROWS
        rows = slice(start, start + _ROWS)
        corner = lower[rows, rows]
        right = np.hstack([-lower[rows, start - 2 : start], np.eye(_ROWS)])
        down[block] = solve_triangular(corner, right, lower=True)
        below = lower[start + _ROWS : start + _ROWS + 2, rows]
        right = np.hstack([np.eye(_ROWS), -below.T])
        up[blocks - 1 - block] = solve_triangular(corner, right, lower=True, trans="T")
    return down, up


def _penalised_bands(strength: float) -> NDArray[np.float64]:
    """Return the lower bands of ``I + s**2 D2'D2 + 2 s D1'D1``, in scipy's order."""
    first, second = 2.0 * strength, strength**2
    bands = np.zeros((3, GRID_POINTS))
    bands[0] = 1.0 + 2.0 * first + 6.0 * second
    bands[0, [0, -1]] = 1.0 + first + second
    bands[0, [1, -2]] = 1.0 + 2.0 * first + 5.0 * second
    bands[1, :-1] = -first - 4.0 * second
    bands[1, [0, -2]] = -first - 2.0 * second
    bands[2, :-2] = second
    return bands
