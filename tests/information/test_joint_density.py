from __future__ import annotations

import math

import numpy as np
import pytest

from memshare_jupyter.information import _joint_density
from memshare_jupyter.information._joint_density import JointDensity, gaussian_convolution
from memshare_jupyter.information._smoothing import GRID_POINTS, smoothed


def test_convolution_is_the_written_out_sum_with_one_more_tap_on_the_right():
    radius = 150.0  # cells: wide enough for both ends of the window to matter
    taps = {k: math.exp(-0.5 * (k / radius) ** 2) for k in range(-255, 257)}
    total = sum(taps.values())
    expected = np.array(
        [[taps.get(i - j, 0.0) / total for j in range(GRID_POINTS)] for i in range(GRID_POINTS)]
    )
    np.testing.assert_allclose(gaussian_convolution(radius), expected, rtol=1e-13)


def test_convolution_with_a_radius_far_below_a_cell_changes_nothing():
    np.testing.assert_array_equal(gaussian_convolution(1e-8), np.eye(GRID_POINTS))


# In cells: none, below the fewest that modes are used for, usual, cut off by the window.
@pytest.mark.parametrize("radius", [1e-8, 3.0, 8.0, 21.0, 30.0, 45.0, 150.0])
@pytest.mark.parametrize("n", [1000, 4000])
def test_modes_give_what_whole_matrices_give(radius, n):
    cells = np.random.default_rng(1).normal(256, 60, size=(2, n)).astype(int).clip(0, 511)
    counts = np.zeros((GRID_POINTS, GRID_POINTS))
    np.add.at(counts, tuple(cells), 1.0)
    smooth = smoothed(smoothed(counts, 128.0).T, 128.0).T
    smooth /= smooth[:-1, :-1].sum()
    expected = gaussian_convolution(radius) @ smooth @ gaussian_convolution(21.0).T
    joint = JointDensity(*cells, radius, 21.0)
    found = np.full_like(expected, np.nan)
    for rows, part in joint.parts():
        found[rows] = part
    # Rounding of the smoother and of sums over modes, against the largest density.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * expected.max())
    np.testing.assert_allclose(joint.of_x, found.sum(axis=1), rtol=0, atol=1e-14)
    np.testing.assert_allclose(joint.of_y, found.sum(axis=0), rtol=0, atol=1e-14)


def test_usual_radii_need_few_modes():
    modes = _joint_density._modes(21.0)
    assert modes is not None
    assert modes.size < 75
