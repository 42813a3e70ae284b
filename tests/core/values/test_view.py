"""Views: what stays a view, what becomes a plain array, and how they travel."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import shelve

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.errors import PageNotFoundError

SHARED = {
    "slice": lambda x: x[1:3],
    "column": lambda x: x[:, 2],
    "reversed": lambda x: x[::-1, ::-2],
    "ellipsis": lambda x: x[...],
    "new axis": lambda x: x[:, None],
    "transposed": lambda x: x.T,
    "swapped axes": lambda x: x.swapaxes(0, 1),
    "reshaped": lambda x: x.reshape(-1),
    "raveled": lambda x: x.ravel(),
    "squeezed": lambda x: x[:1].squeeze(),
    "diagonal": lambda x: x.diagonal(),
    "bytes": lambda x: x.view(np.uint8),
    "same dtype": lambda x: x.astype(float, copy=False),
    "np.transpose": np.transpose,
    "np.atleast_3d": np.atleast_3d,
    "np.broadcast_to": lambda x: np.broadcast_to(x, (2, 4, 6), subok=True),
}
PLAIN = {
    "sum": lambda x: x + 1,
    "from the right": lambda x: 1 - x,
    "with itself": lambda x: x * x,
    "negative": operator.neg,
    "comparison": lambda x: x > 3,
    "matrix product": lambda x: x @ x.T,
    "ufunc": np.exp,
    "outer": lambda x: np.add.outer(x[0], x[1]),
    "accumulate": np.add.accumulate,
    "reduce": lambda x: x.sum(axis=0),
    "mean": lambda x: x.mean(axis=1),
    "cumsum": lambda x: x.cumsum(),
    "copy": lambda x: x.copy(),
    "np.copy": np.copy,
    "np.array": lambda x: np.array(x, copy=True),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "fancy index": lambda x: x[[0, 2]],
    "mask": lambda x: x[x > 3],
    "astype": lambda x: x.astype(np.float32),
    "take": lambda x: x.take([0, 1]),
    "repeat": lambda x: x.repeat(2),
    "compress": lambda x: x.compress([True, False], 0),
    "flatten": lambda x: x.flatten(),
    "ravel that copies": lambda x: x.T.ravel(),
    "reshape that copies": lambda x: x.T.reshape(-1),
    "round": lambda x: x.round(),
    "clip": lambda x: x.clip(1, 2),
    "argsort": lambda x: x.argsort(),
    "dot": lambda x: x.dot(x.T),
    "conjugate of complex": lambda x: (x * 1j).conj(),
    "byteswap": lambda x: x.byteswap(),
    "np.sort": np.sort,
    "np.concatenate": lambda x: np.concatenate([x, x]),
    "np.vstack": lambda x: np.vstack([x, x]),
    "np.where": lambda x: np.where(x > 3, x, 0),
    "np.linalg.inv": lambda x: np.linalg.inv(x[:4, :4] + np.eye(4)),
    "np.unique": np.unique,
    "np.diff": np.diff,
    "np.zeros_like": np.zeros_like,
    "np.full_like": lambda x: np.full_like(x, 3),
    "np.nan_to_num": np.nan_to_num,
}
WRITES = {
    "item": lambda x: operator.setitem(x, (0, 0), 1),
    "slice": lambda x: operator.setitem(x, slice(1), 1),
    "of a slice": lambda x: operator.setitem(x[1:], 0, 1),
    "augmented": lambda x: operator.iadd(x, 1),
    "augmented slice": lambda x: operator.imul(x[2:], 2),
    "sort": lambda x: x.sort(),
    "fill": lambda x: x.fill(0),
    "put": lambda x: x.put([0], 1),
    "partition": lambda x: x.partition(1),
}
OTHER_WRITES = {
    "out": lambda x: np.add(x, 1, out=x),
    "out of reduce": lambda x: np.add.reduce(x, out=x[0]),
    "out of another": lambda x: np.exp(np.ones((4, 6)), out=x),
    "byteswap": lambda x: x.byteswap(inplace=True),
    "flat": lambda x: operator.setitem(x.flat, 0, 1),
    "copyto": lambda x: np.copyto(x, 0),
    "at": lambda x: np.add.at(x, 0, 1),
    "resize": lambda x: x.resize(1),
    "shuffle": lambda x: np.random.default_rng(0).shuffle(x),
}
VALUES = np.arange(24.0).reshape(4, 6)


def table(cases):
    return pytest.mark.parametrize("do", cases.values(), ids=cases.keys())


@pytest.fixture
def page():
    ms.register_variables("n", {"x": VALUES})
    yield
    process.registry().gc("n")


def attached():
    return ms.Namespace("n")["x"]


@table(SHARED)
def test_what_shares_the_memory_is_a_view(page, do):
    x = attached()
    got = do(x)
    assert type(got) is ms.View
    assert (got.shared, got.page) == (True, "n.x")
    assert np.shares_memory(got, x)
    assert np.array_equal(got, do(VALUES))
    assert not got.flags.writeable


@table(PLAIN)
def test_what_has_memory_of_its_own_is_a_plain_array(page, do):
    x = attached()
    got = do(x)
    assert type(got) is np.ndarray
    assert not np.shares_memory(got, x)
    assert got.flags.writeable
    assert np.array_equal(got, do(VALUES))


@pytest.mark.parametrize("do", [np.sum, np.mean, np.max, lambda x: x[0, 0], lambda x: x.std()])
def test_a_single_number_is_a_number(page, do):
    assert isinstance(do(attached()), np.float64)


def test_an_array_without_dimensions_is_a_view_too():
    ms.register_variables("n", {"x": np.array(5)})
    x = attached()
    assert type(x) is ms.View
    assert (x.shape, x.shared, x[()], int(x), x + 1) == ((), True, 5, 5, 6)
    assert type(pickle.loads(pickle.dumps(x))) is ms.View
    ms.release_variables("n", "x")


def test_an_empty_array_is_a_view_too():
    ms.register_variables("n", {"x": np.zeros((0, 3), np.int16)})
    x = attached()
    assert (type(x), x.shape, x.dtype) == (ms.View, (0, 3), np.int16)
    assert x.T.shape == (3, 0)
    assert pickle.loads(pickle.dumps(x)).shape == (0, 3)
    ms.release_variables("n", "x")


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_view_has_the_memory_order_of_what_was_registered(order):
    ms.register_variables("n", {"x": np.asarray(VALUES, order=order)})
    assert attached().flags[f"{order}_CONTIGUOUS"]
    assert attached().strides == np.asarray(VALUES, order=order).strides
    ms.release_variables("n", "x")


@table(WRITES)
def test_a_write_is_refused_and_the_way_out_is_shown(page, do):
    with pytest.raises(ValueError, match=r"view of n\.x is read-only.*x = x\.copy\(\)"):
        do(attached())
    assert np.array_equal(attached(), VALUES)


@table(OTHER_WRITES)
def test_no_method_writes_to_a_view(page, do):
    with pytest.raises(ValueError, match=r"read-only|read only|does not own|cannot resize"):
        do(attached())
    assert np.array_equal(attached(), VALUES)


def test_a_view_can_be_an_operand_of_a_write_elsewhere(page):
    target = np.zeros((4, 6))
    target += attached()
    assert np.array_equal(np.add(attached(), 1, out=target), VALUES + 1)
    assert np.array_equal(target, VALUES + 1)


def test_operands_of_other_kinds_still_have_their_say(page):
    class Loud:
        def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
            return "mine"

    assert attached() + Loud() == "mine"
    assert (
        np.ma.masked_array(VALUES, VALUES > 3).sum()
        == (attached() + np.ma.masked_array(VALUES * 0, VALUES > 3)).sum()
    )


def test_a_failed_reduction_does_not_keep_the_page(page):
    for fail in (lambda x: x.sum(axis=9), lambda x: np.add.reduce(x, axis=9), lambda x: x + "a"):
        with pytest.raises((ValueError, TypeError)):
            fail(attached())
    gc.collect()
    assert ms.view_list() == []


# --- pickling ----------------------------------------------------------------------------


@table(SHARED)
def test_a_view_travels_by_reference(page, child, do):
    x = do(attached())
    sent = pickle.dumps(x)
    assert len(sent) < 1000
    there = child("got = None")
    there.run(f"import pickle; got = pickle.loads({sent!r})")
    assert there.eval("type(got) is ms.View and got.shared")
    assert there.eval("got.shape, got.strides, got.dtype.str") == (x.shape, x.strides, x.dtype.str)
    assert there.eval("got.tolist()") == x.tolist()
    assert there.eval("ms.view_list()") == ["n.x"]
    there.run("del got")
    assert there.eval("ms.view_list()") == []


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_sends_a_reference(page, protocol):
    x = attached()
    sent = pickle.dumps(x[1:], protocol)
    assert len(sent) < 1000
    assert np.shares_memory(pickle.loads(sent), x)


def test_a_structured_view_travels_by_reference():
    array = np.zeros(100, [("a", "i4"), ("b", "f8", (3,)), ("c", "S5")])
    ms.register_variables("n", {"x": array})
    sent = pickle.dumps(attached()["b"])
    assert len(sent) < 1000
    assert pickle.loads(sent).shape == (100, 3)
    ms.release_variables("n", "x")


def test_a_view_and_its_slice_in_one_pickle_share_their_memory(page):
    x = attached()
    got, part = pickle.loads(pickle.dumps((x, x[2:])))
    assert np.shares_memory(got, part)


def test_what_a_view_became_travels_by_value(page):
    for do in (lambda x: x + 1, lambda x: x.copy(), lambda x: x[[0, 1]], lambda x: x.T.reshape(-1)):
        sent = pickle.dumps(do(attached()))
        ms.view_list()
        assert type(pickle.loads(sent)) is np.ndarray
        assert np.array_equal(pickle.loads(sent), do(VALUES))


def test_a_list_travels_by_reference(child):
    ms.register_variables("n", {"x": [np.ones(1000), np.arange(3)]})
    elements = process.registry().attach("n", "x", hold=False)
    sent = pickle.dumps(elements)
    assert len(sent) < 1000
    there = child(f"import pickle; got = pickle.loads({sent!r})")
    assert there.eval("len(got), got[1].tolist()") == (2, [0, 1, 2])
    del elements
    ms.release_variables("n", "x")


def test_a_reference_to_a_page_that_is_gone_says_so(child):
    ms.register_variables("n", {"x": VALUES})
    sent = pickle.dumps(attached())
    ms.release_variables("n", "x")
    with pytest.raises(
        PageNotFoundError, match=r"n\.x that was sent here is gone: its last holder"
    ):
        pickle.loads(sent)
    with pytest.raises(PageNotFoundError, match="keep the view until it has arrived"):
        child(f"import pickle; sent = {sent!r}").run("pickle.loads(sent)")


def test_a_reference_leads_to_its_page_even_when_the_name_means_another(page, child):
    old = attached()
    sent = pickle.dumps(old)
    ms.register_variables("n", {"x": np.zeros(2)})
    there = child(f"import pickle; got = pickle.loads({sent!r})")
    assert there.eval("got.tolist()") == VALUES.tolist()


def test_a_pickle_in_a_file_whose_page_is_gone_says_how_to_store_data(page):
    sent = pickle.dumps(attached())
    ms.release_variables("n", "x")
    with pytest.raises(PageNotFoundError, match=r"in a file.*holds no data.*np\.save.*x\.copy"):
        pickle.loads(sent)


def stored_by_joblib(view, path):
    joblib = pytest.importorskip("joblib", reason="needs joblib")
    joblib.dump({"x": [view]}, path)
    return lambda: joblib.load(path)["x"][0]


def stored_by_pandas(view, path):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    pandas.to_pickle((view, 1), path)
    return lambda: pandas.read_pickle(path)[0]


def stored_by_shelve(view, path):
    with shelve.open(str(path)) as shelf:
        shelf["x"] = view

    def load():
        with shelve.open(str(path)) as shelf:
            return shelf["x"]

    return load


def stored_by_numpy(view, path):
    path = path.with_suffix(".npy")
    np.save(path, view)
    return lambda: np.load(path)


@pytest.mark.parametrize(
    "store", [stored_by_joblib, stored_by_pandas, stored_by_shelve, stored_by_numpy]
)
@pytest.mark.parametrize("cut", [lambda x: x, lambda x: x[1:, ::2].T])
def test_what_writes_files_stores_the_data_of_a_view(page, tmp_path, store, cut):
    load = store(cut(attached()), tmp_path / "x")
    ms.release_variables("n", "x")
    found = load()
    assert type(found) is np.ndarray
    assert np.array_equal(found, cut(VALUES))


def test_store_of_the_notebook_stores_the_data_of_a_view(page, tmp_path):
    pickleshare = pytest.importorskip(
        "IPython.external.pickleshare", reason="needs an IPython with %store"
    )
    shop = pickleshare.PickleShareDB(tmp_path)
    shop["x"] = attached()
    ms.release_variables("n", "x")
    assert np.array_equal(pickleshare.PickleShareDB(tmp_path)["x"], VALUES)


def test_a_list_in_a_file_is_stored_as_its_data(tmp_path):
    joblib = pytest.importorskip("joblib", reason="needs joblib")
    ms.register_variables("n", {"x": [np.ones(3), np.arange(2)]})
    joblib.dump(process.registry().attach("n", "x", hold=False), tmp_path / "x")
    ms.release_variables("n", "x")
    assert [x.tolist() for x in joblib.load(tmp_path / "x")] == [[1, 1, 1], [0, 1]]


# --- lifetime ----------------------------------------------------------------------------


def test_a_slice_alone_keeps_its_values_through_release_and_registration(page, listed, truth):
    part = attached()[1:3, ::2]
    expected = part.tolist()
    gc.collect()
    for _ in range(3):
        ms.register_variables("n", {"x": np.full((4, 6), -1.0)})
    ms.release_variables("n", "x")
    gc.collect()
    assert part.tolist() == expected
    assert listed() == truth()
    del part
    gc.collect()
    assert listed() == truth() == {}


KEPT = {
    "a plain array on it": np.asarray,
    "a memoryview": memoryview,
    "an iterator": iter,
    "a flat iterator": lambda x: x.flat,
    "a buffer array": lambda x: np.frombuffer(x[0], np.uint8),
    "a pickled and unpickled view": lambda x: pickle.loads(pickle.dumps(x)),
    "the ctypes object": lambda x: x.ctypes,
    "the base": lambda x: x.base,
}


@table(KEPT)
def test_whatever_uses_the_memory_keeps_it(do, child, listed, truth):
    child("ms.register_variables('n', {'x': np.arange(24.).reshape(4, 6)})")
    kept = do(attached())
    gc.collect()
    assert ms.view_list() == ["n.x"]
    assert listed() == truth()
    del kept
    gc.collect()
    assert ms.view_list() == []
    assert listed() == truth()


def test_a_view_outlives_the_session_of_its_process(child):
    one = child("ms.register_variables('n', {'x': np.arange(5)})")
    one.run("x = ms.Namespace('n')['x']; process.close()")
    assert one.eval("x.tolist()") == [0, 1, 2, 3, 4]
    assert one.eval("(ms.page_list(), ms.view_list())") == ([], [])
    one.run("del x; gc.collect()")
    assert one.eval("held_here(), os.listdir('/proc/self/fd') != []") == ([], True)


def test_elements_of_a_list_keep_the_page():
    ms.register_variables("n", {"l": [np.arange(3), np.ones((2, 2))]})
    element = ms.retrieve_views("n", "l")["l"][0]
    assert ms.release_views("n", "l") == ["n.l"]
    ms.release_variables("n", "l")
    gc.collect()
    assert (type(element), element.tolist()) == (ms.View, [0, 1, 2])
