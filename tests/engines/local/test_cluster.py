"""The local cluster: real controllers and engines, really killed."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from ipyparallel.error import CompositeError

import memshare_jupyter as ms
from memshare_jupyter.engines.local import _cluster, _link, _members
from memshare_jupyter.engines.local._cluster import LocalCluster, local_cluster

GONE_WITHIN_S = 5.0  # the promise
PATIENCE_S = 60.0  # for everything that is no promise: a loaded machine is no failure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="local_cluster() needs Linux")


def wait_until(condition, timeout_s=PATIENCE_S, what="the condition"):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} not met in {timeout_s} s"
        time.sleep(0.01)


def processes_of(cluster: LocalCluster) -> list[psutil.Process]:
    tether = psutil.Process(cluster._link.pid)
    return [tether, *tether.children(recursive=True)]


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_gone(processes, directory, within_s=GONE_WITHIN_S):
    begin = time.monotonic()
    while (alive := [p for p in processes if lives(p)]) or os.path.exists(directory):
        assert time.monotonic() - begin < within_s, f"left: {alive}, {glob.glob(directory)}"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def shared():
    cluster = local_cluster(2, quiet=True)
    yield cluster
    _cluster._state.cluster.stop()


# --- one cluster, called in many ways -----------------------------------------------------


def test_every_engine_answers(shared):
    assert shared.n == 2
    assert len(set(shared.view().apply_sync(os.getpid))) == 2
    assert repr(shared) == "<LocalCluster: 2 engines>"


def test_later_calls_return_the_same_cluster(shared):
    pids = shared.view(2).apply_sync(os.getpid)
    assert local_cluster() is shared
    assert local_cluster(1) is shared
    assert shared.view(2).apply_sync(os.getpid) == pids
    assert shared.view(1).apply_sync(os.getpid) == pids[:1]


def test_a_view_of_more_engines_than_there_are_is_an_error(shared):
    with pytest.raises(ms.ClusterError, match="no view of 9 engines in a cluster of"):
        shared.view(9)


def test_less_than_one_engine_is_an_error():
    for number in (0, True, 2.5):
        with pytest.raises(ValueError, match=f"whole number of at least 1, not {number}"):
            local_cluster(number)


def test_there_is_one_process_per_engine_and_two_more(shared):
    assert len(processes_of(shared)) == 2 + shared.n


def test_ctrl_c_in_the_owners_terminal_does_not_reach_it(shared):
    assert {os.getsid(p.pid) for p in processes_of(shared)} == {shared._link.pid}


def test_engines_work_where_the_owner_works_and_import_what_it_imports(shared):
    def where():
        import os

        import memshare_jupyter

        return os.getcwd(), memshare_jupyter.__file__, dict(os.environ)

    here = where()
    for cwd, package, environment in shared.view().apply_sync(where):
        assert (cwd, package) == here[:2]
        added = environment.keys() - here[2].keys()  # ipykernel adds some; we none
        assert not [name for name in added if name.startswith(("IPP_", "IPYTHON", "PYTHON"))]


def test_engines_draw_different_random_numbers(shared):
    def draw():
        import random

        import numpy as np

        return random.random(), np.random.rand()  # noqa: NPY002, S311  (the state to be tested)

    draws = shared.view().apply_sync(draw)
    assert len({number for pair in draws for number in pair}) == 2 * shared.n


def test_who_has_no_key_hears_nothing_and_fills_nothing(shared):
    import zmq

    processes = processes_of(shared)
    controller = next(p for p in processes if p.name() == "ms-controller")
    ports = {c.laddr for p in processes for c in p.net_connections() if c.status == "LISTEN"}
    before, log = controller.memory_info().rss, os.fstat(shared._link._log.fileno()).st_size
    with zmq.Context() as context:
        poller, sockets = zmq.Poller(), []
        for host, port in ports:
            for kind in (zmq.SUB, zmq.DEALER):
                sockets.append(socket := context.socket(kind))
                socket.linger = 0
                socket.connect(f"tcp://{host}:{port}")
                if kind == zmq.SUB:
                    socket.subscribe(b"")
                    poller.register(socket, zmq.POLLIN)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            for socket in sockets:
                if socket.type == zmq.DEALER:
                    with contextlib.suppress(zmq.Again):
                        socket.send_multipart([b"x" * 10_000] * 4, zmq.NOBLOCK)
            shared.view(1).apply_sync(print, "secret")
            assert poller.poll(1) == []
        for socket in sockets:
            socket.close()
    assert controller.memory_info().rss - before < 20 << 20
    assert os.fstat(shared._link._log.fileno()).st_size - log < 100_000


def test_files_are_private_and_sockets_authenticated_on_loopback(shared):
    assert Path(shared._link.directory).stat().st_mode & 0o777 == 0o700
    assert Path(shared._link.directory).parent == Path(tempfile.gettempdir())
    connection = shared._link.connection
    assert connection["interface"].startswith("tcp://127.")
    assert len(connection["key"]) >= 32
    assert len(connection["curve_serverkey"]) == 40  # who lacks it cannot connect
    listening = [
        c.laddr.ip
        for process in processes_of(shared)
        for c in process.net_connections()
        if c.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert all(ip.startswith("127.") for ip in listening)


def test_clusters_do_not_share_an_address():
    from memshare_jupyter.engines.local._members import _loopback_address

    assert len({_loopback_address() for _ in range(9)}) > 1


def test_load_balanced_and_broadcast_views_work_too(shared):
    assert shared.client.load_balanced_view().map_sync(abs, range(-20, 0)) == list(range(20, 0, -1))
    assert shared.client.broadcast_view().apply_sync(abs, -3) == [3] * shared.n


def test_send_signal_interrupts_a_task(shared):
    def busy():
        import time

        end = time.monotonic() + 60
        while time.monotonic() < end:
            pass

    result = shared.view(1).apply_async(busy)
    engine = shared.client.ids[0]
    wait_until(lambda: shared.client.queue_status(engine)["queue"] == 1)
    while not result.wait(0.2):  # the task is queued first, and begins a little later
        shared.client.send_signal(signal.SIGINT, targets=engine, block=True)
    with pytest.raises(CompositeError, match="KeyboardInterrupt"):
        result.get()
    assert shared.view().apply_sync(abs, -1) == [1] * shared.n


def test_a_forked_child_neither_uses_nor_stops_the_cluster(shared, capfd):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with pytest.raises(ms.ClusterError, match="belongs to process"):
                shared.view()
            shared.stop()
            own = local_cluster(1)
            assert own is not shared
            assert own.view().apply_sync(os.getppid) == [own._link.pid]
            own.stop()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert capfd.readouterr().err.startswith("starting a local cluster of 1 engine ... ")
    assert shared.view().apply_sync(abs, -1) == [1] * shared.n


def test_a_dead_engine_is_noticed_and_replaced(shared, capfd):
    pids = shared.view().apply_sync(os.getpid)
    pending = shared.view(1).apply_async(time.sleep, 60)
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(CompositeError, match="Engine 0 died while running task"):
        pending.get(timeout=GONE_WITHIN_S)
    assert shared.n == 1
    assert local_cluster() is shared
    assert shared.n == 2
    assert pids[0] not in shared.view().apply_sync(os.getpid)
    message = capfd.readouterr().err
    assert message.startswith("engine 0 was killed by SIGKILL: starting 1 engine ... ")
    assert message.count("\n") == 1


def test_a_death_that_is_noticed_while_the_cluster_is_looked_at_is_no_error(shared, capfd):
    victim = max(shared.client.ids)
    pid = shared.client[victim].apply_sync(os.getpid)
    # The controller may know before the tether does.
    _members.send_unregistration(shared._link.connection, victim)
    while victim in shared.client.ids:
        time.sleep(0.002)
    threading.Timer(0.1, os.kill, (pid, signal.SIGKILL)).start()
    assert local_cluster(2) is shared
    assert shared.view(2).apply_sync(int) == [0, 0]
    message = capfd.readouterr().err
    assert message.startswith(f"engine {victim} was killed by SIGKILL: starting 1 engine ... ")


def test_more_engines_are_started_when_asked_for(shared, capfd):
    assert local_cluster(3) is shared
    assert len(set(shared.view().apply_sync(os.getpid))) == 3
    assert capfd.readouterr().err.startswith("starting 1 engine ... ")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["ms-controller", "tether"])
def test_after_the_controllers_or_tethers_death_all_is_started_afresh(shared, capfd, victim):
    before = _cluster._state.cluster
    processes = processes_of(before)
    directory = before._link.directory
    n = before.n
    [target] = [p for p in processes if p.name() == victim] or processes[:1]
    target.kill()
    wait_until(lambda: not before.running)
    after = local_cluster()
    assert after is not before
    assert_gone(processes, directory)
    assert after.n == n
    assert after.view().apply_sync(abs, -1) == [1] * n
    assert capfd.readouterr().err.count("\n") == 1
    with pytest.raises(ms.ClusterError, match="call local_cluster"):
        before.view()


def test_stop_leaves_nothing_and_the_next_call_starts_again(shared, capfd):
    cluster = _cluster._state.cluster
    processes, directory = processes_of(cluster), cluster._link.directory
    os.kill(cluster.view(1).apply_sync(os.getpid)[0], signal.SIGKILL)  # not worth a word after stop
    wait_until(lambda: cluster.n < cluster.target)
    cluster.stop()
    assert not [p for p in processes if lives(p)]
    assert not os.path.exists(directory)
    assert repr(cluster) == "<LocalCluster: stopped>"
    cluster.stop()
    again = local_cluster(1)
    assert again.view().apply_sync(abs, -1) == [1]
    assert capfd.readouterr().err.startswith("starting a local cluster of 1 engine ... ")
    assert local_cluster(2, quiet=True) is again
    assert capfd.readouterr().err == ""


def test_a_cluster_that_cannot_start_says_why_and_leaves_nothing(monkeypatch, shared):
    monkeypatch.setattr(_link, "_import_path", list)
    with pytest.raises(ms.ClusterError, match="No module named"):
        LocalCluster(1, quiet=True)


def test_an_interrupt_while_it_starts_leaves_nothing(monkeypatch, shared, capfd):
    started = []

    def interrupt(cluster, _n):
        started.append((processes_of(cluster), cluster._link.directory))
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalCluster, "_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        LocalCluster(1)
    [(processes, directory)] = started
    assert not [p for p in processes if lives(p)]
    assert not os.path.exists(directory)
    assert capfd.readouterr().err == "starting a local cluster of 1 engine ... failed\n"


# --- the end of the owner -------------------------------------------------------------------

OWNER = """
    import json, os, sys, time
    from memshare_jupyter.engines.local._cluster import local_cluster
    cluster = local_cluster(2)
    engines = cluster.view().apply_sync(os.getpid)
    import psutil
    tether = psutil.Process(cluster._link.pid)
    pids = [tether.pid, *(p.pid for p in tether.children(recursive=True))]
    print(json.dumps([pids, engines, cluster._link.directory]), flush=True)
