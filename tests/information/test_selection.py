from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter import mutual_info_matrix, mutual_info_score_func, select_features


@pytest.fixture(scope="module")
def cluster():
    made = ms.local_cluster(2, quiet=True)
    yield made
    made.stop()


@pytest.fixture
def shared():
    """Return names and values of pages with the study."""
    with ms.Namespace("rna") as namespace:
        namespace["X"], namespace["y"] = study()
        yield namespace


def study(n=200, k=8):
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, size=n)
    X = rng.normal(size=(n, k))
    X[:, 5] += 2.0 * y
    X[:, 2] += 1.0 * y
    X[:, 7] = X[:, 2]
    return X, y


def test_best_come_first_with_their_names_values_and_ranks():
    X, y = study()
    found = select_features(X, y, k=4, names=list("abcdefgh"))
    values = mutual_info_matrix(X, y, y_discrete=True, transform="normal")
    assert found.names[:3] == ["f", "c", "h"]
    np.testing.assert_array_equal(found.columns[:3], [5, 2, 7])
    np.testing.assert_array_equal(found.values, values[found.columns])
    np.testing.assert_array_equal(found.ranks, [1, 2, 2, 4])
    assert len(found) == 4
    lines = repr(found).splitlines()
    assert lines[0] == "4 features"
    assert [line.split() for line in lines[1:3]] == [
        ["rank", "feature", "value"],
        ["1", "f", f"{values[5]:.4g}"],
    ]


def test_threshold_selects_all_that_reach_it():
    X, y = study()
    values = mutual_info_matrix(X, y, y_discrete=True, transform="normal")
    found = select_features(X, y, threshold=values[2])
    assert found.names == [5, 2, 7]
    assert len(select_features(X, y, threshold=10.0)) == 0


def test_names_of_a_frame_are_taken():
    pandas = pytest.importorskip("pandas")
    X, y = study()
    frame = pandas.DataFrame(X, columns=list("abcdefgh"))
    assert select_features(frame, y, k=1).names == ["f"]


def test_p_values_by_permutation_tell_informative_from_other_features():
    X, y = study()
    found = select_features(X, y, k=8, permutations=99)
    p_of = dict(zip(found.names, found.p_values, strict=True))
    assert p_of[5] == p_of[2] == p_of[7] == 0.01  # 1 of 100: none as high as the given order
    # Five p-values of independent columns: all five at most 0.05 has a chance of 3e-7.
    assert max(p_of[c] for c in (0, 1, 3, 4, 6)) > 0.05
    again = select_features(X, y, k=8, permutations=99)
    np.testing.assert_array_equal(found.p_values, again.p_values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either k"),
        ({"k": 1, "threshold": 0.1}, "either k"),
        ({"k": 1, "names": ["a"]}, "names has length 1, and X has 8 columns"),
    ],
)
def test_wrong_choices_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        select_features(*study(), **options)


def test_scikit_learn_selects_by_the_score():
    selection = pytest.importorskip("sklearn.feature_selection")
    X, y = study()
    X.flags.writeable = False  # as views of shared memory are
    chosen = selection.SelectKBest(mutual_info_score_func, k=3).fit(X, y)
    np.testing.assert_array_equal(np.flatnonzero(chosen.get_support()), [2, 5, 7])


def test_scikit_learn_selects_from_views_by_the_score(shared):
    selection = pytest.importorskip("sklearn.feature_selection")
    chosen = selection.SelectKBest(mutual_info_score_func, k=3).fit(shared["X"], shared["y"])
    np.testing.assert_array_equal(np.flatnonzero(chosen.get_support()), [2, 5, 7])


