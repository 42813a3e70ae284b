"""dask's workers as engines, on this host."""

from __future__ import annotations

import multiprocessing.resource_tracker
import os
import time
import warnings
from concurrent.futures import CancelledError

import numpy as np
import pytest

import memshare_jupyter as ms

distributed = pytest.importorskip("distributed")
X = np.random.default_rng(0).standard_normal((300, 200))


@pytest.fixture(scope="module")
def client():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, protocol="tcp"
        )
        made = distributed.Client(cluster)
        yield made
        made.close()
        cluster.close()
    multiprocessing.resource_tracker._resource_tracker._stop()


def test_results_are_those_of_a_loop(client):
    assert ms.memapply(X, "cols", np.std, cluster=client) == [np.std(v) for v in X.T]
    np.testing.assert_equal(
        ms.memapply(X, "rows", np.sort, cluster=client, out="array"), np.sort(X, axis=1)
    )


def test_errors_are_those_of_engines(client):
    with pytest.raises(ms.MemApplyError, match="division") as caught:
        ms.memapply(X, "cols", lambda v: 1 // 0, cluster=client)
    assert "ZeroDivisionError" in caught.value.remote_traceback


def test_a_worker_that_dies_loses_nothing(client):
    def deadly(v, path):
        import os
        import time

        time.sleep(0.002)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return float(v[0])
        os._exit(1)

    path = f"{os.environ['XDG_RUNTIME_DIR']}/dask-died"
    try:
        with pytest.warns(RuntimeWarning, match="died during the call"):
            found = ms.memapply(X, "cols", lambda v: deadly(v, path), cluster=client)
    finally:
        os.unlink(path)
    assert found == X[0].tolist()


def test_a_call_that_is_cancelled_takes_back_its_own_tasks_and_no_others(client, tmp_path):
    def wait_for(path):
        import os
        import time

        open(f"{path}.{os.getpid()}", "w").close()
        while not os.path.exists(path):
            time.sleep(0.01)
        return path

    client.wait_for_workers(2)  # one died
    assert ms.memapply(X, "cols", np.size, cluster=client) == [300] * 200
    free = str(tmp_path / "free")
    tasks = client.cluster.scheduler.tasks
    before = set(tasks)
    busy = [
        client.submit(wait_for, free, workers=[worker], pure=False)
        for worker in client.scheduler_info()["workers"]
    ]
    wait_until(lambda: len([*tmp_path.glob("free.*")]) == 2)  # both are at it
    others = ms.memapply(X, "cols", np.std, cluster=client, block=False)
    wait_until(lambda: len(set(tasks) - before) == 4)
    theirs = set(tasks)
    run = ms.memapply(X, "rows", np.std, cluster=client, block=False)
    wait_until(lambda: len(set(tasks) - theirs) == 2)
    run.cancel()
    with pytest.raises(CancelledError):
        run.result(30)
    wait_until(lambda: set(tasks) <= theirs)
    assert not others.done()
    open(free, "w").close()
    assert others.result(30) == [np.std(v) for v in X.T]
    assert client.gather(busy) == [free, free]


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
