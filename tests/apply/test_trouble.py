"""memapply when engines die, items take for ever, and the user loses patience."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.apply import current_runs

ROWS = np.arange(200.0).reshape(200, 1)


@pytest.fixture(scope="module")
def cluster():
    yield lambda n: ms.local_cluster(n, quiet=True)
    ms.local_cluster(1, quiet=True).stop()


@pytest.fixture(autouse=True)
def nothing_goes_on():
    yield
    assert current_runs() == []
    assert ms.snapshot().pages == ()


@pytest.fixture(autouse=True)
def interrupts_are_heard():
    """Also where the tests were started in the background, by a shell that ignores them there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def slow_double(row):
    time.sleep(0.002)
    return 2 * row[0]


def when_a_run_has_done(count, act):
    """Do something in another thread as soon as a run has come so far."""

    def watch():
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            runs = current_runs()
            if runs and runs[0].progress >= count:
                act()
                return
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("out", ["list", "array"])
def test_a_killed_engine_costs_no_result_and_one_warning_says_so(cluster, out):
    view = cluster(2).view(2)
    victim = view.apply_sync(os.getpid)[0]
    killing = when_a_run_has_done(60, lambda: os.kill(victim, signal.SIGKILL))
    with pytest.warns(RuntimeWarning, match="engine . died during the call") as caught:
        found = ms.memapply(ROWS, "rows", slow_double, cluster=view, out=out)
    killing.join()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert list(found) == (2 * ROWS[:, 0]).tolist()


def test_finished_items_of_a_killed_engine_are_not_done_again(cluster, tmp_path):
    view = cluster(2).view(2)
    pids = view.apply_sync(os.getpid)
    log = tmp_path / "log"

    def logged(row):
        time.sleep(0.005)
        with log.open("ab", 0) as file:
            file.write(b"%d\n" % int(row[0]))
        return int(row[0])

    killing = when_a_run_has_done(120, lambda: os.kill(pids[1], signal.SIGKILL))
    with pytest.warns(RuntimeWarning, match="died"):
        assert ms.memapply(ROWS, "rows", logged, cluster=view) == list(range(200))
    killing.join()
    done = [int(line) for line in log.read_text().split()]
    assert set(done) == set(range(200))
    assert len(done) < 250  # at most what the engine had claimed and not written down


def kill_at_seven(row):
    if row[0] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(row[0])


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_an_item_that_kills_two_engines_is_an_error_with_its_index(cluster, n):
    with pytest.raises(ms.MemApplyError, match=r"engines \d+ and \d+ died at index 7") as caught:
        ms.memapply(ROWS, "rows", kill_at_seven, cluster=cluster(n).view(n))
    assert caught.value.index == 7


def test_or_that_item_alone_has_the_error_and_the_others_their_results(cluster):
    view = cluster(3).view(3)
    with pytest.warns(RuntimeWarning, match=r"engines \d+ and \d+ died"):
        found = ms.memapply(ROWS, "rows", kill_at_seven, cluster=view, on_error="return")
    assert isinstance(found.pop(7), ms.MemApplyError)
    assert found == [float(i) for i in range(200) if i != 7]


def test_batches_that_kill_are_named(cluster):
    with pytest.raises(ms.MemApplyError, match=r"died in the batch of items 0 to \d+") as caught:
        ms.memapply(
            ROWS,
            "rows",
            lambda batch: os.kill(os.getpid(), signal.SIGKILL) if batch[0, 0] == 0 else batch[:, 0],
            cluster=cluster(2).view(2),
            batch=True,
        )
    assert 0 in caught.value.items


def test_when_all_engines_are_dead_the_call_says_so_at_once(cluster):
    view = cluster(2).view(2)
    pids = view.apply_sync(os.getpid)

    def kill_all():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    killing = when_a_run_has_done(1, kill_all)
    with pytest.raises(ms.ClusterError, match=r"no engine is left: \d+ of 200 items"):
        ms.memapply(ROWS, "rows", slow_double, cluster=view)
    killing.join()


