from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memshare_jupyter.information._density import bisected, on_grid, pareto_density, pareto_radius
from memshare_jupyter.information._smoothing import GRID_POINTS


@pytest.mark.parametrize(("n", "shrink"), [(700, 1.0), (1024, 1.0), (1025, 4 / 1025**0.2)])
def test_radius_is_the_18_percent_quantile_of_the_distances(n, shrink):
    values = np.random.default_rng(1).normal(size=n)
    i, j = np.triu_indices(n, 1)
    distances = np.sort(np.abs(values[i] - values[j]))
    exact = distances[int(0.18 * distances.size)] * shrink
    # Rounded up by less than 1e-9 of itself and the s.d. (1 here); 2e-9 leaves room for the sample.
    assert exact <= pareto_radius(values) <= exact + 2e-9


@pytest.mark.parametrize("zeros", [45, 60, 90])
def test_radius_of_values_mostly_tied_is_the_smallest_positive_percentile(zeros):
    rng = np.random.default_rng(2)
    values = np.concatenate([np.zeros(zeros), rng.exponential(size=100 - zeros)])
    i, j = np.triu_indices(100, 1)
    distances = np.sort(np.abs(values[i] - values[j]))
    percentiles = distances[np.minimum(np.arange(1, 101) * distances.size // 100, 4949)]
    # Rounded to 2**-40 of the range, and up by 1e-9 of itself and the s.d.
    smallest = percentiles[percentiles > 0][0]
    assert smallest <= pareto_radius(values) + 1e-11 <= smallest + 2e-9


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_radius_needs_two_different_finite_values(values):
    assert math.isnan(pareto_radius(values))


def test_density_has_integral_one_and_is_near_the_truth():
    values = np.random.default_rng(8).normal(size=20_000)
    points, density = pareto_density(values)
    integral = density.sum() * (points[1] - points[0])
    assert integral == pytest.approx(1, abs=0.005)  # of the 512 steps
    truth = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    # A standard deviation of 0.007 at the top, and smoothing.
    assert np.abs(density - truth).max() < 0.03


@pytest.mark.parametrize("values", [[], [1.0, 1.0], [math.nan]])
def test_density_of_less_than_two_values_is_an_error(values):
    with pytest.raises(ValueError, match="two different"):
        pareto_density(values)


def test_bisection_ends_above_the_quantile_within_its_tolerance():
    assert 0.3 <= bisected(0.3, 7.0, 1.0) <= 0.3 + 1.3e-9
    assert bisected(7.0, 7.0, 1.0) == 7.0


@given(
    factor=st.floats(1e-12, 1e12),
    shift=st.floats(-100, 100),
    decimals=st.sampled_from([0, 1, 2, 15]),
)
def test_grid_does_not_know_scale_and_shift(factor, shift, decimals):
    values = np.round(np.random.default_rng(5).normal(size=200), decimals)
    first, second = on_grid(values, 0.0), on_grid((values + shift) * factor, 0.0)
    np.testing.assert_array_equal(first.cell, second.cell)
    assert second.radius == pytest.approx(first.radius, rel=1e-13)
    assert second.width == pytest.approx(first.width, rel=1e-13)


def test_grid_reaches_one_radius_over_the_data_on_either_side():
    gridded = on_grid(np.random.default_rng(6).normal(size=300), 0.0)
    assert gridded.cell.min() == round(gridded.radius)
    assert gridded.cell.max() == GRID_POINTS - 1 - round(gridded.radius)
