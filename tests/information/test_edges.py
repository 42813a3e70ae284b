"""Inputs at the edge of what can be estimated, each with the right answer."""

from __future__ import annotations

import numpy as np
import pytest

from memshare_jupyter import mutualinfo


def zero_inflated(n=1000, zeros=0.6, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return np.where(rng.random(n) < zeros, 0, rng.poisson(5 + 3 * y)).astype(float), y


def test_zeros_at_the_upper_end_count_as_at_the_lower_end():
    x, y = zero_inflated()
    there, mirrored = mutualinfo(x, y, y_discrete=True), mutualinfo(-x, y, y_discrete=True)
    assert there > 0.02
    assert mirrored == pytest.approx(there, rel=1e-9)
    assert mutualinfo(y, -x, x_discrete=True) == mirrored


def test_values_capped_at_a_limit_of_detection_keep_their_information():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 2000)
    x = 38 + 3 * rng.normal(size=2000) + 1.5 * y
    # Above 40 there is nothing to tell apart: 0.025 nats, by the shares on either side and the rest
    capped = mutualinfo(np.minimum(x, 36.0), y, y_discrete=True)
    mirrored = mutualinfo(-np.minimum(x, 36.0), y, y_discrete=True)
    assert capped == pytest.approx(mirrored, rel=1e-9)
    assert capped > 0.01


def test_the_smallest_numbers_are_numbers():
    small = np.array([0, 5e-324, 1e-323, 0])
    y = [0, 1, 1, 0]
    with np.errstate(all="raise"):
        found = mutualinfo(small, y, y_discrete=True)
    assert found == mutualinfo([0.0, 1.0, 2.0, 0.0], y, y_discrete=True)
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 100))
    assert mutualinfo(x * 2.0**-1000, x + z) == mutualinfo(x, x + z)


def test_no_floating_point_error_escapes():
    with np.errstate(all="raise"):
        found = mutualinfo(
            [0.9, 0.8, 0.5, 0.9, -16.5, -0.2, 0.9], [-0.8, 0.6, 0, -0.5, -0.2, -1.4, 1.2]
        )
    assert np.isfinite(found)


class TestNearestNeighbours:
    def test_a_constant_tells_nothing(self):
        y = np.random.default_rng(0).normal(size=100)
        assert mutualinfo(np.full(100, 3.7), y, estimator="ksg") == 0.0
        assert mutualinfo(y, np.zeros(100, int), y_discrete=True, estimator="ksg") == 0.0

    @pytest.mark.parametrize(("scale", "shift"), [(1e-160, 0), (1e160, 0), (1, 1e6)])
    def test_scale_and_shift_change_nothing(self, scale, shift):
        x, z = np.random.default_rng(0).normal(size=(2, 300))
        expected = mutualinfo(x, x + z, estimator="ksg")
        found = mutualinfo(x * scale + shift, x + z, estimator="ksg")
        assert found == pytest.approx(expected, abs=0.01)

    def test_the_order_of_samples_changes_nothing_with_ties_either(self):
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 3, (2, 40)).astype(float)
        y += x
        order = rng.permutation(40)
        for options in ({}, {"y_discrete": True}, {"x_discrete": True}):
            found = mutualinfo(x[order], y[order], estimator="ksg", **options)
            assert found == mutualinfo(x, y, estimator="ksg", **options)

    @pytest.mark.parametrize("options", [{}, {"y_discrete": True}, {"x_discrete": True}])
    def test_three_samples_tell_nothing(self, options):
        assert mutualinfo([1.0, 2, 3], [3.0, 1, 2], estimator="ksg", **options) == 0.0

    def test_labels_that_are_all_different_tell_nothing(self):
        x = np.random.default_rng(0).normal(size=20)
        assert mutualinfo(x, np.arange(20), y_discrete=True, estimator="ksg") == 0.0

    def test_never_above_the_entropy_of_the_labels(self):
        x, y = [0.34, 0, 0.8, 0, 0.92], [0, 0, 1, 0, 1]
        entropy = -(0.6 * np.log(0.6) + 0.4 * np.log(0.4))
        assert mutualinfo(x, y, y_discrete=True, estimator="ksg") <= entropy + 1e-12
        few = np.append(np.zeros(9), 0.79)
        classes = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
        options = {"y_discrete": True, "estimator": "ksg"}
        assert mutualinfo(few + 1e6, classes, **options) == mutualinfo(few, classes, **options)
