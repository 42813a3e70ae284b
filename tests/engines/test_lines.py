"""Lines: calls without a controller between, and everything that could go wrong with them."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import threading
import time
import warnings
from functools import partial

import ipykernel
import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core import blocks
from memshare_jupyter.engines import Engine, _lines
from memshare_jupyter.worker import CALL

X = np.arange(40.0).reshape(40, 1)
ALL = X[:, 0].tolist()


@pytest.fixture(scope="module")
def cluster():
    if ipykernel.version_info < (7,):
        pytest.skip("the kernel has no lock that a line could wait for: calls are messages")
    cluster = ms.local_cluster(2, quiet=True)
    yield cluster
    ms.local_cluster(1, quiet=True).stop()


def lines(cluster, number):
    return _lines.lines_of(cluster.client)._free.get(number, [])


@pytest.fixture
def view(cluster, eventually):
    """Two engines, each of which has a line."""
    view = ms.local_cluster(2, quiet=True).view(2)

    def have_lines():  # an engine that has just started may come too late for the first call
        assert ms.memapply(X, "rows", first, cluster=view) == ALL
        return all(lines(cluster, number) for number in view.targets)

    eventually(have_lines)
    return view


def first(row):
    return float(row[0])


def on_engine():
    from IPython import get_ipython

    return get_ipython().user_ns


def slow(row):
    time.sleep(0.005)
    return float(row[0])


def test_a_call_sends_no_message_once_there_is_a_line(view):
    sent = len(view.client.history)
    assert ms.memapply(X, "rows", first, cluster=view) == ALL
    assert len(view.client.history) == sent


def test_calls_at_one_time_have_lines_of_their_own(cluster, view):
    for _ in range(2):
        runs = [ms.memapply(X, "rows", slow, cluster=view, block=False) for _ in range(3)]
        assert [run.result(30) for run in runs] == [ALL] * 3
    ends = [line.end.fd for line in lines(cluster, view.targets[0])]
    assert len(ends) == len(set(ends)) > 1


def test_a_call_does_not_overtake_a_message(view):
    for number in range(20):
        view.execute(f"__import__('time').sleep(0.01); order = {number}", block=False)
        found = ms.memapply(X[:2], "rows", lambda _: on_engine()["order"], cluster=view)
        assert found == [number] * 2


def test_a_call_waits_for_what_others_have_the_engine_do(view):
    import ipyparallel as ipp

    def nap():
        time.sleep(0.3)
        on_engine()["awake"] = True

    view.execute("awake = False", block=True)
    with ipp.Client(ms.local_cluster(quiet=True)._link.connection) as other:
        naps = other[view.targets].apply_async(nap)
        time.sleep(0.1)
        found = ms.memapply(X[:2], "rows", lambda _: on_engine()["awake"], cluster=view)
        naps.get(30)
    assert found == [True, True]


def test_a_call_waits_while_a_message_awaits_something(view):
    def hold():
        import asyncio

        from IPython import get_ipython

        shell = get_ipython()
        shell.user_ns["held"] = None

        async def holding():
            async with shell.kernel._main_asyncio_lock:
                shell.user_ns["held"] = True
                await asyncio.sleep(0.3)
                shell.user_ns["held"] = False

        shell.user_ns["task"] = asyncio.get_running_loop().create_task(holding())

    view.apply_sync(hold)
    time.sleep(0.1)
    found = ms.memapply(X[:2], "rows", lambda _: on_engine()["held"], cluster=view)
    assert found == [False, False]
    assert view.apply_sync(os.getpid)


def test_two_clients_share_engines(view):
    import ipyparallel as ipp

    with ipp.Client(ms.local_cluster(quiet=True)._link.connection) as other:
        wrong = []

        def work():
            found = (ms.memapply(X, "rows", first, cluster=other[view.targets]) for _ in range(30))
            wrong.extend(one for one in found if one != ALL)

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(30):
            assert ms.memapply(X, "rows", first, cluster=view) == ALL
        thread.join()
        assert not wrong


def test_an_answer_to_an_earlier_call_is_nobodys(view):
    engine = Engine(view.client, view.targets[0])
    line = _lines.lines_of(view.client).take(engine)
    before = line.number
    for _ in range(2):
        line.send(CALL, b"no call at all")
    answers = []
    while len(answers) < 1:
        assert select.select([line.end.fd], [], [], 10)[0]
        with contextlib.suppress(BlockingIOError):  # that was the first one's
            answers.append(line.receive())
    ((_, text),) = answers
    assert b"UnpicklingError" in text
    assert line.number == before + 2
    with pytest.raises(BlockingIOError):
        line.receive()
    line.end.close()


def test_much_goes_beside_the_packets(view):
    much = os.urandom(600_000)
    found = ms.memapply(X[:2], "rows", lambda _: print(much.hex()[:19_000]) or much, cluster=view)
    assert found == [much] * 2


def test_an_engine_that_is_killed_is_seen_by_the_end_of_its_line(view):
    pids = view.apply_sync(os.getpid)

    def kill(row, pid=pids[0]):
        time.sleep(0.005)
        if os.getpid() == pid:
            os.kill(pid, signal.SIGKILL)
        return float(row[0])

    sent = len(view.client.history)
    with pytest.warns(RuntimeWarning, match="died during the call"):
        assert ms.memapply(X, "rows", kill, cluster=view) == ALL
    assert len(view.client.history) == sent


def test_an_only_engine_that_dies_is_replaced(tmp_path):
    cluster = ms.local_cluster(1, quiet=True)
    mark = tmp_path / "killed"

    def kill_once(row):
        if row[0] == 7 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(row[0])

    for _ in range(2):
        ms.memapply(X, "rows", first, max_cores=1)
    with pytest.warns(RuntimeWarning, match="died during the call"):
        assert ms.memapply(X, "rows", kill_once, max_cores=1) == ALL
    assert cluster.running


def forking(_row):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from Python 3.12 on, of threads
        pid = os.fork()
    if pid == 0:
        time.sleep(20)
        os._exit(0)
    return pid


def test_what_an_engine_forks_does_not_keep_the_line(view, eventually):
    engine = Engine(view.client, view.targets[0])
    pid = ms.memapply(X[:1], "rows", lambda _: os.getpid(), cluster=view)[0]
    (child,) = ms.memapply(X[:1], "rows", forking, cluster=view)
    line = _lines.lines_of(view.client).take(engine)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([line.end.fd], [], [], 10)[0]
        assert line.receive() is None
    finally:
        os.kill(child, signal.SIGKILL)
        line.end.close()
    eventually(lambda: engine.number not in view.client.ids)


def test_a_forked_caller_has_no_lines(view):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, pickle.dumps((len(_lines._of_clients), _lines._listener._socket)))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert pickle.loads(os.read(read, 1000)) == (0, None)
    os.close(read)
    os.close(write)
    sent = len(view.client.history)
    assert ms.memapply(X, "rows", first, cluster=view) == ALL
    assert len(view.client.history) == sent


def served():
    from memshare_jupyter.worker import _line

    return len(_line._served)


def test_an_engine_drops_a_line_whose_caller_is_gone(view, eventually):
    before = view.apply_sync(served)
    number = view.targets[0]
    engine = Engine(view.client, number)
    line = _lines.lines_of(view.client).take(engine)
    line.end.close()
    eventually(lambda: view.client[number].apply_sync(served) == before[0] - 1)


def test_an_interrupted_call_closes_its_line_and_the_next_call_is_right(view):
    main = threading.main_thread().ident
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(3):
            later = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
            later.start()
            with pytest.raises(KeyboardInterrupt):
                ms.memapply(X, "rows", lambda _: time.sleep(60), cluster=view)
            later.join()
            assert ms.memapply(X, "rows", first, cluster=view) == ALL
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_caller_killed_while_it_waits_for_lines_leaves_nothing(child, runtime_directory):
    caller = child(
        "from memshare_jupyter.engines import _lines\n_lines._listener.listen(b'k' * 16)"
    )
    assert list(runtime_directory.glob("*.line"))
    ms.snapshot()
    caller.kill()
    ms.snapshot()
    assert list(runtime_directory.glob("*.line")) == []


def test_without_a_line_it_is_messages(monkeypatch, eventually):
    cluster = ms.local_cluster(2, quiet=True)
    client = cluster.client
    monkeypatch.setattr(_lines, "_of_clients", {})
    monkeypatch.setattr(blocks, "user_of", lambda _: os.geteuid() + 1)
    for _ in range(2):
        sent = len(client.history)
        assert ms.memapply(X, "rows", first, cluster=cluster.view(2)) == ALL
        assert len(client.history) > sent
    assert lines(cluster, cluster.view(2).targets[0]) == []
    # What an engine answers that was late, the next call hears.
    call = partial(ms.memapply, X, "rows", first, cluster=cluster.view(2))
    eventually(lambda: call() == ALL and not _lines._listener._expected)
    assert _lines._listener._socket is None


@pytest.mark.slow
def test_a_storm_of_interrupts_ends_no_engine(view):
    pids = view.apply_sync(os.getpid)
    stop = threading.Event()

    def storm():
        while not stop.is_set():
            for pid in pids:
                os.kill(pid, signal.SIGINT)
            time.sleep(0.0007)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        for _ in range(300):
            assert ms.memapply(X, "rows", first, cluster=view) == ALL
    finally:
        stop.set()
        thread.join()
    assert view.apply_async(os.getpid).get(30) == pids


def memory_of(view):
    lines = _lines.lines_of(view.client)
    return {thing.address.uuid for kept in lines._kept.values() for thing in kept}


def test_queue_and_results_are_the_same_from_call_to_call(view):
    before = memory_of(view)
    assert before
    assert ms.memapply(X, "rows", first, cluster=view) == ALL
    assert memory_of(view) == before


def test_calls_at_one_time_have_memory_of_their_own(view):
    runs = [ms.memapply(X, "rows", slow, cluster=view, block=False) for _ in range(3)]
    assert [run.result(30) for run in runs] == [ALL] * 3
    assert len(memory_of(view)) >= 4


def test_memory_that_an_engine_may_still_write_to_is_not_used_again(view, eventually):
    while True:  # nothing is kept when as many calls as ever go on at one time
        lines = _lines.lines_of(view.client)
        kept = [one for some in lines._kept.values() for one in some]
        if not kept:
            break
        lines._kept.clear()
        for one in kept:
            one.close()

    def deaf(row):
        import ctypes

        if row[0] == 0:
            ctypes.PyDLL(None).usleep(900_000)  # keeps the interpreter, so nothing is heard
        return float(row[0])

    run = ms.memapply(X, "rows", deaf, cluster=view, block=False)
    eventually(lambda: run.progress > 10)
    run.cancel()
    with pytest.raises(Exception, match="cancelled after"):
        run.result(30)
    assert memory_of(view) == set()
    assert ms.memapply(X, "rows", first, cluster=view) == ALL


def test_what_results_took_is_given_back(view):
    ms.memapply(X, "rows", lambda _: np.ones(1 << 17), cluster=view)
    from memshare_jupyter.apply._collect import ResultsMemory

    kept = _lines.lines_of(view.client)._kept[ResultsMemory, None]
    assert max(os.fstat(one.block.fd).st_blocks for one in kept) <= 8


def test_nothing_is_kept_of_a_cluster_that_was_stopped(view):
    lines = _lines.lines_of(view.client)
    assert lines._kept
    ms.local_cluster(quiet=True).stop()
    assert not lines._kept
    assert not any(lines._free.values())
