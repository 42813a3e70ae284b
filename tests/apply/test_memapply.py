"""memapply and memlapply on real engines."""

from __future__ import annotations

import functools
import gc
import io
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import memshare_jupyter as ms

WIDE = np.arange(12.0).reshape(3, 4)
TALL = WIDE.T.copy()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("matrix", [WIDE, TALL], ids=["wide", "tall"])
def test_rows_and_columns_are_both_right_for_matrices_that_are_not_square(view, matrix, order):
    X = np.asarray(matrix, order=order)
    weights = np.linspace(1, 2, 7)
    for margin, items in ((1, X), ("rows", X), (2, X.T), ("cols", X.T)):
        expected = [float(item @ weights[: len(item)]) for item in items]

        def score(item, weights):
            return float(item @ weights[: len(item)])

        assert ms.memapply(X, margin, score, cluster=view, vars={"weights": weights}) == expected


def test_results_come_in_order_also_when_items_take_unequal_time(view):
    def slow_first(row):
        time.sleep(0.2 if row[0] == 0 else 0)
        return int(row[0])

    X = np.arange(200).reshape(200, 1)
    assert ms.memapply(X, "rows", slow_first, cluster=view) == list(range(200))


def test_every_engine_takes_part(view):
    def where(row):
        time.sleep(0.01)
        return __import__("os").getpid()

    assert len(set(ms.memapply(np.zeros((40, 1)), "rows", where, cluster=view))) == 2


def test_a_registered_matrix_and_variables_are_found_by_name(view, study):
    study["X"], study["y"] = WIDE, np.arange(3)

    def score(column, y):
        return float(column @ y)

    expected = [20.0, 23.0, 26.0, 29.0]
    assert ms.memapply("X", "cols", score, "study", view, ["y"]) == expected
    assert ms.memapply("study.X", "cols", score, namespace="study", vars=["y"], cluster=view) == (
        expected
    )
    assert ms.memapply(study["X"], 2, score, cluster=view, vars={"y": study["y"]}) == expected
    assert sorted(ms.page_list()) == ["study.X", "study.y"]


def test_the_function_gets_a_read_only_array_without_a_copy(view, study):
    study["X"] = np.asfortranarray(WIDE)

    def what(column):
        return type(column).__name__, column.flags.writeable, column.flags.owndata

    assert ms.memapply("X", 2, what, "study", view) == [("ndarray", False, False)] * 4


@pytest.mark.parametrize(
    "fun",
    [np.sum, sum, functools.partial(np.sum, axis=0), lambda v: v.sum(), np.add.reduce],
    ids=["numpy", "builtin", "partial", "lambda", "ufunc method"],
)
def test_any_callable_can_be_applied(view, fun):
    assert ms.memapply(WIDE, "rows", fun, cluster=view) == [6.0, 22.0, 38.0]


def test_a_closure_takes_its_variables_along(view):
    offset = 10
    assert ms.memapply(WIDE, "rows", lambda v: v[0] + offset, cluster=view) == [10, 14, 18]


def test_results_may_be_anything_that_pickles(view):
    results = ms.memapply(WIDE, "rows", lambda v: {"head": v[:2], "n": len(v)}, cluster=view)
    np.testing.assert_array_equal(results[2]["head"], [8.0, 9.0])
    assert [result["n"] for result in results] == [4, 4, 4]


def test_lists_give_one_result_an_element(view):
    elements = [np.eye(2), np.ones((2, 3), dtype="f4"), np.array(5), np.empty(0)]
    shapes = ms.memlapply(elements, lambda el: (el.shape, str(el.dtype)), cluster=view)
    assert shapes == [(el.shape, str(el.dtype)) for el in elements]


def test_a_registered_list_is_found_by_name_and_mixes_with_variables(view, study):
    study["parts"] = [np.arange(i) for i in range(5)]

    def scaled(el, factor):
        return int(el.sum() * factor)

    factor = {"factor": np.array(2)}
    assert ms.memlapply("parts", scaled, "study", view, factor) == [0, 0, 2, 6, 12]


