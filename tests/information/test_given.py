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
            pages["sparse"] = sp.csr_array(X)
            for given in (sp.csc_array(X), "given.sparse"):
                found = ms.mutual_info_matrix(given, Y, y_discrete=True, max_cores=1)
                np.testing.assert_allclose(found, EXPECTED)
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


def labelled(kind):
    names = np.array(["p", "q", "r"])[Y]
    return {
        "pandas": lambda: pd.Series(pd.Categorical.from_codes(Y, ["r", "q", "p"])),
        "bare": lambda: pd.Categorical.from_codes(Y, ["r", "q", "p"]),
        "polars": lambda: pl.Series(names, dtype=pl.Categorical),
        "enum": lambda: pl.Series(names, dtype=pl.Enum(["q", "p", "r"])),
        "arrow": lambda: pa.array(names).dictionary_encode(),
        "chunked": lambda: pa.chunked_array([names[:100], names[100:]]).dictionary_encode(),
    }[kind]()


@pytest.mark.parametrize("kind", ["pandas", "bare", "polars", "enum", "arrow", "chunked"])
def test_categories_of_every_library_are_labels(kind):
    found = ms.mutual_info_matrix(X, labelled(kind), y_discrete=True)
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-11)
    p_values = ms.select_features(X, labelled(kind), k=3, permutations=9).p_values
    np.testing.assert_array_equal(p_values, ms.select_features(X, Y, k=3, permutations=9).p_values)
    values = ms.mutualinfo(labelled(kind), Y, x_discrete=True, y_discrete=True)
    assert values == pytest.approx(ms.mutualinfo(Y, Y, x_discrete=True, y_discrete=True))


def test_a_missing_category_is_missing():
    labels = pd.Series(pd.Categorical.from_codes(np.where(GONE, -1, Y), ["p", "q", "r"]))
    with pytest.raises(ValueError, match="y has 10 NaN"):
        ms.mutualinfo(X[:, 0], labels, y_discrete=True)
    found = ms.mutualinfo(X[:, 0], labels, y_discrete=True, na_rm=True)
    assert found == pytest.approx(ms.mutualinfo(X[~GONE, 0], Y[~GONE], y_discrete=True))


@pytest.mark.parametrize("no_value", [np.float32("nan"), float("nan"), None, pd.NaT, pd.NA])
def test_every_kind_of_no_value_among_labels_is_missing(no_value):
    labels = np.array(["p", "q", "r"], dtype=object)[Y]
    labels[GONE] = no_value
    found = ms.mutualinfo(X[:, 0], labels, y_discrete=True, na_rm=True)
    assert found == pytest.approx(ms.mutualinfo(X[~GONE, 0], Y[~GONE], y_discrete=True))


def test_times_and_complex_numbers_can_be_missing_labels():
    days = np.array(["2020-01-01", "2021-01-01", "2022-01-01"], dtype="datetime64[D]")[Y]
    days[GONE] = np.datetime64("NaT", "D")
    complexes = (Y + 1j).astype(complex)
    complexes[GONE] = complex("nan")
    strings = pd.Series(np.array(["p", "q", "r"])[Y]).astype("string").mask(GONE)
    expected = ms.mutualinfo(X[~GONE, 0], Y[~GONE], y_discrete=True)
    for labels in (days, complexes, strings, days.astype(object)):
        found = ms.mutualinfo(X[:, 0], labels, y_discrete=True, na_rm=True)
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("of", [sp.csc_matrix, sp.csr_array, sp.coo_array])
def test_a_sparse_matrix_has_what_the_full_one_has(of):
    full = np.where(X > 0.5, X, 0.0)
    found = ms.mutual_info_matrix(of(full), Y, y_discrete=True)
    np.testing.assert_allclose(found, ms.mutual_info_matrix(full, Y, y_discrete=True))
    chosen = ms.select_features(of(full), Y, k=2, permutations=9)
    expected = ms.select_features(full, Y, k=2, permutations=9)
    np.testing.assert_array_equal(chosen.p_values, expected.p_values)
    with pytest.raises(TypeError, match=r"x is a sparse matrix; pass x\.toarray\(\)"):
        ms.mutualinfo(of(full), Y, y_discrete=True)


@pytest.mark.parametrize(
    "options",
    [
        {"y_discrete": True},
        {"y_discrete": True, "estimator": "kde"},
        {"y_discrete": True, "x_discrete": True},
        {},
    ],
    ids=str,
)
def test_a_missing_value_is_reported_with_its_column_by_every_estimator(options):
    with pytest.raises(ValueError, match=r"column 1 of X.* has 10 NaN or infinite"):
        ms.mutual_info_matrix(np.column_stack([X[:, 0], HOLED[:, 1]]), Y, **options)


def test_a_column_of_objects_that_is_not_numbers_is_named():
    objects = X.astype(object)
    objects[7, 2] = "seven"
    with pytest.raises(TypeError, match="column 2 of X must be real numbers"):
        ms.mutual_info_matrix(objects, Y, y_discrete=True)


@pytest.mark.parametrize("eps", [float("nan"), float("inf"), -1e-9])
def test_eps_is_a_number_not_below_0(eps):
    with pytest.raises(ValueError, match="eps must be a number, at least 0"):
        ms.mutualinfo(X[:, 0], Y, y_discrete=True, eps=eps)


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
