"""A view, or a slice of one, goes by reference to whatever runs functions elsewhere."""

from __future__ import annotations

import concurrent.futures
import logging
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import pickle

import numpy as np
import pytest

import memshare_jupyter as ms

X = np.arange(60_000.0).reshape(200, 300)


def look(view):
    """Say what arrived, from inside another process."""
    return type(view).__name__, float(view.sum()), ms.view_list(), os.getpid()


@pytest.fixture
def part_of():
    """Share X; makes the slice that is sent (a fixture's value would outlive the test)."""
    with ms.Namespace("study") as study:
        study["X"] = X
        yield lambda: study["X"][10:150:3, ::-2]


@pytest.fixture(scope="module", autouse=True)
def no_helper_processes():
    """End the processes that the standard library keeps for later pools."""
    yield
    multiprocessing.forkserver._forkserver._stop()
    multiprocessing.resource_tracker._resource_tracker._stop()


EXPECTED = ("View", float(X[10:150:3, ::-2].sum()), ["study.X"])


def arrived(answers):
    """Check what every process saw; return the number of processes."""
    assert {(kind, total, tuple(held)) for kind, total, held, _ in answers} == {
        (*EXPECTED[:2], tuple(EXPECTED[2]))
    }
    pids = {pid for *_, pid in answers}
    assert os.getpid() not in pids
    return len(pids)


BASIC_SLICES = {
    "itself": lambda v: v,
    "rows": lambda v: v[3:9],
    "one row": lambda v: v[7],
    "one value": lambda v: v[7, 8:9],
    "steps": lambda v: v[::3, 1::-1],
    "backwards": lambda v: v[::-1, ::-1],
    "transposed": lambda v: v.T[4:, 5:],
    "reshaped": lambda v: v.reshape(100, 600)[1],
    "new axis": lambda v: v[None, :, None, 2],
    "other dtype": lambda v: v.view(np.int64),
    "diagonal": lambda v: v.diagonal(),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("cut", BASIC_SLICES.values(), ids=BASIC_SLICES.keys())
def test_a_basic_slice_pickles_to_less_than_a_kilobyte(cut, protocol):
    with ms.Namespace("study") as study:
        study["X"] = X
        there = cut(study["X"])
        sent = pickle.dumps(there, protocol=protocol)
        assert len(sent) < 1000
        back = pickle.loads(sent)
        assert np.shares_memory(back, study["X"])
        assert back.strides == there.strides
        np.testing.assert_array_equal(back, cut(X))


def test_ipyparallel_push_apply_and_map_send_references(part_of):
    part = part_of()
    view = ms.local_cluster(2, quiet=True).view(2)
    try:
        view.push({"part": part}, block=True)
        assert view.pull("part", block=True)[0].page == "study.X"
        assert arrived(view.apply_sync(look, part)) == 2
        assert arrived(view.map_sync(look, [part] * 4)) == 2
        assert ms.retrieve_metadata("study", "X")["X"].views == 3
        view.execute("del part", block=True)
    finally:
        ms.local_cluster().stop()


JOBLIB = """
import os, numpy as np, joblib, memshare_jupyter as ms
X = np.arange(60_000.0).reshape(200, 300)
def look(view):
    return type(view).__name__, float(view.sum()), ms.view_list(), os.getpid() == parent
parent = os.getpid()
with ms.Namespace("study") as study:
    study["X"] = X
    part = study["X"][10:150:3, ::-2]
    answers = joblib.Parallel(n_jobs=2)(joblib.delayed(look)(part) for _ in range(4))
    print(answers == [("View", float(part.sum()), ["study.X"], False)] * 4)
"""


def test_joblib_with_loky_sends_references(interpreter):
    pytest.importorskip("joblib", reason="needs joblib")
    assert interpreter(JOBLIB).strip() == "True"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_multiprocessing_pool_sends_references(part_of, method):
    part = part_of()
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        arrived(pool.map(look, [part] * 4))
        pool.close()
        pool.join()


@pytest.mark.slow
def test_concurrent_futures_send_references(part_of):
    part = part_of()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        arrived(list(pool.map(look, [part] * 4)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # dask's own imports
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_dask_distributed_sends_references(part_of, caplog):
    caplog.set_level(logging.CRITICAL, "distributed")  # a record keeps a traceback, and that views
    part = part_of()
    distributed = pytest.importorskip("distributed", reason="needs dask.distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        futures = [client.submit(look, part, pure=False) for _ in range(4)]
        arrived(client.gather(futures))