def test_a_list_among_the_variables_arrives_as_a_list(view):
    vectors = [np.arange(3), np.ones(2)]
    lengths = ms.memapply(
        WIDE, "rows", lambda v, vectors: [len(x) for x in vectors], cluster=view,
        vars={"vectors": vectors},
    )  # fmt: skip
    assert lengths == [[3, 2]] * 3


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_no_items_give_no_results_and_empty_items_are_items(view, shape):
    assert ms.memapply(np.zeros(shape), "rows", len, cluster=view) == [shape[1]] * shape[0]
    assert ms.memlapply([], len, cluster=view) == []


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("margin", "axis"), [("rows", 1), ("cols", 0)])
def test_a_batch_function_gets_whole_matrices_and_gives_one_result_for_each_item(
    view, order, margin, axis
):
    X = np.asarray(np.random.default_rng(0).normal(size=(70, 45)), order=order)

    def spread(batch, scale):
        assert (batch.ndim, batch.shape[axis], batch.flags.writeable) == (2, X.shape[axis], False)
        return batch.std(axis=axis) * scale

    found = ms.memapply(X, margin, spread, None, view, {"scale": np.array(3.0)}, batch=True)
    np.testing.assert_allclose(found, 3 * X.std(axis=axis), rtol=1e-12)


def test_batches_are_the_chunks_of_the_queue_up_to_16_mb(view, study):
    study["X"] = np.zeros((2**18, 24))  # 2 MB a column, the first chunk of one engine is 4
    study["wide"] = np.zeros((2**18, 100), dtype=np.uint8).T

    def sizes(batch):
        return [batch.shape[1]] * batch.shape[1]

    assert ms.memapply("X", 2, sizes, "study", view, None, 1, batch=True)[:4] == [4] * 4
    # The first chunk has 43,691 of 262,144 columns of 100 bytes.
    wide = ms.memapply("wide", 2, sizes, "study", view, None, 1, batch=True)
    assert wide[0] == 43_691
    study["X"] = np.zeros((2**19, 60))  # 4 MB a column, of which the first chunk has 10
    assert max(ms.memapply("X", 2, sizes, "study", view, None, 1, batch=True)) == 4


def test_results_of_a_batch_may_be_any_sequence_also_of_parts_of_it(view):
    for same in (list, tuple, np.asarray, np.copy):
        rows = ms.memapply(WIDE, "rows", same, cluster=view, batch=True)
        np.testing.assert_array_equal(rows, WIDE)
    words = ms.memapply(WIDE, 2, lambda b: [f"{c[0]:.0f}" for c in b.T], cluster=view, batch=True)
    assert words == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([1.0], r"array of \d+ results.*but it returned 1$"),
        (np.ones(99), "but it returned 99$"),
        (np.float64(3), "but it returned one float64$"),
        (np.array(3), "but it returned one ndarray$"),
        ("four", "but it returned one str$"),
        ({"a": 1}, "but it returned one dict$"),
        (None, "but it returned one NoneType$"),
    ],
)
def test_a_wrong_number_of_results_is_an_error_that_names_the_batch(view, found, says):
    with pytest.raises(ms.MemApplyError, match=says) as caught:
        ms.memapply(np.zeros((1, 40)), 2, lambda _: found, None, view, None, 1, batch=True)
    assert caught.value.items == range(7)
    assert caught.value.index == 0
    assert "<lambda> failed in the batch of items 0 to 6 on engine" in str(caught.value)


def test_an_error_in_a_batch_names_its_items(view):
    def picky(batch):
        assert not (batch == 77).any(), "no 77 please"
        return batch[0]

    with pytest.raises(ms.MemApplyError, match=r"batch of items .*no 77 please") as caught:
        ms.memapply(np.arange(100).reshape(1, 100), "cols", picky, cluster=view, batch=True)
    assert 77 in caught.value.items


def test_blas_has_one_thread_during_a_call_and_its_own_number_after_it(view):
    def threads(_=None):
        from threadpoolctl import threadpool_info

        return [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]

    before = view.apply_sync(threads)
    inside = ms.memapply(np.zeros((20, 1)), "rows", threads, cluster=view)
    assert {n for found in inside for n in found} == {1}
    assert view.apply_sync(threads) == before

    def fails(_):
        raise ValueError

    with pytest.raises(ms.MemApplyError):
        ms.memapply(np.zeros((20, 1)), "rows", fails, cluster=view)
    assert view.apply_sync(threads) == before


