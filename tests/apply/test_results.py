"""What memapply returns: arrays, pages, exceptions in the place of results, futures; and frames."""

from __future__ import annotations

import asyncio
import functools
import operator
import time
from concurrent.futures import CancelledError

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import memshare_jupyter as ms
from memshare_jupyter.apply import current_runs

X = np.arange(12.0).reshape(3, 4)


# --- arrays ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fun", "expected"),
    [
        (np.sum, X.sum(axis=0)),
        (lambda v: int(v[0]), np.arange(4)),
        (lambda v: bool(v[0] > 1), np.array([False, False, True, True])),
        (np.cumsum, np.cumsum(X, axis=0).T),
        (lambda v: np.outer(v, v).astype(np.float32), X.T[:, :, None] * X.T[:, None, :]),
        (lambda v: v, X.T),
        (lambda v: v[:0], np.empty((4, 0))),
        (lambda v: np.datetime64(int(v[0]), "D"), np.arange(4).astype("M8[D]")),
    ],
)
def test_numbers_and_arrays_of_one_shape_make_one_array(view, fun, expected):
    found = ms.memapply(X, "cols", fun, cluster=view, out="array")
    np.testing.assert_array_equal(found, expected)
    assert type(found) is np.ndarray
    if found.size:
        found[0] = found[-1]  # it is the caller's own, to be written to
    assert ms.snapshot().pages == ()


def test_results_of_several_dtypes_are_promoted_as_numpy_would(view):
    def fun(row):
        time.sleep(0.001)  # so that both engines take part
        i = int(row[0])
        return i if i % 3 else i + 0.5

    rows = np.arange(60).reshape(60, 1)
    found = ms.memapply(rows, "rows", fun, cluster=view, out="array")
    np.testing.assert_array_equal(found, [fun(row) for row in rows])


def test_batches_make_one_array_too(view):
    found = ms.memapply(X, "cols", lambda b: (b * 2).T, cluster=view, batch=True, out="array")
    np.testing.assert_array_equal(found, 2 * X.T)


@pytest.mark.parametrize(
    ("fun", "error", "says"),
    [
        (lambda v: np.ones(int(v[0])), ValueError, r"item 0 has shape \(0,\), that of item 1"),
        (lambda v: None, TypeError, "not NoneType"),
        (lambda v: {"a": 1}, TypeError, "not dict"),
    ],
)
def test_what_makes_no_array_is_an_error_that_says_why(view, fun, error, says):
    with pytest.raises(error, match=says):
        ms.memapply(X, "cols", fun, cluster=view, out="array")
    assert ms.snapshot().pages == ()


def test_results_stay_registered_under_a_name(view, study):
    study["X"] = X
    found = ms.memapply("study.X", "cols", np.cumsum, cluster=view, out="sums")
    assert found.page == "study.sums"
    np.testing.assert_array_equal(found, np.cumsum(X, axis=0).T)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0
    (page,) = [page for page in ms.snapshot().pages if page.variable == "sums"]
    assert (page.dtype, page.shape, page.views) == ("float64", (4, 3), 1)
    doubled = ms.memapply("study.sums", "rows", lambda v: v * 2, cluster=view, out="study.sums")
    np.testing.assert_array_equal(doubled, 2 * found)  # the old values stay with who has them
    np.testing.assert_array_equal(study["sums"], doubled)
    del found, doubled


def test_a_name_for_results_follows_the_rules_for_names(view, study):
    study["X"] = X
    found = ms.memapply(X, "cols", np.sum, "study", view, out="sums")
    assert found.page == "study.sums"
    empty = ms.memapply(X[:, :0], "cols", np.sum, cluster=view, out="study.none")
    assert (empty.shape, empty.page) == ((0,), "study.none")
    mixed = ms.memapply(X, "cols", lambda v: 1 if v[0] else 0.5, cluster=view, out="study.mixed")
    np.testing.assert_array_equal(mixed, [0.5, 1, 1, 1])
    with pytest.raises(ms.InvalidNameError):
        ms.memapply(X, "cols", np.sum, cluster=view, out="")
    with pytest.raises(TypeError, match="'list', 'array' or a name"):
        ms.memapply(X, "cols", np.sum, cluster=view, out=list)