"""

IDLE = "time.sleep(600)"

BUSY = """
    def busy():
        while True:
            pass
    cluster.view().apply_async(busy)
    time.sleep(600)
"""

STUCK = """
    def stuck():
        import ctypes
        libc, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)  # for ever, with the GIL held; signals do not end it
    cluster.view().apply_async(stuck)
    time.sleep(600)
"""

FORKED = """
    if os.fork() == 0:
        time.sleep(20)  # holds copies of the parent's file descriptors, or would
        os._exit(0)
    time.sleep(600)
"""

WITHOUT_PIDFD = """
    def forbidden(pid):
        raise PermissionError
    import os
    os.pidfd_open = forbidden
"""


@contextlib.contextmanager
def owner(then, in_tether=""):
    """Run a script that owns a cluster; yield its Popen, the cluster's processes, directory."""
    prelude = "from memshare_jupyter.engines.local import _link\n"
    if in_tether:
        prelude += f"_link._BOOTSTRAP = {textwrap.dedent(in_tether)!r} + _link._BOOTSTRAP\n"
    script = prelude + textwrap.dedent(OWNER) + textwrap.dedent(then)
    process = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    members = []
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        pids, engines, directory = json.loads(line)
        members = [psutil.Process(pid) for pid in pids]
        yield process, members, engines, directory
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        if members:
            shutil.rmtree(directory, ignore_errors=True)


