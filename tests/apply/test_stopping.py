"""Who is stopped and who is waited for: others' work, clusters and callers that are gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.apply import current_runs

ROWS = np.arange(40.0).reshape(40, 1)
SOON_S = 5.0


@pytest.fixture
def cluster():
    cluster = ms.local_cluster(2, quiet=True)
    yield cluster
    ms.local_cluster(1, quiet=True).stop()
    assert current_runs() == []
    assert ms.snapshot().pages == ()


def slow(seconds):
    def fun(row):
        time.sleep(seconds)
        return float(row[0])

    return fun


def began(run, eventually):
    eventually(lambda: run.progress > 0)


@pytest.mark.slow
def test_cancelling_a_queued_run_leaves_the_one_that_works_alone(cluster, eventually):
    view = cluster.view(1)
    first = ms.memapply(ROWS[:2], "rows", slow(0.8), cluster=view, block=False)
    time.sleep(0.3)
    second = ms.memapply(ROWS[:2], "rows", slow(0.1), cluster=view, block=False)
    time.sleep(0.2)
    second.cancel()
    eventually(second.done)
    assert not first.done()
    assert first.result(30) == [0.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["by an error", "by the user"])
def test_a_call_that_ends_leaves_other_tasks_of_its_engines_alone(cluster, ends):
    def mine():
        for _ in range(15):
            time.sleep(0.1)
        return "done"

    client = cluster.client
    task = client[client.ids[1]].apply_async(mine)
    time.sleep(0.3)
    if ends == "by an error":
        with pytest.raises(ms.MemApplyError):
            ms.memapply(ROWS, "rows", lambda _: 1 / 0, cluster=cluster)
    else:
        run = ms.memapply(ROWS, "rows", slow(60), cluster=cluster, block=False)
        time.sleep(0.3)
        run.cancel()
        with pytest.raises(Exception, match="cancelled after"):
            run.result(30)
    assert task.get(30) == "done"


@pytest.mark.slow
def test_an_item_that_swallows_interrupts_is_interrupted_again(cluster, eventually):
    def stubborn(_row):
        for _ in range(3):
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(60)

    view = cluster.view(1)
    run = ms.memapply(ROWS, "rows", stubborn, cluster=view, block=False)
    time.sleep(0.4)
    run.cancel()
    eventually(run.done)
    assert view.apply_async(int).get(timeout=20) == [0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "killed", "its client closed"])
def test_a_call_ends_soon_when_its_cluster_is_gone(cluster, how, eventually):
    run = ms.memapply(ROWS, "rows", slow(0.3), cluster=cluster, block=False)
    began(run, eventually)
    controller = next(p for p in _members(cluster) if "ms-controller" in _name(p))
    if how == "stopped":
        cluster.stop()
    elif how == "killed":
        os.kill(controller, signal.SIGKILL)
    else:
        cluster.client.close(linger=0)
    begin = time.monotonic()
    with pytest.raises(ms.ClusterError, match="cannot be reached"):
        run.result(30)
    assert time.monotonic() - begin < SOON_S
    if how == "its client closed":
        cluster.stop()


@pytest.mark.slow
def test_a_call_on_a_cluster_that_was_stopped_is_an_error_of_ours(cluster):
    cluster.stop()
    for given in (cluster, cluster.client):
        with pytest.raises(ms.ClusterError, match="cannot be used"):
            ms.memapply(ROWS, "rows", np.sum, cluster=given)


@pytest.mark.slow
def test_results_that_are_all_there_do_not_wait_for_an_engine_that_stands_still(cluster):
    view = cluster.view(2)
    still = view.apply_sync(os.getpid)[1]
    os.kill(still, signal.SIGSTOP)
    try:
        found = ms.memapply(ROWS, "rows", slow(0.01), cluster=view)
    finally:
        os.kill(still, signal.SIGCONT)
    assert found == ROWS[:, 0].tolist()
    assert view.apply_async(int).get(timeout=20) == [0, 0]


@pytest.mark.slow
def test_only_the_item_that_an_engine_was_at_is_done_again(cluster, tmp_path, eventually):
    log = tmp_path / "log"

    def logged(row):
        time.sleep(0.1)
        with log.open("ab", 0) as file:
            file.write(b"%d %d\n" % (row[0], os.getpid()))
        return float(row[0])

    run = ms.memapply(ROWS, "rows", logged, cluster=cluster.view(2), block=False)
    eventually(lambda: log.exists() and len(log.read_text().split("\n")) > 8)
    victim = int(log.read_text().split()[1])
    os.kill(victim, signal.SIGKILL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run.result(60) == ROWS[:, 0].tolist()
    done = [line.split()[0] for line in log.read_text().splitlines()]
    assert len(done) - len(set(done)) <= 1


@pytest.mark.slow
def test_an_engine_that_dies_is_replaced_also_the_only_one_and_its_item_named(cluster):
    cluster.stop()

    def fun(row):
        if row[0] == 7:
            os._exit(1)
        return float(row[0])

    ms.local_cluster(1, quiet=True)
    with pytest.warns(RuntimeWarning, match="engines 0 and 1 died"):
        found = ms.memapply(ROWS, "rows", fun, on_error="return")
    assert "died at index 7" in str(found.pop(7))
    assert found == [float(i) for i in range(40) if i != 7]
    with pytest.raises(ms.MemApplyError, match="died at index 7"):
        ms.memapply(ROWS, "rows", fun)


@pytest.mark.slow
def test_a_replacement_does_its_share_of_what_is_left(cluster, eventually):
    run = ms.memapply(np.zeros((120, 1)), "rows", slow(0.05), cluster=cluster, block=False)
    began(run, eventually)
    victim, survivor = cluster.view(2).client.ids
    os.kill(_pid(cluster, victim), signal.SIGKILL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run.result(60) == [0.0] * 120
    assert run.engines == (victim, survivor, survivor + 1)
    assert run.progress == 120
    assert min(run.done_by_engine()[1:]) > 20


@pytest.mark.slow
@pytest.mark.parametrize("item_s", [0.05, 60])
def test_workers_stop_when_their_caller_is_gone(cluster, tmp_path, child_environment, item_s):
    log = tmp_path / "log"
    connection = tmp_path / "client.json"
    connection.write_text(json.dumps(cluster._link.connection))
    code = f"""
        import ipyparallel, os, time, numpy, memshare_jupyter as ms
        client = ipyparallel.Client({str(connection)!r})
        client.wait_for_engines(2)
        def fun(row):
            open({str(log)!r}, "a").write("x")
            time.sleep({item_s})
        run = ms.memapply(numpy.zeros((400, 1)), "rows", fun, cluster=client, block=False)
        while not run.progress and not os.path.exists({str(log)!r}):
            time.sleep(0.01)
        time.sleep(0.3)
        print("go", flush=True)
        time.sleep(60)
    """
    caller = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=child_environment, stdout=subprocess.PIPE
    )
    assert caller.stdout.readline() == b"go\n"
    caller.kill()
    caller.wait()
    caller.stdout.close()
    begin = time.monotonic()
    assert cluster.view(2).apply_async(int).get(timeout=20) == [0, 0]
    assert time.monotonic() - begin < SOON_S  # 400 items of 50 ms, or one of a minute


@pytest.mark.slow
def test_forked_pools_end_inside_a_function(cluster):
    def pooled(row):
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return sum(pool.map(abs, [1, 2]))

    run = ms.memapply(ROWS[:10], "rows", pooled, cluster=cluster, block=False)
    assert run.result(60) == [3] * 10


def test_a_call_inside_a_function_is_done_by_its_engine(cluster):
    def outer(row):
        def inner(v, of):
            return float(v[0] + of[0]), os.getpid()

        found = ms.memapply(np.ones((3, 1)), "rows", inner, vars={"of": row})
        assert {pid for _, pid in found} == {os.getpid()}
        return sum(number for number, _ in found)

    assert ms.memapply(ROWS[:4], "rows", outer) == [3.0, 6.0, 9.0, 12.0]
    with pytest.raises(ms.MemApplyError, match="ZeroDivisionError: division"):
        ms.memapply(
            ROWS[:4], "rows", lambda r: ms.memapply(np.ones((2, 1)), 1, lambda _: 1 / 0, "inner")
        )


def _pid(cluster, engine):
    return next(p for p in _members(cluster) if _name(p) == f"ms-engine{engine}\n")


def _members(cluster):
    tether = cluster._link.pid
    return [
        int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _parent(int(pid)) == tether
    ]


def _parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _name(pid):
    with open(f"/proc/{pid}/comm") as comm:
        return comm.read()
