from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from memshare_jupyter import mutual_info_matrix, mutualinfo, select_features
from memshare_jupyter.information import ColumnMutualInfo
from memshare_jupyter.information._normal_scores import grid_of, normal_scores
from memshare_jupyter.information._options import Options


@pytest.mark.parametrize("n", [2, 3, 500])
@pytest.mark.parametrize("tied", [False, True])
def test_scores_are_normal_quantiles_of_mean_ranks(n, tied):
    values = np.random.default_rng(n).lognormal(2, 2, n)
    values = np.floor(values) if tied else values
    expected = norm.ppf(rankdata(values) / (n + 1))
    np.testing.assert_allclose(normal_scores(values), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("tied", [False, True])
def test_the_grid_is_that_of_the_scores(tied):
    values = np.random.default_rng(1).lognormal(2, 2, 500)
    values = np.floor(values) if tied else values
    found = grid_of(values, Options(transform="normal"))
    expected = grid_of(normal_scores(values), Options())
    np.testing.assert_array_equal(found.cell, expected.cell)
    assert (found.radius, found.width, found.distinct) == pytest.approx(
        (expected.radius, expected.width, expected.distinct), rel=1e-9
    )


OPTIONS = [
    {"y_discrete": True},
    {"y_discrete": True, "estimator": "kde"},
    {"y_discrete": True, "estimator": "ksg"},
    {"y_discrete": True, "bias_correction": True},
    {},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_monotone_transform_changes_anything(options):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    x = rng.normal(size=200) + 0.4 * y
    X = np.column_stack([x, np.exp(4 * x), np.arctan(x), x**3 * 1e200, np.append(x[:-1], x[-1])])
    found = mutual_info_matrix(X, y, transform="normal", **options)
    np.testing.assert_allclose(found, found[0], rtol=1e-11)
    single = mutualinfo(np.exp(4 * x), y, transform="normal", **options)
    assert single == pytest.approx(found[0], rel=1e-11)


def lognormal(n, seed=0):
    """Return a log-normal variable with 0.2 nats about two classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return np.exp(2 * (rng.normal(size=n) + 1.4 * y)), y


def test_a_skewed_variable_keeps_its_information():
    x, y = lognormal(1000)
    raw = mutualinfo(np.log(x), y, y_discrete=True)
    assert mutualinfo(x, y, y_discrete=True) < 0.1 * raw
    assert mutualinfo(x, y, y_discrete=True, transform="normal") == pytest.approx(raw, rel=0.15)


def test_an_outlier_takes_nothing():
    x, y = lognormal(1000)
    spoilt = np.log(x)
    spoilt[0] = 1000 * spoilt.std()
    options = {"y_discrete": True, "transform": "normal"}
    assert mutualinfo(spoilt, y, **options) == pytest.approx(mutualinfo(x, y, **options), rel=0.02)
    assert mutualinfo(spoilt, y, y_discrete=True) < 0.01


def test_constants_and_missing_values_are_what_they_are_without():
    x, y = lognormal(100)
    X = np.column_stack([x, np.full(100, 3.0), 1e9 + 1e-7 * (x > 1)])
    X[5, 0] = np.nan
    options = {"y_discrete": True, "transform": "normal", "na_rm": True}
    found = mutual_info_matrix(X, y, **options)
    assert found[0] == pytest.approx(mutualinfo(np.delete(x, 5), np.delete(y, 5), **options))
    assert found[1] == 0.0


def test_a_permuter_takes_the_scores_too():
    x, y = lognormal(100)
    X = np.column_stack([x, np.floor(x)])
    options = {"y_discrete": True, "transform": "normal"}
    order = np.random.default_rng(1).permutation(100)
    found = ColumnMutualInfo(y, **options).permuter(X)(order)
    np.testing.assert_allclose(found, mutual_info_matrix(X, y[order], **options), rtol=1e-11)


def test_selection_ranks_by_scores_unless_told_otherwise():
    x, y = lognormal(1000)
    noise = np.random.default_rng(5).normal(size=(1000, 1)) + 0.6 * y[:, None]
    X = np.column_stack([noise, x])
    assert select_features(X, y, k=1).names == [1]
    assert select_features(X, y, k=1, transform=None).names == [0]
    assert (
        select_features(X, y, k=1).values[0]
        == mutual_info_matrix(X, y, y_discrete=True, transform="normal")[1]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "ranks"}, "transform must be None or 'normal'"),
        ({"transform": "normal", "compat": "R"}, "pass transform=None"),
    ],
)
def test_other_transforms_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mutualinfo([1, 2, 3], [1, 2, 3], **options)