class Terminal(io.StringIO):
    def isatty(self):
        return True


def slow(_):
    time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [False, True])
def test_a_bar_counts_items_in_a_terminal(view, monkeypatch, batch):
    def some(rows):
        time.sleep(0.01 * len(rows))
        return rows[:, 0]

    monkeypatch.setattr(sys, "stderr", Terminal())
    fun = some if batch else slow
    ms.memapply(np.zeros((300, 1)), 1, fun, cluster=view, batch=batch, progress_after=0.0)
    shown = sys.stderr.getvalue()
    assert "| 300/300 [" in shown
    assert "item/s]" in shown
    assert len(shown.split("/300")) > 3  # it moved


@pytest.mark.parametrize(("file", "after"), [(io.StringIO, 0.0), (Terminal, None), (Terminal, 9)])
def test_there_is_no_bar_in_files_nor_before_its_time(view, monkeypatch, file, after):
    monkeypatch.setattr(sys, "stderr", file())
    ms.memlapply([np.zeros(1)] * 40, slow, cluster=view, progress_after=after)
    assert sys.stderr.getvalue() == ""


def failing(column):
    if column[0] == 2:
        raise KeyError("no such gene")
    return 0


def test_an_error_names_the_item_and_shows_the_remote_traceback(view):
    with pytest.raises(ms.MemApplyError, match=r"index 2 on engine \d+: KeyError") as caught:
        ms.memapply(WIDE, "cols", failing, cluster=view)
    assert caught.value.index == 2
    assert "in failing" in caught.value.remote_traceback
    assert 'raise KeyError("no such gene")' in caught.value.remote_traceback
    assert "memshare_jupyter" not in caught.value.remote_traceback
    assert isinstance(caught.value.__cause__, KeyError)


SCRIPT = """
import numpy as np
import memshare_jupyter as ms

def helper(x):
    return x / nothing  # helper's line

def main():
    def nested(row):
        return helper(row)  # nested's line
    cluster = ms.local_cluster(1, quiet=True)
    for fun in (nested, lambda row: helper(row)):  # lambda's line
        try:
            ms.memapply(np.zeros((2, 2)), "rows", fun, cluster=cluster)
        except ms.MemApplyError as error:
            print(error.remote_traceback)
    cluster.stop()

main()
"""


