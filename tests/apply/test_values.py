"""What a call is given and returns means the same as in a serial loop, or is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import operator
import pickle
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp

import memshare_jupyter as ms

X = np.arange(12.0).reshape(3, 4)


@pytest.fixture(autouse=True)
def nothing_stays(eventually):
    yield
    gc.collect()
    # An engine that begins when all is done, as one that imports pandas first, is not waited for.
    eventually(lambda: ms.snapshot().pages == ())


# --- what a call works on ----------------------------------------------------------------

MASKED = np.ma.masked_greater(X, 10)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (MASKED, r"its mask would be lost; fill what is masked, as in x\.filled"),
        (sp.csc_matrix(X), r"it is sparse; pass x\.toarray\(\)"),
        (sp.csr_array(X), "it is sparse"),
        (np.asmatrix(X), "what its class adds"),
        (pd.DataFrame({"a": [1.0], "b": pd.array([None], "Int64")}), r"column 'b'.*missing values"),
    ],
)
def test_what_would_lose_its_meaning_as_an_array_is_refused_with_the_remedy(view, value, says):
    with pytest.raises(ms.UnsupportedValueError, match=says):
        ms.memapply(value, "cols", np.sum, cluster=view)


def test_a_page_is_asked_as_well(view):
    with ms.Namespace("gate") as pages:
        pages["m"] = MASKED
        pages["s"] = sp.csc_matrix(X)
        for name, says in (("m", "its mask"), ("s", "it is sparse")):
            with pytest.raises(ms.UnsupportedValueError, match=says):
                ms.memapply(f"gate.{name}", "cols", np.sum, cluster=view)
        del pages["m"], pages["s"]


def test_a_masked_array_without_a_masked_value_is_an_array(view):
    found = ms.memapply(np.ma.MaskedArray(X), "cols", np.sum, cluster=view)
    assert found == X.sum(axis=0).tolist()


def test_masks_are_kept_in_elements_and_variables(view):
    assert ms.memlapply([MASKED], lambda e: float(e.sum()), cluster=view) == [MASKED.sum()]
    found = ms.memapply(X, "rows", lambda v, m: m.sum(), cluster=view, vars={"m": MASKED})
    assert found == [MASKED.sum()] * 3


@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean", "int64[pyarrow]"])
def test_nullable_columns_without_missing_values_are_arrays_of_numbers(view, kind):
    column = pd.array([1, 0, 1], kind)
    found = ms.memapply(pd.DataFrame({"a": column}), "cols", lambda v: v, cluster=view)[0]
    assert found.dtype.kind in "bif"
    assert found.tolist() == [1, 0, 1]


def test_why_rows_of_a_frame_are_no_arrays_is_true(view):
    mixed = pd.DataFrame({"a": [1], "b": [0.5]})
    with pytest.raises(TypeError, match=r"differ in dtype \(int64, float64\)"):
        ms.memapply(mixed, "rows", len, cluster=view)
    with pytest.raises(TypeError, match=r"of dtype Float64, one by one; pass df\.to_numpy"):
        ms.memapply(pd.DataFrame({"a": [1.0]}, dtype="Float64"), "rows", len, cluster=view)
    with pytest.raises(TypeError, match=r"batch=True needs a matrix.*not one block"):
        ms.memapply(pl.from_pandas(mixed), "cols", len, cluster=view, batch=True)


def test_columns_of_a_record_batch_are_items(view):
    batch = pa.record_batch({"a": [1, 2], "b": ["x", None]})
    assert ms.memapply(batch, "cols", lambda v: v.tolist(), cluster=view) == [[1, 2], ["x", None]]


def test_the_values_of_a_dict_are_elements_and_its_keys_labels(view):
    parts = {"long": X, "short": X[:1]}
    assert ms.memlapply(parts, len, cluster=view) == [3, 1]
    assert ms.memlapply(parts, len, cluster=view, out="series").to_dict() == {"long": 3, "short": 1}
    with pytest.raises(ms.MemApplyError, match=r"'(long|short)'"):
        ms.memlapply(parts, lambda e: 1 / 0, cluster=view)


@pytest.mark.parametrize("value", [pd.DataFrame(X), pl.DataFrame(X), {1, 2}, "a b", 3])
def test_what_has_no_elements_is_refused_by_memlapply(view, value):
    with pytest.raises((TypeError, ms.MemshareError)):
        ms.memlapply(value, len, cluster=view)


def test_a_private_copy_is_shared_as_it_is_now(view):
    with ms.Namespace("private") as pages:
        pages["X"] = X
        mine = ms.retrieve_views("private", "X", mode="c")["X"]
        assert ms.memapply(mine, "rows", lambda v: type(v).__name__, cluster=view)
        assert len(ms.snapshot().pages) == 1
        mine[0, 0] = 100
        assert ms.memapply(mine, "rows", lambda v: v[0], cluster=view) == [100, 4, 8]
        ms.release_views("private", "X")
        del mine, pages["X"]


# --- results -----------------------------------------------------------------------------


def test_results_own_their_memory_wherever_they_stand(view, eventually):
    parts = [np.arange(1000.0), np.arange(5.0)]

    def fun(el, w):
        return {"first": el[:1], "two": [(w[:2], el)], "frame": pd.DataFrame({"a": el})}

    found = ms.memlapply(parts, fun, cluster=view, vars={"w": X})
    gc.collect()
    eventually(lambda: ms.snapshot().pages == ())
    again = pickle.loads(pickle.dumps(found))
    for part, result in zip(parts, again, strict=True):
        assert result["frame"]["a"].tolist() == part.tolist()
        for array in (result["first"], *result["two"][0]):
            assert type(array) is np.ndarray
            array[...] = 0


def test_masked_results_stay_masked_and_are_refused_in_an_array(view):
    def masked(v):
        return np.ma.masked_greater(v, 5)

    for found, row in zip(ms.memapply(X, "rows", masked, cluster=view), X, strict=True):
        assert found.tolist() == masked(row).tolist()
    with pytest.raises(TypeError, match=r"cannot hold the result of item 1.*mask") as caught:
        ms.memapply(X, "rows", masked, cluster=view, out="array")
    assert len(caught.value.results) == 3


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_frame_is_no_sequence_of_results(view, frame):
    def fun(batch):
        return frame({"a": batch[0], "b": batch[1]})

    with pytest.raises(ms.MemApplyError, match=r"return its rows, as in df\.to_numpy"):
        ms.memapply(X, "cols", fun, cluster=view, batch=True)


class OnlyThere:
    """Cannot be rebuilt here."""

    def __init__(self, index):
        self.index = index

    def __reduce__(self):
        return OnlyThere.rebuilt, (self.index,)

    @staticmethod
    def rebuilt(index):
        import ipykernel.kernelapp as app

        if not app.IPKernelApp.initialized():
            raise LookupError(f"not in this process: {index}")
        return OnlyThere(index)


def test_a_result_that_cannot_be_rebuilt_here_is_the_error_of_its_item(view):
    def fun(v):
        return OnlyThere(int(v[0])) if v[0] == 4 else (float(v[0]), [v])

    found = ms.memapply(X, "rows", fun, cluster=view, on_error="return")
    assert [r[0] for r in (found[0], found[2])] == [0, 8]
    assert isinstance(found[1], ms.MemApplyError)
    with pytest.raises(
        ms.MemApplyError, match=r"result at index 1 of fun over 3 rows.* LookupError"
    ) as caught:
        ms.memapply(X, "rows", fun, cluster=view)
    assert caught.value.index == 1
    assert caught.value.results[2][0] == 8
    assert "in rebuilt" in caught.value.remote_traceback


def test_an_exception_that_cannot_be_rebuilt_here_keeps_index_and_traceback(view):
    def fun(v):
        class OddError(ValueError):
            def __reduce__(self):
                return OnlyThere.rebuilt, (1,)

        raise OddError("its text")

    with pytest.raises(ms.MemApplyError, match=r"at index \d .* its text") as caught:
        ms.memapply(X, "rows", fun, cluster=view)
    assert "in fun" in caught.value.remote_traceback
    found = ms.memapply(X, "rows", fun, cluster=view, on_error="return")
    assert all(isinstance(error, ms.MemApplyError) for error in found)


def test_writing_to_an_item_says_what_to_do(view):
    with pytest.raises(ms.MemApplyError, match=r"read-only; .* work on a copy"):
        ms.memapply(X, "rows", lambda v: v.sort(), cluster=view)


def test_an_event_loop_in_a_function_works_in_a_thread_and_says_so_elsewhere(view):
    async def total(v):
        await asyncio.sleep(0)
        return v.sum()

    with pytest.raises(ms.MemApplyError, match=r"event loop; .* use another thread"):
        ms.memapply(X, "rows", lambda v: asyncio.run(total(v)), cluster=view)

    def elsewhere(v):
        return ThreadPoolExecutor(1).submit(asyncio.run, total(v)).result()

    assert ms.memapply(X, "rows", elsewhere, cluster=view) == [v.sum() for v in X]


# --- out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["array", "page"])
def test_results_can_go_into_an_array_that_can_be_written_to(view, kind):
    with ms.Namespace("given") as pages:
        out = np.zeros(4) if kind == "array" else pages.empty("s", 4)
        assert ms.memapply(X, "cols", np.sum, cluster=view, out=out) is out
        assert out.tolist() == X.sum(axis=0).tolist()
        with pytest.raises(ValueError, match=r"out has shape \(4,\), but there are 3 results"):
            ms.memapply(X, "rows", np.sum, cluster=view, out=out)
        with pytest.raises(ValueError, match=r"\(4,\), but the results have \(4, 3\)") as caught:
            ms.memapply(X, "cols", np.sort, cluster=view, out=out)
        np.testing.assert_array_equal(caught.value.results, X.T)
        del out


def test_an_out_that_cannot_be_written_to_is_refused_before_anything_runs(view):
    out = np.zeros(4)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        ms.memapply(X, "cols", lambda v: time.sleep(60), cluster=view, out=out)


def test_a_name_of_another_process_is_refused_before_anything_runs(view, child):
    other = child("ms.register_variables('taken', {'s': np.zeros(3)})")
    with pytest.raises(ms.PageExistsError, match=r"taken\.s is a page of process"):
        ms.memapply(X, "cols", lambda v: time.sleep(60), cluster=view, out="taken.s")
    other.exit()


def test_labels_come_back(view):
    frame = pd.DataFrame(X, columns=list("abcd"), index=["x", "y", "z"])
    pd.testing.assert_series_equal(
        ms.memapply(frame, "cols", np.sum, cluster=view, out="series"), frame.apply(np.sum)
    )
    for margin, axis in (("cols", 0), ("rows", 1)):
        found = ms.memapply(frame, margin, lambda v: v[:2], cluster=view, out="frame")
        named = frame.columns if axis == 0 else frame.index
        assert list(found.columns if axis == 0 else found.index) == list(named)
        assert found.shape == ((2, 4) if axis == 0 else (3, 2))
    found = ms.memapply(frame, "cols", lambda v: {"low": v.min()}, cluster=view, out="frame")
    assert found.loc["low"].to_dict() == frame.min().to_dict()


def test_of_no_items_there_is_an_array_of_none(view):
    none = X[:, :0]
    assert ms.memapply(none, "cols", np.sum, cluster=view, out="array").shape == (0,)
    out = np.zeros((0, 7), "i4")
    assert ms.memapply(none, "cols", np.sum, cluster=view, out=out) is out
    assert len(ms.memapply(none, "cols", np.sum, cluster=view, out="series")) == 0
    assert ms.memapply(none, "cols", np.sum, cluster=view, block=False).result() == []


# --- functions and variables -------------------------------------------------------------


def notebook(source):
    """Run a cell; its classes are of ``__main__``, which engines have not."""
    import __main__

    space = {"__name__": "__main__", "functools": functools, "dataclasses": dataclasses}
    exec(source, space)  # noqa: S102 -- our own
    vars(__main__).update({k: v for k, v in space.items() if isinstance(v, type)})
    return space


CELL = """
import collections
@dataclasses.dataclass
class Settings:
    weights: object
