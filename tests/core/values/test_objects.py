"""Frames, tables, sparse matrices and models are shared like arrays: rebuilt on the page."""

from __future__ import annotations

import gc
import os
import types

import numpy as np
import pytest
import scipy.sparse

import memshare_jupyter as ms

pandas = pytest.importorskip("pandas", reason="needs pandas")

N = 50_000


@pytest.fixture
def study():
    with ms.Namespace("study") as namespace:
        yield namespace


def frame():
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "a": rng.normal(size=N),
            "b": rng.integers(0, 9, N),
            "text": [f"gene {i % 97}" for i in range(N)],
            "kind": pandas.Categorical(["x", "y"] * (N // 2)),
            "when": pandas.date_range("2020", periods=N, freq="s"),
        },
        index=pandas.Index(range(7, N + 7), name="row"),
    )


def addresses_of_pages():
    """Address ranges at which this process has pages mapped."""
    with open("/proc/self/maps") as maps:
        lines = [line for line in maps if "memfd:memshare:" in line]
    return [tuple(int(x, 16) for x in line.split()[0].split("-")) for line in lines]


def in_a_page(array):
    at = array.__array_interface__["data"][0]
    return any(low <= at < high for low, high in addresses_of_pages())


def test_a_frame_comes_back_equal_with_its_numbers_in_the_page(study):
    study["df"] = df = frame()
    got = study["df"]
    pandas.testing.assert_frame_equal(got, df)
    for column in ("a", "b", "when"):
        assert in_a_page(got[column].to_numpy())
        assert not in_a_page(df[column].to_numpy())
    assert in_a_page(got["kind"].array.codes)


def test_a_shared_frame_cannot_be_written(study):
    study["df"] = frame()
    got = study["df"]
    with pytest.raises(ValueError, match="read-only"):
        got["a"].to_numpy()[0] = 1


def test_a_series_keeps_index_and_name(study):
    study["s"] = series = pandas.Series(np.arange(9.0), index=list("abcdefghi"), name="score")
    pandas.testing.assert_series_equal(study["s"], series)


def test_the_page_lives_as_long_as_the_objects_rebuilt_on_it(study):
    study["df"] = frame()
    column = study["df"]["a"].to_numpy()
    total = float(column.sum())
    del study["df"]
    gc.collect()
    assert [page.state for page in ms.snapshot().pages] == ["draining"]
    assert float(column.sum()) == total
    del column
    gc.collect()
    assert ms.snapshot().pages == ()


def test_another_process_reads_a_frame_without_a_copy(study, child):
    study["df"] = df = frame()
    other = child("import pandas; df = ms.Namespace('study')['df']")
    assert other.eval("float(df['a'].sum())") == float(df["a"].sum())
    assert other.eval("df['text'].iloc[5]") == "gene 5"
    assert ms.retrieve_metadata("study", "df")["df"].views == 1


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_sparse_matrices_are_shared(study, form):
    study["S"] = matrix = scipy.sparse.random(300, 200, 0.05, format=form, rng=1)
    got = study["S"]
    assert (got != matrix).nnz == 0
    assert got.format == form
    assert in_a_page(got.data)


def test_arrow_tables_are_shared(study):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    study["t"] = table = pyarrow.table({"x": np.arange(N), "s": [str(i) for i in range(N)]})
    got = study["t"]
    assert got.equals(table)
    assert in_a_page(got["x"].chunk(0).to_numpy())


def test_polars_frames_are_shared(study):
    polars = pytest.importorskip("polars", reason="needs polars")
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    study["p"] = table = polars.DataFrame({"x": np.arange(N), "s": [str(i) for i in range(N)]})
    got = study["p"]
    assert got.equals(table)
    assert in_a_page(got["x"].to_numpy())


def test_fitted_models_are_shared(study):
    ensemble = pytest.importorskip("sklearn.ensemble", reason="needs scikit-learn")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 5)), rng.integers(0, 2, 300)
    model = ensemble.RandomForestClassifier(5, random_state=0).fit(X, y)
    study["model"] = model
    np.testing.assert_array_equal(study["model"].predict(X), model.predict(X))


def test_metadata_of_polars_has_its_own_words(study):
    polars = pytest.importorskip("polars")
    study["v"] = polars.DataFrame({"a": [0.5], "b": [1.5]})
    page = ms.retrieve_metadata("study", "v")["v"]
    assert (page.kind, page.dtype, page.shape) == ("polars.DataFrame", "Float64", (1, 2))


@pytest.mark.parametrize(
    ("value", "kind", "dtype", "shape"),
    [
        (np.zeros((3, 4), "f4", order="F"), "array", "float32", (3, 4)),
        ([np.zeros(3), 1], "list", "", (2,)),
        ((1, 2, 3), "tuple", "", (3,)),
        ({"a": np.zeros(3)}, "dict", "", (1,)),
        ("text", "str", "", ()),
        (pandas.DataFrame({"a": [1, 2]}), "pandas.DataFrame", "int64", (2, 1)),
        (pandas.DataFrame({"a": [1, 2], "b": 0.5}), "pandas.DataFrame", "", (2, 2)),
        (pandas.DataFrame({}), "pandas.DataFrame", "", (0, 0)),
        (pandas.DataFrame({"dtype": [1.0]}), "pandas.DataFrame", "float64", (1, 1)),
        (pandas.Series([1.0, 2.0]), "pandas.Series", "float64", (2,)),
        (scipy.sparse.eye_array(3, format="csr"), "scipy.csr_array", "float64", (3, 3)),
    ],
)
def test_metadata_tells_kind_dtype_and_shape(study, value, kind, dtype, shape):
    study["v"] = value
    page = ms.retrieve_metadata("study", "v")["v"]
    assert (page.kind, page.dtype, page.shape) == (kind, dtype, shape)
    assert page.owner_pid == os.getpid()
    assert page.size_bytes > 0
    assert page.writable is False
    assert ms.view_list() == []


def test_one_element_of_a_list_is_reached_without_touching_the_others(study):
    big = 64 << 20
    study["parts"] = [np.ones(big // 8), {"small": np.arange(3)}, np.ones(big // 8)]
    from memshare_jupyter.core.registry._process import registry

    elements = registry().attach("study", "parts", hold=False)
    assert elements[1]["small"].tolist() == [0, 1, 2]
    with open("/proc/self/smaps") as smaps:
        sections = smaps.read().split("memfd:memshare:")[1:]
    resident = [int(s.split("\nRss:")[1].split()[0]) << 10 for s in sections]
    assert max(resident) < 1 << 20


def test_a_class_that_the_viewer_lacks_is_explained(study, child):
    study["s"] = scipy.sparse.eye_array(3, format="csr")
    other = child("import sys; sys.modules['scipy.sparse'] = None; sys.modules['scipy'] = None")
    with pytest.raises(ms.UnsupportedValueError, match="install what it needs"):
        other.run("ms.Namespace('study')['s']")
    assert other.eval("ms.view_list()") == []


def test_what_a_class_says_of_its_module_may_be_anything():
    """As Cython's functions do, which the pickles of some pandas hold."""

    class Compiled:
        def __reduce__(self):
            return int, (3,)

    Compiled.__module__ = property(lambda self: "compiled")
    with ms.Namespace("n") as ns:
        ns["x"] = types.SimpleNamespace(made=Compiled(), array=np.arange(4.0))
        assert ns["x"].made == 3
        assert ns["x"].array.tolist() == [0, 1, 2, 3]
