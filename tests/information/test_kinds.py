"""Columns that are labels beside columns that are numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

import memshare_jupyter as ms
from memshare_jupyter import MutualInfoSelector, mutual_info_matrix, mutualinfo, select_features
from memshare_jupyter.information._blocks import kinds_of

NAMES = ["gene", "grade", "old", "noise", "site", "visits"]
LABELS = [False, True, True, False, True, False]


@pytest.fixture(scope="module")
def cluster():
    made = ms.local_cluster(2, quiet=True)
    yield made
    made.stop()


def study(n=400):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    grade = np.array(["low", "mid", "high"])[np.where(rng.random(n) < 0.5, y, 0)]
    frame = pd.DataFrame(
        {
            "gene": rng.normal(size=n) + y,
            "grade": pd.Categorical(grade),
            "old": rng.random(n) < 0.5,
            "noise": rng.normal(size=n),
            "site": np.array(["A", "B"])[(y > 0).astype(int)],
            "visits": rng.integers(0, 9, n),
        }
    )
    return frame, y


def expected(frame, y, **options):
    return [
        mutualinfo(frame[name], y, x_discrete=label, y_discrete=True, **options)
        for name, label in zip(NAMES, LABELS, strict=True)
    ]


def codes(frame):
    found = frame.copy()
    for name in ("grade", "site"):
        found[name] = pd.factorize(frame[name])[0]
    return found.to_numpy(dtype=float)


@pytest.mark.parametrize(
    "given", ["auto", LABELS, np.array(LABELS), ["site", "grade", "old"]], ids=str
)
def test_each_column_gets_what_its_kind_gets(given):
    frame, y = study()
    found = mutual_info_matrix(frame, y, x_discrete=given, y_discrete=True)
    np.testing.assert_allclose(found, expected(frame, y), rtol=1e-12)


def test_arrays_have_masks_and_the_numbers_of_their_columns():
    frame, y = study()
    for given in (LABELS, [1, 2, 4]):
        for matrix in (codes(frame), np.asfortranarray(codes(frame)), codes(frame).tolist()):
            found = mutual_info_matrix(matrix, y, x_discrete=given, y_discrete=True)
            np.testing.assert_allclose(found, expected(frame, y), rtol=1e-12)
    thin = sparse.csr_array(codes(frame))
    found = mutual_info_matrix(thin, y, x_discrete=LABELS, y_discrete=True)
    np.testing.assert_allclose(found, expected(frame, y), rtol=1e-12)


@pytest.mark.parametrize(
    "made",
    [lambda frame: frame, pl.from_pandas, pa.Table.from_pandas, lambda f: f.to_numpy(dtype=object)],
    ids=["pandas", "polars", "arrow", "objects"],
)
def test_auto_goes_by_dtypes(made):
    frame, _ = study()
    assert select_features(made(frame), study()[1], k=6, x_discrete="auto").discrete is not None
    np.testing.assert_array_equal(kinds_auto(made(frame)), LABELS)


def kinds_auto(matrix):
    return kinds_of("auto", matrix)


@pytest.mark.parametrize(
    ("matrix", "labels"),
    [
        (np.ones((3, 2)), [False, False]),
        (np.ones((3, 2), dtype=bool), [True, True]),
        (np.full((3, 2), "a"), [True, True]),
        (pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": pd.array([True, None])}), [0, 1]),
        (sparse.csr_array(np.eye(3)), [False] * 3),
    ],
)
def test_auto_takes_numbers_for_numbers(matrix, labels):
    np.testing.assert_array_equal(kinds_auto(matrix), labels)


def test_engines_give_the_same_for_frames_arrays_and_pages(cluster):
    frame, y = study()
    with ms.Namespace("kinds") as pages:
        pages["F"], pages["X"], pages["y"] = frame, codes(frame), y
        for matrix, given in (
            *((frame, "auto"), (codes(frame), LABELS), (pages["X"], LABELS)),
            *(("kinds.F", "auto"), ("kinds.X", [1, 2, 4]), (frame.to_numpy(dtype=object), "auto")),
        ):
            found = mutual_info_matrix(
                matrix, "kinds.y", x_discrete=given, y_discrete=True, cluster=cluster
            )
            np.testing.assert_allclose(found, expected(frame, y), rtol=1e-12)
        assert sorted(ms.page_list()) == ["kinds.F", "kinds.X", "kinds.y"]


@pytest.mark.parametrize(
    "options",
    [
        {"k": 4, "permutations": 60},
        {"alpha": 0.05, "permutations": 400},
        {"k": 3, "method": "mrmr"},
        {"k": 3, "method": "jmi"},
        {"k": 3, "method": "cmim"},
    ],
    ids=str,
)
def test_selections_say_which_are_labels_and_are_the_same_on_engines(cluster, options):
    frame, y = study()
    here = select_features(frame, y, x_discrete="auto", **options)
    assert here.names[0] == "site"
    np.testing.assert_array_equal(here.discrete, np.array(LABELS)[here.columns])
    there = select_features(frame, y, x_discrete="auto", cluster=cluster, **options)
    assert there.names == here.names
    np.testing.assert_allclose(there.values, here.values, rtol=1e-12)
    if here.p_values is not None:
        np.testing.assert_array_equal(there.p_values, here.p_values)
    assert repr(here).splitlines()[1].split()[:3] == ["rank", "feature", "kind"]
    assert here.to_frame().loc["site", "kind"] == "labels"
    assert "<td>numbers</td>" in here._repr_html_()


def test_where_all_are_numbers_nothing_is_said_of_kinds():
    frame, y = study()
    found = select_features(codes(frame), y, k=2)
    assert found.discrete is None
    assert "kind" not in repr(found)


def test_names_given_to_a_selection_are_the_names_of_labels():
    frame, y = study()
    found = select_features(codes(frame), y, k=6, names=NAMES, x_discrete=["grade"])
    assert [name for name, kind in zip(found.names, found.discrete, strict=True) if kind] == [
        "grade"
    ]


def test_the_selector_asks_dtypes_too():
    frame, y = study()
    found = MutualInfoSelector(k=2, x_discrete="auto").fit(frame, y)
    expected_names = select_features(frame, y, k=2, x_discrete="auto").names
    assert [NAMES[name] for name in found.selected_.names] == expected_names
    assert set(found.get_feature_names_out()) == set(expected_names)
    assert found.selected_.discrete.any()
    assert found.transform(frame).shape == (400, 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([True, False], "x_discrete has length 2, and X has 6 columns"),
        (["grade", "stage"], "names 'stage', but the columns of X are 'gene', 'grade'"),
        ("all", "a mask or names, not 'all'"),
    ],
)
def test_what_names_no_columns_is_refused(given, message):
    frame, y = study(50)
    with pytest.raises(ValueError, match=message):
        mutual_info_matrix(frame, y, x_discrete=given, y_discrete=True)


def test_errors_name_columns_of_either_kind(cluster):
    frame, y = study(50)
    numbers = codes(frame)
    numbers[7, 3] = np.nan
    labels = codes(frame)
    labels[7, 4] = np.nan
    for where in (None, cluster):
        for matrix, column in ((numbers, 3), (labels, 4)):
            with pytest.raises(ValueError, match=f"column {column} of X.* 1 NaN"):
                mutual_info_matrix(matrix, y, x_discrete=LABELS, y_discrete=True, cluster=where)
    with pytest.raises(ValueError, match="column 4 of X has 1 NaN"):
        select_features(labels, y, k=2, method="mrmr", x_discrete=LABELS)


def test_stepwise_tells_256_labels_apart_and_no_more():
    y = np.arange(600) % 2
    X = np.column_stack([np.arange(600) % 257, np.arange(600)])
    with pytest.raises(ValueError, match="column 0 of X has 257 labels"):
        select_features(X, y, k=1, method="cmim", x_discrete=[0])
    assert len(select_features(X // 2, y, k=1, method="cmim", x_discrete=[0])) == 1
