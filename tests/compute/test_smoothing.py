from __future__ import annotations

import math

import numpy as np
import pytest

from memshare_jupyter.compute._smoothing import GRID_POINTS, gaussian_convolution, smoothed


@pytest.mark.parametrize("strength", [0.25, 5.0, 62.5, 128.0])
def test_smoothing_solves_the_penalised_system_and_keeps_the_sums(strength):
    counts = np.random.default_rng(7).poisson(3, size=(GRID_POINTS, 4)).astype(float)
    first, second = np.diff(np.eye(GRID_POINTS), axis=0), np.diff(np.eye(GRID_POINTS), 2, axis=0)
    system = np.eye(GRID_POINTS) + strength**2 * second.T @ second + 2 * strength * first.T @ first
    # The system's condition number is 16 * strength**2, up to 3e5.
    np.testing.assert_allclose(system @ smoothed(counts, strength), counts, atol=1e-9)
    np.testing.assert_allclose(smoothed(counts, strength).sum(axis=0), counts.sum(axis=0))


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