def kill_and_wait(client, engines):
    for engine in engines:
        os.kill(client[engine].apply_sync(os.getpid), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while set(engines) & set(client.ids) and time.monotonic() < deadline:
        time.sleep(0.01)


def test_engines_that_are_dead_before_the_call_are_an_error_only_if_all_are(cluster):
    view = cluster(2).view(2)
    victim, survivor = view.targets
    kill_and_wait(view.client, [victim])
    with pytest.warns(RuntimeWarning, match=f"engine {victim} died"):
        found = ms.memapply(ROWS, "rows", slow_double, cluster=view)
    assert found == (2 * ROWS[:, 0]).tolist()
    kill_and_wait(view.client, [survivor])
    with pytest.raises(ms.ClusterError, match="no engine is left: 200 of 200 items"):
        ms.memapply(ROWS, "rows", len, cluster=view)


def interrupt_after(run_has_done, times=1):
    main = threading.main_thread().ident
    return when_a_run_has_done(
        run_has_done, lambda: [signal.pthread_kill(main, signal.SIGINT) for _ in range(times)]
    )


@pytest.mark.parametrize("seconds", [0.002, 60])
def test_an_interrupt_leaves_the_engines_idle_also_when_an_item_takes_long(cluster, seconds):
    view = cluster(2).view(2)
    pids = view.apply_sync(os.getpid)
    interrupting = interrupt_after(0 if seconds > 1 else 20)
    with pytest.raises(KeyboardInterrupt):
        ms.memapply(ROWS, "rows", lambda _: time.sleep(seconds), cluster=view)
    interrupting.join()
    # Asked with a limit far below the length of an item: they are not in one any more.
    assert view.apply_async(os.getpid).get(timeout=20) == pids


@pytest.mark.slow
def test_an_interrupt_at_any_moment_leaves_no_engine_busy(cluster):
    # Nor memory: at the end of the run nothing may be open in this process.
    view = cluster(2).view(2)
    main = threading.main_thread().ident
    for step in range(80):
        later = threading.Timer(step * 1e-4, signal.pthread_kill, (main, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 -- it may come at once
            later.start()
            ms.memapply(ROWS, "rows", lambda _: time.sleep(60), cluster=view)
        later.join()
        assert view.apply_async(int).get(timeout=20) == [0, 0]


def test_a_failure_does_not_wait_for_a_long_item_of_another_engine(cluster):
    def fun(row):
        if row[0] == 0:
            time.sleep(0.1)  # the other engine has begun by then
            raise ValueError("at once")
        time.sleep(60)

    view = cluster(2).view(2)
    with pytest.raises(ms.MemApplyError, match="at once") as caught:
        ms.memapply(ROWS[:2], "rows", fun, cluster=view)
    assert caught.value.index == 0
    assert view.apply_async(int).get(timeout=20) == [0, 0]


def test_no_warning_without_a_death(cluster):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ms.memapply(ROWS, "rows", np.sum, cluster=cluster(2).view(2))


@pytest.mark.slow
def test_an_engine_of_a_standard_cluster_may_die_as_well():
    import ipyparallel as ipp

    with ipp.Cluster(n=2, log_level=40) as client:
        client.wait_for_engines(2, timeout=60)
        view = client[:]
        victim = view.apply_sync(os.getpid)[0]
        killing = when_a_run_has_done(60, lambda: os.kill(victim, signal.SIGKILL))
        with pytest.warns(RuntimeWarning, match="died during the call"):
            found = ms.memapply(ROWS, "rows", slow_double, cluster=view)
        killing.join()
        assert found == (2 * ROWS[:, 0]).tolist()
        interrupting = interrupt_after(0)
        with pytest.raises(KeyboardInterrupt):
            ms.memapply(ROWS, "rows", lambda _: time.sleep(60), cluster=client[client.ids[0]])
        interrupting.join()
        assert client[client.ids[0]].apply_async(int).get(timeout=20) == 0