def test_an_error_of_a_script_shows_the_lines_of_all_its_functions(child_environment, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("# helper's line") == 2
    assert done.stdout.count("# nested's line") == 1
    assert done.stdout.count("# lambda's line") == 1


def test_the_first_of_several_failing_items_of_one_engine_is_reported(view):
    def always(row):
        raise ValueError(int(row[0]))

    with pytest.raises(ms.MemApplyError) as caught:
        ms.memapply(np.arange(50).reshape(50, 1), "rows", always, cluster=view, max_cores=1)
    assert caught.value.index == 0


def test_a_result_that_cannot_be_pickled_is_an_error_with_its_index(view):
    def generator(row):
        return (x for x in row) if row[0] == 4 else 0

    with pytest.raises(ms.MemApplyError, match="a generator, cannot be pickled") as caught:
        ms.memapply(WIDE, "rows", generator, cluster=view)
    assert caught.value.index == 1


def test_a_failed_call_leaves_no_handle_even_while_its_traceback_is_kept(view):
    try:
        ms.memapply(WIDE, "cols", failing, cluster=view, vars=None)
    except ms.MemApplyError as error:
        kept = error
    gc.collect()
    assert (ms.page_list(), ms.view_list()) == ([], [])
    assert not ms.snapshot().pages, kept


def test_a_call_leaves_nothing_registered_or_attached_anywhere(view):
    ms.memapply(WIDE, "cols", len, cluster=view, vars=None)
    ms.memlapply([WIDE], lambda el, y: 0, cluster=view, vars={"y": WIDE})
    gc.collect()
    assert ms.snapshot().pages == ()


def test_engines_are_usable_after_an_error_and_free_of_old_values(view, study):
    study["X"] = WIDE
    with pytest.raises(ms.MemApplyError):
        ms.memapply("X", "cols", failing, "study", view)
    study["X"] = WIDE * 10
    assert ms.memapply("X", "cols", np.sum, "study", view) == list(WIDE.sum(axis=0) * 10)


def test_a_call_does_not_touch_pages_that_have_the_names_it_would_use(view):
    def score(v, y):
        return float(v @ y)

    with ms.Namespace("score") as mine:
        mine["X"], mine["y"] = np.zeros(2), np.zeros(2)
        y = {"y": np.arange(3)}
        assert ms.memapply(WIDE, "cols", score, cluster=view, vars=y) == [20.0, 23.0, 26.0, 29.0]
        np.testing.assert_array_equal(mine["X"], np.zeros(2))
        assert sorted(mine) == ["X", "y"]


def test_a_call_names_its_namespace_after_the_function(view):
    def seen(row):
        from memshare_jupyter import snapshot

        return [page.name for page in snapshot().pages]

    assert ms.memapply(WIDE[:1], 1, seen, cluster=view) == [["seen.X"]]
    assert ms.memapply(WIDE[:1], 1, lambda row: seen(row[:1]), cluster=view) == [["unnamed.X"]]
    assert ms.memapply(WIDE[:1], 1, seen, "other", view) == [["other.X"]]


def test_lists_call_the_engines_by_their_ids(view):
    def labels(row):
        time.sleep(0.01)
        from memshare_jupyter import snapshot

        return {holder.label for page in snapshot().pages for holder in page.holders}

    seen = set().union(*ms.memapply(np.zeros((20, 1)), 1, labels, cluster=view))
    assert {"engine 0", "engine 1"} <= seen


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((WIDE, 3, len), ValueError, "margin must be 1 or 'rows', 2 or 'cols', not 3"),
        ((WIDE, [1], len), ValueError, "margin must be"),
        ((WIDE, 1, "len"), TypeError, "fun must be callable, not a str"),
        ((WIDE[0], 1, len), TypeError, "matrix of two dimensions; X has 1"),
        (("nope", 1, len), ms.InvalidNameError, "write namespace.variable"),
        (("a.nope", 1, len), ms.PageNotFoundError, "no page a.nope"),
        ((WIDE, 1, len, None, None, ["y"]), ValueError, "say in which namespace"),
        ((WIDE, 1, len, None, None, None, 0), ValueError, "max_cores must be"),
        ((WIDE, 1, len, None, "four"), TypeError, "Client, DirectView or Cluster"),
        ((WIDE, 1, len, "a/b"), ms.InvalidNameError, "contains a slash"),
        ((np.array([["a", None]], dtype=object), 1, len), ms.UnsupportedValueError, "object"),
    ],
)
def test_wrong_arguments_get_one_clear_error_and_nothing_stays(arguments, error, match):
    with pytest.raises(error, match=match):
        ms.memapply(*arguments)
    assert (ms.page_list(), ms.view_list()) == ([], [])


def test_a_matrix_is_no_list_and_a_list_no_matrix(study):
    study["X"], study["parts"] = WIDE, [WIDE]
    with pytest.raises(TypeError, match="use memapply for a matrix"):
        ms.memlapply("X", len, "study")
    with pytest.raises(TypeError, match="X is a list"):
        ms.memapply("parts", 1, len, "study")


def test_threads_can_call_at_the_same_time(view):
    results = {}

    def work(k):
        results[k] = ms.memapply(WIDE + k, "rows", np.sum, cluster=view)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {k: list((WIDE + k).sum(axis=1)) for k in range(4)}
    assert ms.page_list() == []


CALLABLE = [str.upper, "ab".__add__, functools.partial(max, "b"), max]


@pytest.mark.parametrize("fun", CALLABLE, ids=["method", "bound", "partial", "builtin"])
def test_whatever_can_be_called_is_applied(view, fun):
    """Some of these have no module, and some no signature."""
    items = ["a", "cd"]
    assert ms.memlapply(items, fun, cluster=view) == [fun(item) for item in items]


def test_a_function_of_a_notebook_is_not_kept(view, monkeypatch):
    def fun(row):
        return float(row[0])

    fun.__module__ = "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "fun", fun, raising=False)
    ms.memapply(np.eye(3), "rows", fun, cluster=view)
    seen = weakref.ref(fun)
    monkeypatch.undo()
    del fun
    gc.collect()
    assert seen() is None
