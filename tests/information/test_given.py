"""What mutual information may be given means the same in every form, here and on engines."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp

import memshare_jupyter as ms

rng = np.random.default_rng(0)
Y = rng.integers(0, 3, 300)
X = np.column_stack([rng.normal(size=300) + Y, rng.integers(0, 5, 300), rng.normal(size=300)])
GONE = np.arange(300) % 30 == 0
EXPECTED = ms.mutual_info_matrix(X, Y, y_discrete=True)
HOLED = np.where(GONE[:, None], np.nan, X)
WITHOUT = ms.mutual_info_matrix(HOLED, Y, y_discrete=True, na_rm=True)


def mixed():
    return pd.DataFrame({"a": X[:, 0], "b": X[:, 1].astype(int), "c": X[:, 2]})


@pytest.mark.parametrize(
    "frame",
    [
        mixed,
        lambda: pl.from_pandas(mixed()),
        lambda: pa.table(mixed()),
        lambda: pa.RecordBatch.from_pandas(mixed()),
        lambda: mixed().convert_dtypes(),
        lambda: np.ma.MaskedArray(X),
    ],
    ids=["pandas", "polars", "table", "batch", "nullable", "masked"],
)
def test_a_matrix_in_any_form_is_the_same(frame):
    np.testing.assert_allclose(ms.mutual_info_matrix(frame(), Y, y_discrete=True), EXPECTED)


@pytest.mark.slow
def test_frames_and_masks_are_the_same_on_engines_and_as_pages():
    masked = np.ma.MaskedArray(X, np.repeat(GONE[:, None], 3, axis=1))
    nullable = mixed().convert_dtypes()
    nullable.loc[GONE, :] = pd.NA
    try:
        with ms.Namespace("given") as pages:
            pages["frame"], pages["masked"] = mixed(), masked
            for given in (mixed(), "given.frame"):
                found = ms.mutual_info_matrix(given, Y, y_discrete=True, max_cores=1)
                np.testing.assert_allclose(found, EXPECTED)
            for given in (masked, "given.masked", nullable):
                found = ms.mutual_info_matrix(given, Y, y_discrete=True, max_cores=1, na_rm=True)
                np.testing.assert_allclose(found, WITHOUT)
    finally:
        ms.local_cluster().stop()


@pytest.mark.parametrize("kind", ["masked", "nullable"])
def test_what_is_missing_is_left_out_like_nan(kind):
    def holed(values):
        if kind == "masked":
            return np.ma.MaskedArray(values, GONE)
        column = pd.Series(values).convert_dtypes()
        column[GONE] = pd.NA
        return column

    for column, expected in zip(X.T, WITHOUT, strict=True):
        found = ms.mutualinfo(holed(column), Y, y_discrete=True, na_rm=True)
        assert found == pytest.approx(expected)
        with pytest.raises(ValueError, match="x has 10 NaN or infinite values"):
            ms.mutualinfo(holed(column), Y, y_discrete=True)
    labels = np.array(["p", "q", "r"], dtype=object)[Y]
    expected = ms.mutualinfo(X[~GONE, 0], Y[~GONE], y_discrete=True)
    for given in (holed(labels), holed(Y)):
        found = ms.mutualinfo(X[:, 0], given, y_discrete=True, na_rm=True)
        assert found == pytest.approx(expected)


def test_categories_are_labels():
    labels = pd.Series(pd.Categorical.from_codes(Y, ["p", "q", "r"]))
    found = ms.mutualinfo(X[:, 0], labels, y_discrete=True)
    assert found == ms.mutualinfo(X[:, 0], Y, y_discrete=True)


def test_a_sparse_matrix_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"X is a sparse matrix; pass X\.toarray\(\)"):
        ms.mutual_info_matrix(sp.csc_matrix(X), Y, y_discrete=True)


def test_an_error_names_the_column():
    frame = mixed().assign(name=["x"] * 300)
    with pytest.raises(TypeError, match=r"column 'name': .* must be real numbers"):
        ms.mutual_info_matrix(frame, Y, y_discrete=True)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"k": -1}, ValueError, "k must not be negative"),
        ({"k": 2.0}, TypeError, "k must be a whole number, not 2.0"),
        ({"k": 1, "permutations": -1}, ValueError, "permutations must not be negative"),
    ],
)
def test_numbers_of_features_and_permutations_are_counts(options, error, says):
    with pytest.raises(error, match=says):
        ms.select_features(X, Y, **options)


def test_names_are_those_of_the_columns():
    for frame in (mixed(), pl.from_pandas(mixed()), pa.table(mixed())):
        assert ms.select_features(frame, Y, k=np.int64(1), permutations=3).names == ["a"]