@pytest.mark.slow
def test_named_results_are_a_page_of_any_backend(view, pages_as):
    found = ms.memapply(X, "cols", np.cumsum, cluster=view, out="study.sums")
    np.testing.assert_array_equal(found, np.cumsum(X, axis=0).T)
    assert ms.page_list() == ["study.sums"], pages_as
    del found
    ms.release_variables("study", "sums")


def test_an_array_that_does_not_fit_is_refused_before_it_is_made(view):
    with pytest.raises(ms.MemApplyError, match="the array of the results: it needs") as caught:
        ms.memapply(
            np.zeros((10**6, 1)),
            "rows",
            lambda v: np.broadcast_to(np.zeros(1), 2 * 10**6),
            cluster=view,
            out="array",
        )
    assert isinstance(caught.value.__cause__, ms.NotEnoughMemoryError)


# --- exceptions as results ---------------------------------------------------------------


def test_exceptions_stand_in_the_place_of_their_items(view):
    found = ms.memapply(X, "cols", lambda v: 1 // int(v[0] != 2), cluster=view, on_error="return")
    assert [type(result) for result in found] == [int, int, ZeroDivisionError, int]
    assert "1 // int(v[0] != 2)" in "".join(found[2].__notes__)  # where it was raised


def test_results_that_cannot_be_sent_are_exceptions_too(view):
    found = ms.memapply(
        X, "cols", lambda v: (i for i in v) if v[0] == 1 else 0, cluster=view, on_error="return"
    )
    assert found[:1] + found[2:] == [0, 0, 0]
    assert isinstance(found[1], TypeError)


def test_a_failing_batch_fails_for_each_of_its_items(view):
    found = ms.memapply(X, "cols", lambda b: [1 / 0], cluster=view, batch=True, on_error="return")
    assert [type(result) for result in found] == [ZeroDivisionError] * 4


def test_an_array_cannot_hold_exceptions(view):
    with pytest.raises(ValueError, match="which an array cannot hold"):
        ms.memapply(X, "cols", np.sum, cluster=view, on_error="return", out="array")
    with pytest.raises(ValueError, match="'raise' or 'return', not 'ignore'"):
        ms.memapply(X, "cols", np.sum, cluster=view, on_error="ignore")


# --- what the function takes -------------------------------------------------------------


class Scorer:
    def __call__(self, v, weights=1):
        return float(v.sum()) * weights


@pytest.mark.parametrize(
    ("fun", "variables", "says"),
    [
        (lambda v: 0, ["weights"], r"<lambda>\(v\) cannot be applied with weights from vars"),
        (lambda v, weights: 0, [], "with no vars: missing a required argument: 'weights'"),
        (functools.partial(operator.mul), ["weights"], "weights"),
        (Scorer(), ["wrong"], r"Scorer\(v, weights=1\) cannot be applied with wrong"),
        (lambda: 0, [], "too many positional arguments"),
    ],
)
def test_a_function_that_does_not_take_what_it_gets_is_refused_before_anything_runs(
    view, fun, variables, says
):
    given = {name: np.ones(3) for name in variables}
    with pytest.raises(TypeError, match=says):
        ms.memapply(X, "cols", fun, cluster=view, vars=given)
    assert ms.snapshot().pages == ()


@pytest.mark.parametrize("fun", [len, np.linalg.norm, np.add.reduce, Scorer(), max])
def test_functions_that_do_not_say_what_they_take_are_tried(view, fun):
    assert ms.memapply(X, "cols", fun, cluster=view) == [fun(column) for column in X.T]


def test_variables_may_be_frames_and_dicts_and_are_sent_by_name(view, study):
    study["frame"] = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    study["table"] = {"weights": np.ones(3)}

    def fun(v, frame, table):
        column = frame["a"].to_numpy()
        return float(v @ column + v @ table["weights"]), column.flags.writeable

    found = ms.memapply(X, "cols", fun, "study", view, vars=["frame", "table"])
    assert found == [(float(v @ [2, 3, 4]), False) for v in X.T]


# --- frames ------------------------------------------------------------------------------

FRAME = pd.DataFrame({"gene a": [1, 2, 3], "gene b": [0.5, 1, 2], "name": ["x", "y", "z"]})


@pytest.mark.parametrize(
    "frame", [FRAME, pl.from_pandas(FRAME), pa.table(FRAME)], ids=["pandas", "polars", "arrow"]
)
def test_columns_of_a_frame_are_items_with_their_own_dtype_and_errors_have_labels(view, frame):
    found = ms.memapply(frame, "cols", lambda v: (v.dtype.kind, v.tolist()), cluster=view)
    assert found == [("i", [1, 2, 3]), ("f", [0.5, 1, 2]), ("O", ["x", "y", "z"])]
    with pytest.raises(ms.MemApplyError, match=r"at index 2 \('name'\) on engine") as caught:
        ms.memapply(frame, "cols", lambda v: v.sum() / 2, cluster=view)
    assert caught.value.label == "name"
    with pytest.raises(TypeError, match=r"rows of this frame are no arrays"):
        ms.memapply(frame, "rows", len, cluster=view)
    with pytest.raises(TypeError, match=r"batch=True needs a matrix"):
        ms.memapply(frame, "cols", len, cluster=view, batch=True)


def test_a_frame_of_one_dtype_is_a_matrix_by_rows_and_columns(view, study):
    study["genes"] = pd.DataFrame(X, columns=list("abcd"))
    for margin, items in (("rows", X), ("cols", X.T)):
        found = ms.memapply(
            "study.genes", margin, lambda v: (v.tolist(), v.flags.writeable), cluster=view
        )
        assert found == [(item.tolist(), False) for item in items]
    batches = ms.memapply("study.genes", "cols", lambda b: b.sum(axis=0), cluster=view, batch=True)
    assert batches == X.sum(axis=0).tolist()


# --- futures -----------------------------------------------------------------------------


def test_a_call_that_does_not_block_returns_a_future_that_tells_how_far_it_is(view, eventually):
    run = ms.memapply(
        np.zeros((300, 1)), "rows", lambda _: time.sleep(0.002), cluster=view, block=False
    )
    assert run in current_runs()
    eventually(lambda: 0 < run.progress < run.total)
    assert not run.done()
    assert run.result() == [None] * 300
    assert (run.progress, len(run), sum(run.done_by_engine())) == (300, 300, 300)
    assert run not in current_runs()
    assert "300 of 300 items, done" in repr(run)
    assert not run.cancel()
    assert ms.snapshot().pages == ()


def test_a_future_can_be_awaited_and_has_the_error(view):
    async def both():
        good = ms.memapply(X, "cols", np.sum, cluster=view, block=False)
        bad = ms.memlapply([X], lambda el: 1 / 0, cluster=view, block=False)
        return await asyncio.gather(good, bad, return_exceptions=True)

    good, bad = asyncio.run(both())
    assert good == X.sum(axis=0).tolist()
    assert isinstance(bad, ms.MemApplyError)
    assert isinstance(bad.__cause__, ZeroDivisionError)


def test_a_cancelled_call_stops_the_engines_and_releases_what_it_had(view, eventually):
    run = ms.memapply(np.zeros((9, 1)), "rows", lambda _: time.sleep(60), cluster=view, block=False)
    eventually(lambda: run.done_by_engine() is not None)
    assert run.cancel()
    with pytest.raises(CancelledError, match="cancelled after 0 of 9 items"):
        run.result(timeout=20)
    assert run.cancelled()
    assert view.apply_sync(int) == [0, 0]
    eventually(lambda: ms.snapshot().pages == ())


def test_a_cancelled_task_cancels_its_call(view):
    async def impatient():
        run = ms.memapply(
            np.zeros((9, 1)), "rows", lambda _: time.sleep(60), cluster=view, block=False
        )
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(run, 0.2)
        return run

    run = asyncio.run(impatient())
    with pytest.raises(CancelledError):
        run.result(timeout=20)
