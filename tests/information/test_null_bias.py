from __future__ import annotations

import numpy as np
import pytest

from memshare_jupyter import mutual_info_matrix, mutualinfo
from memshare_jupyter.information import ColumnMutualInfo

OPTIONS = {"y_discrete": True, "bias_correction": True}


# Means of 200 columns; the sd of a column is at most 0.1, so 0.007 of their mean (columns share y).
@pytest.mark.parametrize(
    ("n", "classes", "raw", "within"),
    [(50, 2, 0.18, 0.06), (200, 2, 0.025, 0.005), (50, 32, 1.73, 0.25), (200, 32, 0.55, 0.04)],
)
def test_independent_variables_have_next_to_nothing(n, classes, raw, within):
    rng = np.random.default_rng(n)
    y = rng.integers(0, classes, n)
    X = rng.normal(size=(n, 200))
    assert mutual_info_matrix(X, y, y_discrete=True).mean() == pytest.approx(raw, rel=0.15)
    assert 0.0 <= mutual_info_matrix(X, y, **OPTIONS).mean() < within


def test_few_values_are_no_advantage():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 32, 1000)
    counts, continuous = rng.poisson(5, (1000, 20)), rng.normal(size=(1000, 20))
    X = np.column_stack([counts, continuous])
    raw = mutual_info_matrix(X, y, y_discrete=True)
    assert raw[:20].min() > raw[20:].max()
    assert mutual_info_matrix(X, y, **OPTIONS).max() < 0.05


def test_what_determines_the_label_keeps_its_entropy():
    y = np.repeat([0, 1], 100)
    x = 10.0 * y + np.random.default_rng(0).normal(size=200)
    assert mutualinfo(x, y, **OPTIONS) == pytest.approx(np.log(2), abs=0.01)


def test_much_data_needs_no_correction():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 20_000)
    x = rng.normal(size=20_000) + y
    assert mutualinfo(x, y, **OPTIONS) == pytest.approx(mutualinfo(x, y, y_discrete=True), abs=1e-3)


def test_columns_pairs_and_permutations_are_corrected_alike():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 100)
    X = np.column_stack([rng.normal(size=100) + y, rng.poisson(2, 100), np.ones(100)])
    found = mutual_info_matrix(X, y, **OPTIONS)
    pairs = [mutualinfo(column, y, **OPTIONS) for column in X.T]
    np.testing.assert_allclose(found, pairs, rtol=1e-11, atol=1e-14)
    swapped = mutualinfo(y, X[:, 0], x_discrete=True, bias_correction=True)
    assert swapped == pytest.approx(found[0])
    order = rng.permutation(100)
    permuted = ColumnMutualInfo(y, **OPTIONS).permuter(X)(order)
    np.testing.assert_allclose(
        permuted, mutual_info_matrix(X, y[order], **OPTIONS), rtol=1e-11, atol=1e-14
    )


def test_labels_that_are_all_different_leave_nothing_to_say():
    assert mutualinfo(np.random.default_rng(0).normal(size=30), np.arange(30), **OPTIONS) < 0.01


@pytest.mark.parametrize("options", [{}, {"x_discrete": True, "y_discrete": True}])
def test_other_pairs_are_refused(options):
    with pytest.raises(ValueError, match="for a continuous and a discrete variable"):
        mutualinfo([1, 2, 3], [1, 2, 3], bias_correction=True, **options)