def test_engines_give_what_this_process_gives_for_arrays_views_and_names(cluster, shared):
    X, y = study()
    here = mutual_info_matrix(X, y, y_discrete=True)
    fortran = np.asfortranarray(X)
    for matrix, labels, options in (
        ("rna.X", y, {}),
        ("rna.X", "rna.y", {"cluster": cluster}),
        ("X", "y", {"namespace": "rna"}),
        ("rna.X", "y", {"namespace": "rna", "max_cores": 1}),
        (shared["X"], shared["y"], {"cluster": cluster.client}),
        (shared["X"], y, {}),
        (X, y, {"cluster": cluster.view(2)}),
        (fortran, y, {"max_cores": 2}),
        (X.tolist(), y.tolist(), {"cluster": cluster, "namespace": "rna"}),
    ):
        found = mutual_info_matrix(matrix, labels, y_discrete=True, **options)
        assert found.dtype == np.float64
        # The tables of some columns are smoothed together: which ones changes the last digit.
        np.testing.assert_allclose(found, here, rtol=1e-12)
    assert sorted(ms.page_list()) == ["rna.X", "rna.y"]


@pytest.mark.parametrize("options", [{}, {"x_discrete": True}, {"y_discrete": True, "base": 2}])
def test_engines_take_every_option(cluster, options):
    X, y = study(60)
    X = np.round(X)
    here = mutual_info_matrix(X, y, **options)
    np.testing.assert_allclose(mutual_info_matrix(X, y, cluster=cluster, **options), here)


def test_a_column_that_cannot_be_used_gets_the_same_error_from_engines_as_here(cluster):
    X, y = study(50, 300)
    X[3, 211] = np.nan
    messages = []
    for where in (None, cluster):
        with pytest.raises(ValueError, match="na_rm=True") as caught:
            mutual_info_matrix(X, y, y_discrete=True, cluster=where)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("column 211 of X has 1 NaN or infinite value among 50")
    expected = mutual_info_matrix(X, y, y_discrete=True, na_rm=True)
    found = mutual_info_matrix(X, y, y_discrete=True, na_rm=True, cluster=cluster)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        (np.ones(3), [1, 2, 3], ValueError, r"has shape \(3,\)"),
        (np.ones((3, 2)), [1, 2], ValueError, r"2 values of y, but has shape \(3, 2\)"),
        (np.ones((3, 2)), ["a", "b", None], ValueError, "^y has 1 NaN"),
        (np.full((3, 2), "a"), [1, 0, 1], TypeError, "X must be real"),
        ("rna.Z", [1, 0, 1], ms.PageNotFoundError, "no page rna.Z"),
        ("Z", [1, 0, 1], ms.InvalidNameError, "write namespace.variable"),
        (np.ones((3, 2)), "rna.z", ms.PageNotFoundError, "no page rna.z"),
    ],
)
def test_wrong_input_is_named_by_engines_too(cluster, X, y, error, message):
    with pytest.raises(error, match=message):
        mutual_info_matrix(X, y, y_discrete=True, cluster=cluster)
    assert ms.page_list() == []


def test_a_matrix_without_columns_has_no_values_on_engines_either(cluster):
    found = mutual_info_matrix(np.ones((5, 0)), np.arange(5), y_discrete=True, cluster=cluster)
    assert (found.shape, found.dtype) == ((0,), np.float64)


def test_features_and_p_values_are_the_same_from_engines(cluster, shared):
    here = select_features(*study(), k=4, permutations=40)
    there = select_features("rna.X", "rna.y", k=4, permutations=40, cluster=cluster)
    assert here.names == there.names
    np.testing.assert_allclose(here.values, there.values, rtol=1e-12)
    np.testing.assert_array_equal(here.p_values, there.p_values)
    assert sorted(ms.page_list()) == ["rna.X", "rna.y"]


def test_names_of_a_shared_frame_are_taken(cluster):
    pandas = pytest.importorskip("pandas")
    X, y = study()
    with ms.Namespace("frames") as namespace:
        namespace["X"] = pandas.DataFrame(X, columns=list("abcdefgh"))
        assert select_features("frames.X", y, k=2).names == ["f", "c"]


@pytest.mark.parametrize("module", ["_matrix", "_selection"])
def test_examples(cluster, module):
    pytest.importorskip("sklearn")
    found = doctest.testmod(importlib.import_module(f"memshare_jupyter.information.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
