from __future__ import annotations

import pickle

import numpy as np
import pytest

from memshare_jupyter import mutual_info_matrix
from memshare_jupyter.information import _classes
from memshare_jupyter.information import _columns as columns
from memshare_jupyter.information._columns import ColumnMutualInfo
from memshare_jupyter.information._mutual_info import mutualinfo


def study(n=300, k=12, classes=4, seed=0):
    """Normal, rounded, zero-inflated, few-valued and constant columns in turn."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, size=n)
    X = rng.normal(size=(n, k)) + 0.5 * y[:, None] * rng.random(k)
    X[:, 1::6] = np.round(X[:, 1::6], 1)
    X[:, 2::6] = np.where(rng.random(X[:, 2::6].shape) < 0.6, 0.0, np.exp(X[:, 2::6]))
    X[:, 3::6] = rng.poisson(2, size=X[:, 3::6].shape)
    X[:, 4::6] = 7.0
    return X, y


def one_by_one(X, y, **options):
    return [mutualinfo(column, y, **options) for column in np.asarray(X).T]


@pytest.mark.parametrize(
    "options",
    [
        {"y_discrete": True},
        {"y_discrete": True, "base": 2},
        {"y_discrete": True, "eps": 1e-3},
        {"y_discrete": True, "estimator": "kde", "bias_correction": True},
        {"y_discrete": True, "compat": "R"},
        {"x_discrete": True, "y_discrete": True},
        {"x_discrete": True},
        {},
    ],
    ids=str,
)
def test_every_column_gets_what_mutualinfo_gives(options):
    X, y = study()
    if options.get("x_discrete"):
        X = np.round(X)
    np.testing.assert_allclose(
        mutual_info_matrix(X, y, **options), one_by_one(X, y, **options), rtol=1e-11, atol=1e-15
    )


@pytest.mark.parametrize("block", [8 * 300, 8 * 300 * 5, 2**30])
@pytest.mark.parametrize("table", [1, 8 * 512 * 4 * 3, 2**30])
def test_parts_of_any_size_give_the_same(monkeypatch, block, table):
    X, y = study()
    expected = one_by_one(X, y, y_discrete=True)
    monkeypatch.setattr(columns, "_BLOCK_BYTES", block)
    monkeypatch.setattr(_classes, "_TABLE_BYTES", table)
    found = mutual_info_matrix(X, y, y_discrete=True)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15)


def test_any_layout_and_real_dtype_will_do():
    X, y = study()
    X = np.round(X * 4)
    expected = one_by_one(X, y, y_discrete=True)
    read_only = X.copy()
    read_only.flags.writeable = False
    variants = [
        np.asfortranarray(X),
        X.astype(np.float32),
        X.astype(np.int16),
        X.astype(">f8"),
        X.astype(object),
        X.tolist(),
        np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
        read_only,
    ]
    for variant in variants:
        found = mutual_info_matrix(variant, y, y_discrete=True)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15)


def test_a_matrix_is_not_turned_where_its_columns_lie_in_order():
    X = np.asfortranarray(np.ones((5, 3)))
    assert np.shares_memory(columns._turned(X, 0), X)
    assert np.shares_memory(columns._turned(X[:, 1:], 1), X)
    for other in (X[1:], np.ones((5, 3)), X.astype(np.float32)):
        turned = columns._turned(other, 0)
        assert turned.flags.c_contiguous
        np.testing.assert_array_equal(turned, other.T)


def test_missing_values_are_left_out_column_by_column():
    X, y = study()
    X[3, 0], X[5, 2], X[7, 2] = np.nan, np.inf, np.nan
    labels = np.array(["a", "b", "c", "d"], dtype=object)[y]
    labels[11] = None
    with pytest.raises(ValueError, match=r"^y has 1 NaN.*na_rm=True"):
        ColumnMutualInfo(labels, y_discrete=True)
    with pytest.raises(ValueError, match=r"^column 0 of X has 1 NaN"):
        mutual_info_matrix(X, y, y_discrete=True)
    options = {"y_discrete": True, "na_rm": True}
    np.testing.assert_allclose(
        mutual_info_matrix(X, labels, **options),
        one_by_one(X, labels, **options),
        rtol=1e-11,
        atol=1e-15,
    )


def test_a_prepared_object_travels_to_workers():
    X, y = study()
    prepared = ColumnMutualInfo(y, y_discrete=True)
    there = pickle.loads(pickle.dumps(prepared))
    np.testing.assert_array_equal(there(X), prepared(X))
    np.testing.assert_allclose(np.concatenate([there(X[:, :5]), there(X[:, 5:])]), prepared(X))
    assert len(pickle.dumps(prepared)) < 12 * y.size + 2000


@pytest.mark.parametrize(
    ("X", "y", "options", "error", "message"),
    [
        (np.ones((3, 2)), [1, 2], {}, ValueError, r"2 values of y, but has shape \(3, 2\)"),
        (np.ones(3), [1, 2, 3], {}, ValueError, r"has shape \(3,\)"),
        (np.ones((3, 2)), ["a", "b", "c"], {}, TypeError, "pass y_discrete=True"),
        (np.full((3, 2), "a"), [1, 0, 1], {"y_discrete": True}, TypeError, "X must be real"),
        (np.ones((3, 2)), [1, 0, 1], {"estimator": "knn"}, ValueError, "not 'knn'"),
    ],
)
def test_wrong_input_is_named(X, y, options, error, message):
    with pytest.raises(error, match=message):
        mutual_info_matrix(X, y, **options)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_samples_give_zeros(n):
    found = mutual_info_matrix(np.ones((n, 4)), np.arange(n), y_discrete=True)
    np.testing.assert_array_equal(found, np.zeros(4))


def test_no_columns_give_no_values():
    assert mutual_info_matrix(np.ones((5, 0)), np.arange(5), y_discrete=True).shape == (0,)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"y_discrete": True},
        {"y_discrete": True, "base": 2},
        {"y_discrete": True, "na_rm": True},
        {"y_discrete": True, "estimator": "kde"},
        {"x_discrete": True, "y_discrete": True},
        {},
    ],
    ids=str,
)
def test_a_permuter_gives_what_permuted_labels_give(options):
    X, y = study(100)
    X = X if "x_discrete" not in options else np.round(X)
    if options.get("na_rm"):
        X[3, 4] = np.nan
    permuter = ColumnMutualInfo(y, **options).permuter(X)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(y.size)
        expected = mutual_info_matrix(X, y[order], **options)
        np.testing.assert_allclose(permuter(order), expected, rtol=1e-11, atol=1e-15)