Point = collections.namedtuple("Point", "x y")
@functools.lru_cache
def cached(x):
    return x + 1
"""


def test_classes_of_the_notebook_work_in_variables_elements_and_results(view):
    cell = notebook(CELL)
    settings, point = cell["Settings"](np.arange(3.0)), cell["Point"](1, X)
    given = {"s": settings, "p": point, "h": lambda x: 2 * x, "c": cell["cached"]}
    found = ms.memapply(
        X.T, "rows", lambda v, s, p, h, c: h(v @ s.weights) + c(p.x), cluster=view, vars=given
    )
    assert found == [2 * (v @ np.arange(3.0)) + 2 for v in X.T]
    elements = [settings, point, lambda: 5]
    names = ms.memlapply(elements, lambda e: type(e).__name__, cluster=view)
    assert names == ["Settings", "Point", "function"]
    back = ms.memlapply([settings], lambda s: s, cluster=view)[0]
    assert type(back) is type(settings)


def test_arrays_in_objects_of_the_notebook_are_shared(view):
    settings = notebook(CELL)["Settings"](np.arange(30.0))
    owned = ms.memlapply(
        [settings], lambda s: (s.weights.flags.owndata, s.weights.flags.writeable), cluster=view
    )
    assert owned == [(False, False)]


def test_a_cached_function_of_the_notebook_is_applied(view):
    cell = notebook(CELL + "\n@functools.lru_cache(maxsize=3)\ndef f(e):\n    return cached(e)\n")
    assert ms.memlapply([1, 2, 1], cell["f"], cluster=view) == [2, 3, 2]


def test_what_of_a_function_cannot_be_sent_is_named(view):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"it uses the variable 'lock' \(a lock\)"):
        ms.memapply(X, "rows", lambda v: lock.locked(), cluster=view)


def test_any_number_of_calls_may_go_on_at_once(view):
    runs = [ms.memapply(X, "rows", lambda v: v.sum(), cluster=view, block=False) for _ in range(25)]
    assert [run.result(60) for run in runs] == [X.sum(axis=1).tolist()] * 25


@pytest.mark.parametrize("number", [np.int64(1), np.uint8(2), 1])
def test_max_cores_is_any_whole_number(view, number):
    run = ms.memapply(X, "rows", len, cluster=view, max_cores=number, block=False)
    run.result(60)
    assert len(run.engines) == number


@pytest.mark.parametrize("number", [True, np.True_, 1.0, "1", 0, -1])
@pytest.mark.parametrize("option", ["max_cores", "hands"])
def test_max_cores_and_hands_are_nothing_else(view, number, option):
    with pytest.raises(ValueError, match=f"{option} must be a whole number"):
        ms.memapply(X, "rows", len, cluster=view, **{option: number})


@pytest.mark.parametrize("given", ["none", "local", "client"])
def test_the_engines_of_a_local_cluster_have_no_hands(given):
    local = ms.local_cluster(2, quiet=True)
    cluster = {"none": None, "local": local, "client": local.client}[given]
    with pytest.raises(ValueError, match=r"hands= is for .* call local_cluster"):
        ms.memapply(X, "rows", len, cluster=cluster, hands=2)


def test_the_frames_of_a_user_keep_their_variables_and_ours_keep_nothing(view):
    def parts():
        clue = 42
        yield X
        raise KeyError(clue)

    with pytest.raises(KeyError) as caught:
        ms.memlapply(parts(), len, cluster=view)
    frames = caught.traceback
    assert frames[-1].frame.raw.f_locals == {"clue": 42}


# --- random numbers ----------------------------------------------------------------------


def draws(view, seed, **options):
    return ms.memapply(
        np.zeros((60, 1)), "rows", lambda v, rng: int(rng.integers(10**9)), cluster=view,
        seed=seed, **options,
    )  # fmt: skip


def test_each_item_has_a_generator_of_its_own_whatever_the_engines_do(view):
    made = [np.random.default_rng(np.random.SeedSequence(5, spawn_key=(i,))) for i in range(60)]
    expected = [int(rng.integers(10**9)) for rng in made]
    assert draws(view, 5) == draws(view, 5, max_cores=1) == draws(view, np.int64(5)) == expected
    assert len(set(expected)) == 60
    batches = ms.memapply(
        np.zeros((60, 1)), "rows", lambda b, rng: [int(r.integers(10**9)) for r in rng],
        cluster=view, seed=5, batch=True,
    )  # fmt: skip
    assert batches == expected
    sequence = np.random.SeedSequence(5, spawn_key=(3,))
    assert draws(view, sequence) == draws(view, sequence) != expected


@pytest.mark.parametrize("seed", ["a", 1.5, True, [1, "b"], -1])
def test_other_seeds_are_refused(view, seed):
    with pytest.raises((TypeError, ValueError)):
        draws(view, seed)


def test_the_argument_rng_needs_a_seed_and_is_taken(view):
    with pytest.raises(TypeError, match="seed= gives it the generator rng"):
        draws(view, None)
    with pytest.raises(ValueError, match="gets its generator as rng"):
        draws(view, 1, vars={"rng": X})


@pytest.mark.parametrize("where", ["closure", "vars"])
def test_a_generator_that_is_sent_is_warned_of(view, where):
    rng = np.random.default_rng(1)
    given = {"g": rng} if where == "vars" else {}
    fun = (lambda v, g: g.random()) if given else (lambda v: rng.random())
    with pytest.warns(UserWarning, match=r"numpy's Generator.*Pass seed=") as caught:
        ms.memapply(X, "rows", fun, cluster=view, vars=given)
    assert caught[0].filename == __file__


def test_without_a_generator_there_is_no_warning(view):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ms.memapply(X, "rows", operator.itemgetter(0), cluster=view)
