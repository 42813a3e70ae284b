"""The world of the engines is the caller's: modules, path, directory, threads, large arrays."""

from __future__ import annotations

import functools
import importlib
import os
import sys

import numpy as np
import pytest

import memshare_jupyter as ms

X = np.arange(4.0).reshape(4, 1)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    cluster = ms.local_cluster(2, quiet=True)
    ms.memapply(X, "rows", np.sum)
    yield cluster
    cluster.stop()


FIRST = """
import functools, threading
LOCK = threading.Lock()
def helper(v): return 1
def score(v): return helper(v)
def locked(v):
    with LOCK: return helper(v)
cached = functools.lru_cache(helper)
class Model:
    def score(self, v): return helper(v)
    @staticmethod
    def static(v): return helper(v)
    def __call__(self, v): return helper(v)
"""


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """A module that is edited and reloaded after engines have imported it."""
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "edited_helpers.py"
    path.write_text(FIRST)
    module = importlib.import_module("edited_helpers")

    def edit():
        path.write_text(FIRST.replace("return 1", "return 22222"))
        importlib.invalidate_caches()
        return importlib.reload(module)

    yield module, edit
    del sys.modules["edited_helpers"]


def imports_inside(_row):
    import edited_helpers

    return edited_helpers.helper(0)


def scored_by(kind):
    return lambda v: kind().score(v)


WAYS = {
    "the function": lambda m: m.score,
    "one with a lock": lambda m: m.locked,
    "a partial of it": lambda m: functools.partial(m.score),
    "a lambda that calls it": lambda m: lambda v: 0 + m.score(v),
    "a method": lambda m: m.Model().score,
    "a static method": lambda m: m.Model.static,
    "an object that is called": lambda m: m.Model(),
    "a closure over a class": lambda m: scored_by(m.Model),
    "an import inside": lambda _: imports_inside,
}


@pytest.mark.parametrize("way", WAYS)
def test_engines_run_a_module_as_it_is_now_in_every_way_to_name_it(edited, way):
    module, edit = edited
    assert ms.memapply(X, "rows", WAYS[way](module)) == [1] * 4
    assert ms.memapply(X, "rows", WAYS[way](edit())) == [22222] * 4


def test_what_is_saved_and_not_loaded_here_is_not_run_there_either(edited, tmp_path):
    module, _ = edited
    assert ms.memapply(X, "rows", module.score) == [1] * 4
    (tmp_path / "edited_helpers.py").write_text(FIRST.replace("return 1", "return 333"))
    assert module.score(0) == 1
    assert ms.memapply(X, "rows", module.score) == [1] * 4


def test_objects_of_an_edited_module_are_of_the_callers_class(edited):
    module, edit = edited
    for now in (module, edit()):
        found = ms.memapply(X, "rows", lambda _, kind=now.Model: kind())
        assert {type(one) for one in found} == {now.Model}


def test_a_module_that_was_imported_and_not_touched_goes_by_its_name():
    from memshare_jupyter.worker import _edited as edited
    from memshare_jupyter.worker import dumps

    assert not edited.was_edited(np)
    assert not edited.was_edited(ms)
    assert not edited.was_edited(sys)
    assert len(dumps(np.std)) < 100


def test_a_cached_function_of_the_notebook_works(edited):
    @functools.lru_cache(maxsize=7)
    def cached(v):
        return 7

    assert ms.memapply(X, "rows", lambda v: cached(float(v[0]))) == [7] * 4


def test_path_and_directory_follow_the_caller(tmp_path, monkeypatch):
    late = tmp_path / "late"
    late.mkdir()
    (late / "late_module.py").write_text("def f(v): return 7\n")
    os.utime(late / "late_module.py", (0, 0))
    monkeypatch.syspath_prepend(late)
    monkeypatch.chdir(tmp_path)

    def where(_row):
        import late_module

        return late_module.f(0), os.getcwd()

    assert ms.memapply(X, "rows", where) == [(7, str(tmp_path))] * 4
    monkeypatch.undo()
    assert ms.memapply(X[:1], "rows", lambda _: os.getcwd()) == [os.getcwd()]


def private_mb():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("Pss_Anon:"))


@pytest.mark.parametrize("where", ["closure", "default", "attribute", "frame"])
def test_a_large_array_that_the_function_mentions_is_shared_for_the_call(where):
    big = np.ones((1000, 8000))
    if where == "closure":

        def fun(row):
            return private_mb(), float(big[0, 0]), big.flags.writeable, type(big)

    elif where == "default":

        def fun(row, of=big):
            return private_mb(), float(of[0, 0]), of.flags.writeable, type(of)

    elif where == "attribute":

        class Model:
            weights = None

            def __call__(self, _row):
                of = self.weights
                return private_mb(), float(of[0, 0]), of.flags.writeable, type(of)

        fun = Model()
        fun.weights = big
    else:
        import pandas as pd

        frame = pd.DataFrame(big)

        def fun(row):
            of = frame.to_numpy()
            return private_mb(), float(frame.iloc[0].sum() / 8000), of.flags.writeable, type(of)

    def base(_row):
        if where == "frame":
            import pandas  # noqa: ICN001

            pandas.DataFrame(np.eye(2)).iloc[0].sum()
        return private_mb()

    before = max(ms.memapply(X, "rows", base))
    found = ms.memapply(X, "rows", fun)
    assert {one[1:] for one in found} == {(1.0, False, np.ndarray)}
    assert max(found)[0] < before + 32  # of 64
    assert ms.snapshot().pages == ()


def test_small_arrays_are_sent_and_can_be_written_to():
    small = np.zeros(3)

    def fun(row):
        small[0] += 1
        return float(small.sum())

    assert sum(ms.memapply(X[:1], "rows", fun, max_cores=1)) == 1.0


def test_libraries_that_the_function_loads_use_one_thread_and_others_are_as_before(cluster):
    pytest.importorskip("scipy")

    def threads(_=None):
        import scipy.linalg
        import threadpoolctl

        scipy.linalg.svd(np.ones((2, 2)))
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}

    view = cluster.view(1)
    before = view.apply_sync(lambda: os.environ.get("OMP_NUM_THREADS"))
    assert ms.memapply(X, "rows", threads, cluster=view) == [{1}] * 4
    assert view.apply_sync(lambda: os.environ.get("OMP_NUM_THREADS")) == before