def occupied(pids, then):
    """Whether the engines have begun what the script gave them to do."""
    processes = [psutil.Process(pid) for pid in pids]
    if then is BUSY:
        return all(p.cpu_percent(0.1) > 20 for p in processes)
    # An idle engine's main thread waits in epoll, and for the GIL a moment at most.
    for _ in range(20):
        if not all("futex" in Path(f"/proc/{pid}/wchan").read_text() for pid in pids):
            return False
        time.sleep(0.01)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
@pytest.mark.parametrize("then", [IDLE, BUSY, STUCK, FORKED], ids=["idle", "busy", "stuck", "fork"])
def test_nothing_is_left_five_seconds_after_the_owner_was_killed(then, how):
    with owner(then) as (process, members, engines, directory):
        assert os.path.isdir(directory)
        if then in {BUSY, STUCK}:
            wait_until(lambda: occupied(engines, then))
        process.send_signal(how)
        assert_gone(members, directory)


@pytest.mark.slow
def test_nothing_is_left_where_pidfds_are_forbidden():
    # The child would close its copies of the pipe's ends: make it keep one.
    keep = "os.dup(cluster._link._process.stdin.fileno())\n"
    with owner(keep + textwrap.dedent(FORKED), WITHOUT_PIDFD) as (
        process,
        members,
        _engines,
        directory,
    ):
        process.kill()
        assert_gone(members, directory)


