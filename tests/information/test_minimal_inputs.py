"""The smallest inputs that once had a wrong answer and are in no other test, with the right one."""

from __future__ import annotations

import numpy as np
import pytest

from memshare_jupyter import mutual_info_matrix, mutualinfo, select_features

CLASSES = {"y_discrete": True}


def classes_of(n, k, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(n) % k)


class TestSameAnswer:
    @pytest.mark.parametrize("n", [5, 10, 21, 60])
    @pytest.mark.parametrize("options", [{}, CLASSES], ids=["numbers", "classes"])
    @pytest.mark.parametrize("seed", range(8))
    def test_kernels_do_not_see_the_order_of_samples(self, n, options, seed):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=n), rng.integers(0, 2, n)
        order = rng.permutation(n)
        found = mutualinfo(x[order], y[order], estimator="kde", **options)
        expected = mutualinfo(x, y, estimator="kde", **options)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)

    def test_nearest_neighbours_do_not_see_a_shift_as_far_as_digits_go(self):
        rng = np.random.default_rng(0)
        x, noise = rng.normal(size=(2, 500))
        y = x + noise
        far = mutualinfo(x + 1e10, y, estimator="ksg")
        assert far == pytest.approx(mutualinfo(x, y, estimator="ksg"), abs=0.02)

    def test_nearest_neighbours_of_nine_zeros_do_not_see_a_shift(self):
        few, labels = np.append(np.zeros(9), 0.79), np.arange(10) % 3
        found = [
            mutualinfo(few + shift, labels, estimator="ksg", **CLASSES) for shift in (0, 7.3, 1e6)
        ]
        assert found[0] == found[1] == found[2]

    def test_seven_shifted_samples_have_no_scale(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2, 7))
        x += 1e8
        assert mutualinfo(x / 3, y) == pytest.approx(mutualinfo(x, y), rel=1e-6)

    def test_labels_in_another_order_say_the_same(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=300), rng.integers(0, 9, 300)
        renamed = rng.permutation(9)[y]
        expected = mutualinfo(x, y, **CLASSES)
        assert mutualinfo(x, renamed, **CLASSES) == pytest.approx(expected, rel=1e-11)

    @pytest.mark.parametrize("n", [4, 17])
    def test_normal_scores_do_not_see_from_which_side_an_outlier_comes(self, n):
        x = np.append(np.arange(n - 1.0), 1000.0)
        y = np.arange(n) % 2
        for other, options in ((y, CLASSES), (np.cos(np.arange(n)), {})):
            forth = mutualinfo(x, other, transform="normal", **options)
            assert mutualinfo(-x, other, transform="normal", **options) == pytest.approx(
                forth, rel=1e-6, abs=0.02
            )

    def test_a_column_has_what_a_pair_has_whatever_the_width(self):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 3, 200)
        X = rng.normal(size=(200, 33))
        whole = mutual_info_matrix(X, y, **CLASSES)
        for width in (1, 2, 7):
            parts = [
                mutual_info_matrix(X[:, i : i + width], y, **CLASSES) for i in range(0, 33, width)
            ]
            np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-9, atol=1e-14)


class TestPValues:
    def test_fifty_indicators_and_two_zeros_tell_nothing(self):
        # Each of the 50 tells as much about the two classes with any permutation of them.
        y = np.arange(50) % 2
        found = select_features(np.eye(50)[:, :50], y, k=15, permutations=19)
        assert found.p_values.tolist() == [1.0] * 15

    def test_three_counts_in_a_hundred_are_not_rarer_than_they_are(self):
        rng = np.random.default_rng(3)
        y = rng.integers(0, 2, 1000)
        x = np.zeros(1000)
        x[rng.choice(1000, 4, replace=False)] = 1
        ones = int(y[x > 0].sum())
        draws = rng.hypergeometric(int(y.sum()), int((1 - y).sum()), 4, size=20_000)
        told = np.abs(draws / 4 - y.mean())
        right = (told >= abs(ones / 4 - y.mean()) - 1e-9).mean()
        found = select_features(x[:, None], y, k=1, permutations=999).p_values[0]
        assert found == pytest.approx(right, abs=0.08)  # five standard deviations


class TestAmounts:
    """Mean estimates of some samples against the truth, where raw values went wrong."""

    def test_more_samples_of_a_skewed_variable_do_not_tell_less(self):
        shift = 0.7041775  # two classes, 0.2 nats
        found = {}
        for n in (1000, 10_000):
            y = classes_of(n, 2)
            z = np.random.default_rng(1).normal(size=n) + shift * (2 * y - 1)
            found[n] = mutualinfo(np.exp(2 * z), y, transform="normal", **CLASSES)
        assert found[1000] == pytest.approx(0.2, abs=0.05)
        assert found[10_000] == pytest.approx(0.2, abs=0.02)

    @pytest.mark.parametrize("size", [100.0, 1000.0, 1e9])
    def test_one_outlier_takes_nothing_from_normal_scores(self, size):
        y = classes_of(1000, 2)
        x = np.random.default_rng(0).normal(size=1000) + 2.0 * y
        without = mutualinfo(x, y, transform="normal", **CLASSES)
        x[0] = size
        assert mutualinfo(x, y, transform="normal", **CLASSES) == pytest.approx(without, abs=0.01)

    def test_kernels_on_normal_scores_see_heavy_tails_as_they_are(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2, 1000)) / np.sqrt(rng.chisquare(1, 1000))
        found = mutualinfo(x, y, estimator="kde", bias_correction=True, transform="normal")
        assert found == pytest.approx(0.2242, abs=0.08)  # raw: 1.7

    def test_a_rare_group_far_away_is_seen(self):
        # One of a hundred, four standard deviations away: 0.0475 nats.
        rng = np.random.default_rng(0)
        y = (np.arange(10_000) % 100 == 0).astype(int)
        x = rng.normal(size=10_000) + 4 * y
        assert mutualinfo(x, y, **CLASSES) == pytest.approx(0.0475, abs=0.006)
        assert mutualinfo(x, y, transform="normal", **CLASSES) == pytest.approx(0.0475, abs=0.02)

    def test_counts_of_a_true_fifth_are_above_those_of_a_tenth(self):
        # Zero-inflated counts, 32 classes, n = 1,000: of raw values most pairs are the wrong way.
        from tests.benchmarks.ranking import ZeroInflated, strength_for

        shape, y = ZeroInflated(), classes_of(1000, 32)
        rng = np.random.default_rng(0)
        low, high = (
            [
                mutualinfo(
                    shape.draw(rng, y, strength_for(shape, level, 32), 32),
                    *(y,),
                    transform="normal",
                    **CLASSES,
                )
                for _ in range(8)
            ]
            for level in (0.1, 0.2)
        )
        assert max(low) < min(high)
