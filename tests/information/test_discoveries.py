from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from memshare_jupyter import select_features
from memshare_jupyter.information import _discoveries
from memshare_jupyter.information._discoveries import q_values, sequential_p_values


def genes(n=120, k=60, tied=False, seed=0):
    """Return columns of which the first six have to do with y."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    X = rng.normal(size=(n, k))
    X[:, :6] += y[:, None]
    return (np.round(np.maximum(X, 0), 1) if tied else X), y


def test_q_values_are_benjamini_and_hochbergs():
    p_values = np.random.default_rng(0).random(50) ** 3
    np.testing.assert_allclose(q_values(p_values), false_discovery_control(p_values))
    assert q_values(np.empty(0)).size == 0


@pytest.mark.parametrize("tied", [False, True])
def test_what_has_to_do_with_y_is_discovered(tied):
    X, y = genes(tied=tied)
    found = select_features(X, y, alpha=0.05, permutations=1000)
    assert set(range(6)) <= set(found.columns)
    assert len(found) <= 8
    assert (found.q_values <= 0.05).all()
    assert (found.p_values <= found.q_values).all()
    again = select_features(X, y, alpha=0.05, permutations=1000)
    np.testing.assert_array_equal(found.p_values, again.p_values)


def test_the_shared_null_is_that_of_each_column():
    X, y = genes(k=8)
    found = select_features(X, y, alpha=0.99, permutations=2000)
    own = select_features(X, y, k=8, permutations=999)
    p_own = dict(zip(own.columns, own.p_values, strict=True))
    for column, p in zip(found.columns, found.p_values, strict=True):
        # Five standard deviations of the share of 999 permutations
        assert abs(p - p_own[column]) < 5 * np.sqrt(p * (1 - p) / 999) + 2e-3


@pytest.mark.parametrize("tied", [False, True])
def test_p_values_of_columns_that_have_nothing_to_do_with_y_are_uniform(tied):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 60)
    X = rng.normal(size=(60, 150))
    X = np.round(X * 3) if tied else X
    found = select_features(X, y, alpha=0.9999, permutations=400)
    p_values = np.ones(150)
    p_values[found.columns] = found.p_values
    for level in (0.05, 0.2, 0.5):
        # Columns are independent given y: five standard deviations
        share = (p_values <= level).mean()
        assert share < level + 5 * np.sqrt(level * (1 - level) / 150)
    assert (p_values <= 0.5).mean() > 0.3


def test_waiting_ends_when_ten_permutations_reach_a_column():
    asked = []

    def repeat(fun, numbers, part):
        asked.append((len(numbers), part.shape[1]))
        return [fun(number, part) for number in numbers]

    def permuted(places):
        # The first column is reached by every fourth permutation, the second one never.
        return lambda number, part: (number % 4 == 3) & (places == 0)

    found = sequential_p_values(
        np.array([0.5, 1.0]),
        lambda places: np.empty((9, places.size)),
        permuted,
        repeat,
        lambda _: 300,
        9,
    )
    assert found.tolist() == [10 / 40, 1 / 301]
    assert asked == [(40, 2), (80, 1), (160, 1), (20, 1)]


def test_constant_columns_are_no_discoveries():
    X, y = genes(k=10)
    X[:, 7] = 3.0
    found = select_features(X, y, alpha=0.99, permutations=200)
    assert 7 not in found.columns


def test_columns_wait_longer_once_fewer_of_them_are_left_to_be_discoveries():
    # The second column is reached after all, so the first needs a smaller p-value.
    def permuted(places):
        return lambda number, part: (places == 1) & (number == 290)

    found = sequential_p_values(
        np.array([1.0, 1.0]),
        lambda places: np.empty((9, places.size)),
        permuted,
        lambda fun, numbers, part: [fun(number, part) for number in numbers],
        lambda never_reached: 300 if never_reached == 2 else 700,
        9,
    )
    assert found.tolist() == [1 / 701, 2 / 701]


def test_no_more_than_some_columns_are_copied_at_a_time(monkeypatch):
    X, y = genes(tied=True)
    whole = select_features(X, y, alpha=0.5, permutations=300)
    monkeypatch.setattr(_discoveries, "_COPIED_VALUES", 7 * len(y))
    in_parts = select_features(X, y, alpha=0.5, permutations=300)
    np.testing.assert_array_equal(in_parts.columns, whole.columns)
    np.testing.assert_array_equal(in_parts.p_values, whole.p_values)