def test_nothing_is_left_when_the_owner_exits_and_it_exits_quietly(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("IPYTHONDIR", raising=False)
    with owner("") as (process, members, _engines, directory):
        _out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert not [p for p in members if lives(p)]  # not even for a moment
        assert not os.path.exists(directory)
        assert err.startswith("starting a local cluster of 2 engines ... ")
        assert err.count("\n") == 1
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_nothing_is_left_when_the_owner_ends_by_an_exception():
    with owner("raise SystemExit('bye')") as (process, members, _engines, directory):
        _out, err = process.communicate(timeout=PATIENCE_S)
        assert err.splitlines()[1:] == ["bye"]
        assert_gone(members, directory, 0.5)


@pytest.mark.slow
def test_members_end_with_a_killed_tether_even_with_the_gil_held():
    with owner(STUCK) as (_process, members, engines, _directory):
        wait_until(lambda: occupied(engines, STUCK))
        members[0].kill()
        assert_gone(members, os.devnull + "/none")


@pytest.mark.slow
def test_nothing_is_left_when_a_kernel_is_restarted_and_shut_down():
    from jupyter_client.manager import KernelManager

    def start_cluster(client):
        printed = []

        def take(message):
            if message["msg_type"] in {"stream", "error"}:
                printed.append(message["content"])

        reply = client.execute_interactive(
            textwrap.dedent(OWNER), timeout=PATIENCE_S, output_hook=take
        )
        assert reply["content"]["status"] == "ok", printed
        text = "".join(c["text"] for c in printed if c["name"] == "stdout")
        pids, _engines, directory = json.loads(text)
        return [psutil.Process(pid) for pid in pids], directory

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=PATIENCE_S)
        left = start_cluster(client)
        manager.restart_kernel()
        client.wait_for_ready(timeout=PATIENCE_S)
        assert_gone(*left)
        left = start_cluster(client)
        manager.shutdown_kernel()
        assert_gone(*left)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        manager.context.destroy()
