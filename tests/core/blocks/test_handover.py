"""Memfds handed over a socket, where /proc does not lead to their holder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.blocks import _handover, _memfd
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.errors import PageNotFoundError

SIZE = 5_000
SUM = SIZE * (SIZE - 1) // 2
REGISTER = f"ms.register_variables('n', {{'x': np.arange({SIZE})}})"
ATTACH = "x = ms.retrieve_views('n', 'x')['x']"
UUID = bytes(range(16))


# --- the server --------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def a_process_that_nobody_asked_for_a_socket():
    """Tests before may have met a process of another pid namespace, and then this one serves."""
    process.close()


@pytest.fixture
def block():
    made = _memfd.create(UUID, 4096)
    os.pwrite(made.fd, b"held", 0)
    made.seal(writable=False)
    yield made
    made.close()


@pytest.fixture
def server(tmp_path, block, monkeypatch):
    monkeypatch.setattr(_handover, "_CLIENT_S", 0.3)
    made = _handover.Server(tmp_path / "s.socket", _memfd.reopen_held)
    yield made
    made.end()
    assert not (tmp_path / "s.socket").exists()


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "memshare socket"]


def connected(tmp_path):
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "s.socket"))
    client.settimeout(10)
    return client


def fetched(tmp_path, uuid=UUID, writable=False):
    fd = _handover.fetch(tmp_path / "s.socket", uuid, writable=writable)
    try:
        assert os.pread(fd, 4, 0) == b"held"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(fd, b"x", 0)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_client_gets_a_descriptor_that_can_only_read(tmp_path, server):
    fetched(tmp_path)


def test_a_writable_block_is_handed_out_for_writing_when_asked(tmp_path, server):
    other = _memfd.create(bytes(16), 4096)
    other.seal(writable=True)
    fd = _handover.fetch(tmp_path / "s.socket", bytes(16), writable=True)
    os.pwrite(fd, b"by the client", 0)
    assert os.pread(other.fd, 13, 0) == b"by the client"
    os.close(fd)
    other.close()


def test_a_sealed_block_is_not_handed_out_for_writing(tmp_path, server):
    with pytest.raises(PermissionError):
        fetched(tmp_path, writable=True)


def test_a_block_that_is_not_held_is_not_there(tmp_path, server, block):
    with pytest.raises(LookupError):
        fetched(tmp_path, bytes(16))


def test_garbage_is_hung_up_on(tmp_path, server):
    for garbage in (b"", b"x", b"\0" * 25, b"memshar1" + bytes(18), os.urandom(3000)):
        with connected(tmp_path) as client:
            client.send(garbage)
            client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    fetched(tmp_path)


def test_silent_clients_keep_nobody_waiting_and_are_hung_up_on(tmp_path, server):
    silent = [connected(tmp_path) for _ in range(20)]
    began = time.monotonic()
    fetched(tmp_path)
    assert time.monotonic() - began < _handover._CLIENT_S  # one of them would be waited for so long
    for client in silent:
        assert client.recv(1) == b""
        client.close()
    assert server._clients == {}


def test_more_clients_than_it_takes_wait_their_turn(tmp_path, server, monkeypatch):
    monkeypatch.setattr(_handover, "_MOST_CLIENTS", 2)
    silent = [connected(tmp_path) for _ in range(5)]
    fetched(tmp_path)
    for client in silent:
        client.close()


def test_clients_that_leave_at_once_do_no_harm(tmp_path, server):
    for _ in range(200):
        connected(tmp_path).close()
    fetched(tmp_path)


def test_another_user_is_hung_up_on(tmp_path, server, monkeypatch):
    monkeypatch.setattr(_handover, "user_of", lambda connected: os.getuid() + 1)
    with connected(tmp_path) as client:
        client.send(_handover._REQUEST.pack(_handover._MAGIC, UUID, False))
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError, match="another user"):
        fetched(tmp_path)


def test_a_socket_works_below_a_long_path(tmp_path, block):
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    made = _handover.Server(deep / "s.socket", _memfd.reopen_held)
    fetched(deep)
    made.end()


def test_an_ended_server_leaves_no_thread_and_no_descriptor(tmp_path, block):
    before = len(os.listdir("/proc/self/fd"))
    made = _handover.Server(tmp_path / "s.socket", _memfd.reopen_held)
    made.end()
    assert threads() == []
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(FileNotFoundError):
        fetched(tmp_path)


# --- when it is served -------------------------------------------------------------------


def sockets(directory):
    return {path.stem for path in directory.glob("*.socket")}


def test_a_process_that_can_be_reached_has_no_socket_and_no_thread(child, runtime_directory):
    owner = child(REGISTER)
    assert owner.eval("threading.active_count()") == 1
    assert sockets(runtime_directory) == set()


HIDE = "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)"


def test_a_process_that_is_not_dumpable_serves_a_socket(child, runtime_directory):
    owner = child(f"{HIDE}; {REGISTER}")
    assert owner.eval("threading.active_count()") == 2
    token = owner.eval("process.registry().session_file.stem.split('-')[1]")
    assert sockets(runtime_directory) == {token}
    owner.exit()
    assert sockets(runtime_directory) == set()


def test_a_process_that_stops_being_dumpable_is_reachable_after_its_next_look(
    child, runtime_directory
):
    owner = child(REGISTER)
    owner.run(HIDE)
    owner.run("ms.page_list(); ms.snapshot()")
    assert len(sockets(runtime_directory)) == 1
    owner.kill()
    ms.snapshot()
    assert sockets(runtime_directory) == set()


def test_a_socket_can_be_asked_for(child, runtime_directory):
    child("os.environ['MEMSHARE_SOCKET'] = '1'; process.registry()").exit()
    owner = child(f"os.environ['MEMSHARE_SOCKET'] = '1'; {REGISTER}")
    assert len(sockets(runtime_directory)) == 1
    owner.exit()


def test_the_socket_of_a_process_that_only_looked_goes_when_it_is_killed(child, runtime_directory):
    looking = child("os.environ['MEMSHARE_SOCKET'] = '1'; ms.snapshot()")
    assert len(sockets(runtime_directory)) == 1
    ms.snapshot()  # so that only its death is new
    looking.kill()
    ms.snapshot()
    assert sockets(runtime_directory) == set()


@pytest.mark.parametrize("suffix", ["socket", "line", "wanted"])
def test_what_lies_beside_no_session_goes_with_the_last_process(child, runtime_directory, suffix):
    last = child(REGISTER)
    (runtime_directory / f"{bytes(16).hex()}.{suffix}").touch()
    last.exit()
    assert not runtime_directory.exists()


def test_a_socket_that_a_cleaner_removed_comes_back(child, runtime_directory):
    owner = child(f"os.environ['MEMSHARE_SOCKET'] = '1'; {REGISTER}")
    (path,) = runtime_directory.glob("*.socket")
    path.unlink()
    owner.run("ms.snapshot()")
    assert path.exists()
    owner.exit()


def test_a_forked_child_does_not_inherit_the_socket(child, runtime_directory):
    owner = child(f"os.environ['MEMSHARE_SOCKET'] = '1'; {REGISTER}")
    owner.run(
        "import glob\n"
        "del os.environ['MEMSHARE_SOCKET']\n"
        "if (pid := os.fork()) == 0:\n"
        "    alone = threading.active_count() == 1 and ms.view_list() == ['n.x']\n"
        "    sockets = sum('socket' in os.readlink(f) for f in glob.glob('/proc/self/fd/*')"
        " if os.path.lexists(f))\n"
        "    process.close()\n"
        "    os._exit(sockets if alone else 99)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )
    assert owner.eval("code") == 1  # the connection to this test
    assert len(sockets(runtime_directory)) == 1
    uuid = owner.eval("bytes.fromhex(ms.snapshot().pages[0].uuid)")
    (path,) = runtime_directory.glob("*.socket")
    os.close(_handover.fetch(path, uuid, writable=False))
    owner.exit()


# --- for real: a process that another of its user cannot open ----------------------------


NOBODY = 65534


@pytest.fixture
def nobody(child, tmp_path_factory):
    """Make children of a user without privileges, who have a runtime directory of their own."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    home = Path("/dev/shm", f"memshare-nobody-{os.getpid()}")  # noqa: S108 -- made 0700
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)

    def make(code):
        one = child(f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})")
        one.run(f"os.environ['XDG_RUNTIME_DIR'] = {str(home)!r}")
        one.run(code)
        return one

    yield make
    shutil.rmtree(home)


SHOW = "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)"


def test_a_page_of_a_hidden_process_is_attached_over_its_socket(nobody):
    owner = nobody(f"{HIDE}; {REGISTER}")
    viewer = nobody(f"{SHOW}; process.registry()")
    owner.run(
        "fd = next(fd for fd in range(3, 1000) if os.path.lexists(f'/proc/self/fd/{fd}')"
        " and 'memfd:memshare' in os.readlink(f'/proc/self/fd/{fd}'))"
    )
    fd = owner.eval("fd")
    with pytest.raises(PermissionError):
        viewer.run(f"os.open('/proc/{owner.pid}/fd/{fd}', os.O_PATH)")
    viewer.run(ATTACH)
    assert viewer.eval("int(x.sum())") == SUM
    assert viewer.eval("x.flags.writeable") is False
    owner.kill()
    assert viewer.eval("ms.snapshot().pages[0].state") == "orphaned"
    late = nobody(ATTACH)  # by /proc, from the viewer
    assert late.eval("int(x.sum())") == SUM
    late.exit()
    viewer.exit()


def test_a_stopped_holder_behind_a_socket_gives_an_error_and_no_hang(nobody):
    owner = nobody(f"{HIDE}; {REGISTER}")
    viewer = nobody(
        f"{SHOW}; from memshare_jupyter.core.blocks import _handover; _handover._PATIENCE_S = 0.2"
    )
    viewer.run("from memshare_jupyter.core.registry import _opening; _opening._PATIENCE_S = 0.2")
    owner.signal(signal.SIGSTOP)
    with pytest.raises(PageNotFoundError, match="did not answer within"):
        viewer.run(ATTACH)
    owner.signal(signal.SIGCONT)
    viewer.run(ATTACH)
    viewer.exit()
    owner.exit()


# --- for real: another pid namespace -----------------------------------------------------

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
LOOP = """
import sys, numpy as np, memshare_jupyter as ms
for line in sys.stdin:
    try:
        print("ok", eval(line), flush=True)
    except Exception as error:
        print("error", type(error).__name__, str(error), flush=True)
"""


class Elsewhere:
    """An interpreter in surroundings of its own, which evaluates lines."""

    def __init__(self, environment, surroundings=UNSHARE):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(
            [*surroundings, sys.executable, "-W", "error", "-c", LOOP],
            env=environment, text=True, **pipes,
        )  # fmt: skip

    def eval(self, code):
        self._process.stdin.write(code + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def end(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


@pytest.fixture
def elsewhere(child_environment):
    made = []
    probe = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"unshare is not permitted: {probe.stderr.strip()}")

    def make():
        made.append(Elsewhere(child_environment))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def this_process_begins_anew():
    """The socket of a session that has seen another namespace stays until its end."""
    process.close()
    yield
    process.close()


def test_pages_cross_pid_namespaces_both_ways(elsewhere, this_process_begins_anew):
    there = elsewhere()
    there.eval("ms.register_variables('t', {'there': np.arange(2)})")  # so that it is seen
    ms.register_variables("n", {"x": np.arange(SIZE)})
    assert there.eval("ms.retrieve_views('n', 'x')['x'].sum()") == f"ok {SUM}"
    there.eval("ms.register_variables('n', {'y': np.arange(7)})")
    assert ms.retrieve_views("n", "y")["y"].sum() == 21
    ms.release_views("n", "y")
    ms.release_variables("n", "x")
    assert there.eval("ms.retrieve_views('n', 'x')['x'].sum()").startswith("error PageNotFound")


def test_a_killed_holder_in_another_pid_namespace_is_forgotten(
    elsewhere, this_process_begins_anew, runtime_directory, eventually
):
    there = elsewhere()
    there.eval("__import__('os').environ.update(MEMSHARE_SOCKET='1')")
    there.eval("ms.register_variables('n', {'x': np.arange(5)})")
    assert ms.snapshot().pages[0].variable == "x"
    (listed,) = runtime_directory.glob("1-*.session")  # the first process of its namespace
    token = listed.stem.split("-")[1]
    assert token in sockets(runtime_directory)
    there._process.kill()
    eventually(lambda: not ms.snapshot().pages)
    assert token not in sockets(runtime_directory)


def test_a_holder_that_serves_no_socket_yet_is_named_with_the_way_out(elsewhere, child):
    owner = child(REGISTER)
    there = elsewhere()
    answer = there.eval("ms.retrieve_views('n', 'x')")
    assert answer.startswith("error PageNotFoundError")
    assert "another pid namespace" in answer
    assert "MEMSHARE_SOCKET=1" in answer
    owner.run("ms.snapshot()")
    assert there.eval("ms.retrieve_views('n', 'x')['x'].sum()") == f"ok {SUM}"
    owner.exit()


# --- forking beside a thread -------------------------------------------------------------


def test_during_a_pause_there_is_no_thread_and_clients_wait(tmp_path, server):
    with connected(tmp_path) as early:
        fetched(tmp_path)  # by now the early one was let in, too
        server.pause()
        assert threads() == []
        with connected(tmp_path) as late:
            request = _handover._REQUEST.pack(_handover._MAGIC, bytes(16), False)
            late.send(request)
            early.send(request)
            server.resume()
            assert early.recv(1) == late.recv(1) == _handover._GONE
    fetched(tmp_path)


def test_a_process_that_serves_forks_with_one_thread_and_goes_on_serving(child, runtime_directory):
    owner = child(f"os.environ['MEMSHARE_SOCKET'] = '1'; {REGISTER}")
    owner.run(
        "del os.environ['MEMSHARE_SOCKET']\n"
        "threads = []\n"
        "from memshare_jupyter.core.blocks import _handover\n"
        "pause = _handover.Server.pause\n"
        "def paused(server):\n"
        "    pause(server); threads.append(threading.active_count())\n"
        "_handover.Server.pause = paused\n"
        "if (pid := os.fork()) == 0:\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)"
    )
    assert owner.eval("threads, threading.active_count()") == ([1], 2)
    (path,) = runtime_directory.glob("*.socket")
    uuid = owner.eval("bytes.fromhex(ms.snapshot().pages[0].uuid)")
    os.close(_handover.fetch(path, uuid, writable=False))
    owner.exit()


# --- trouble at either end ---------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble", [ValueError("a bug"), MemoryError(), RecursionError(), OSError(5, "i/o")]
)
def test_whatever_fails_for_one_client_is_no_matter_for_the_next(tmp_path, block, trouble):
    def hand_out(uuid, writable):
        if uuid != UUID:
            raise trouble
        return _memfd.reopen_held(uuid, writable)

    made = _handover.Server(tmp_path / "s.socket", hand_out)
    with pytest.raises(ConnectionResetError, match="hung up"):
        fetched(tmp_path, bytes(16))
    fetched(tmp_path)
    made.end()


def test_a_holder_without_a_descriptor_left_says_so(tmp_path, block):
    def hand_out(uuid, writable):
        raise OSError(errno.EMFILE, "Too many open files")

    made = _handover.Server(tmp_path / "s.socket", hand_out)
    with pytest.raises(ConnectionAbortedError, match="no descriptor left"):
        fetched(tmp_path)
    made.end()


def test_a_client_without_room_for_the_descriptor_is_told_that(tmp_path, server, child):
    other = child(
        "import resource\nfrom memshare_jupyter.core.blocks import _handover\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "lowest = os.dup(0); os.close(lowest)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))"
    )
    with pytest.raises(OSError, match="open files") as caught:
        other.run(
            f"_handover.fetch(Path({str(tmp_path / 's.socket')!r}), {UUID!r}, writable=False)"
        )
    assert caught.value.errno == errno.EMFILE


def test_a_socket_is_its_users_whatever_the_umask(tmp_path, block):
    before = os.umask(0o777)
    try:
        made = _handover.Server(tmp_path / "s.socket", _memfd.reopen_held)
    finally:
        os.umask(before)
    assert (tmp_path / "s.socket").stat().st_mode & 0o777 == 0o600
    made.end()


def test_where_no_thread_can_begin_nothing_is_left(tmp_path, block, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="new thread"):
        _handover.Server(tmp_path / "s.socket", _memfd.reopen_held)
    assert len(os.listdir("/proc/self/fd")) == before
    assert not (tmp_path / "s.socket").exists()


def test_a_fork_that_lets_no_thread_begin_is_made_good_by_the_next_look(child):
    owner = child(f"os.environ['MEMSHARE_SOCKET'] = '1'; {REGISTER}")
    owner.run(
        "undo = failing('threading.Thread.start', 1, RuntimeError(\"can't start new thread\"))\n"
        "if (pid := os.fork()) == 0:\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "undo()\n"
        "before = process.registry().serving\n"
        "ms.snapshot()\n"
        "after = process.registry().serving"
    )
    assert owner.eval("(before, after)") == (False, True)
    owner.exit()


def test_a_holder_that_does_not_answer_keeps_us_waiting_once(tmp_path, block, monkeypatch):
    monkeypatch.setattr(_handover, "_PATIENCE_S", 0.4)
    paths = [tmp_path / f"{number}.socket" for number in range(3)]
    listeners = []
    for path in paths:
        listeners.append(socket.socket(socket.AF_UNIX))
        listeners[-1].bind(str(path))
        listeners[-1].listen()
    for least, most in ((1.2, 10), (0, 1.2)):
        began = time.monotonic()
        for path in paths:
            with pytest.raises(TimeoutError, match="did not answer within"):
                _handover.fetch(path, UUID, writable=False)
        assert least <= time.monotonic() - began < most
    for listener in listeners:
        listener.close()


# --- for real: what the kernel does not let another process of its user open -------------


@pytest.fixture
def confined(child_environment):
    """Start interpreters that evaluate lines, in some other surroundings."""
    made = []

    def make(*surroundings):
        probe = subprocess.run([*surroundings, "true"], capture_output=True, text=True)
        if probe.returncode:
            pytest.skip(f"{' '.join(surroundings)}: {probe.stderr.strip()}")
        made.append(Elsewhere(child_environment, surroundings))
        return made[-1]

    yield make
    for one in made:
        one.end()


USER_NAMESPACE = ("unshare", "--user", "--map-current-user")
READ = "ms.retrieve_views('n', 'x')['x'].sum()"


def test_siblings_in_user_namespaces_share_at_once_although_the_owner_is_idle(confined):
    owner, viewer = confined(*USER_NAMESPACE), confined(*USER_NAMESPACE)
    owner.eval(f"ms.register_variables('n', {{'x': np.arange({SIZE})}})")
    assert viewer.eval(READ) == f"ok {SUM}"


def test_an_idle_owner_outside_a_user_namespace_is_named_with_the_way_out(
    confined, child, runtime_directory
):
    owner, viewer = child(REGISTER), confined(*USER_NAMESPACE)
    said = viewer.eval(READ)
    assert said.startswith("error PageNotFoundError")
    assert f"process {owner.pid} cannot be opened from here: it lives in another user" in said
    assert "MEMSHARE_SOCKET=1" in said
    owner.run("ms.snapshot()")
    assert viewer.eval(READ) == f"ok {SUM}"
    owner.exit()
    assert list(runtime_directory.glob("*.wanted")) == []


@pytest.mark.slow
def test_an_owner_that_goes_on_is_waited_for(confined, child):
    owner, viewer = child(REGISTER), confined(*USER_NAMESPACE)
    owner.send("for _ in range(60): ms.snapshot(); time.sleep(0.05)")
    assert viewer.eval(READ) == f"ok {SUM}"
    owner.result()
    owner.exit()


def test_those_who_ask_in_vain_wait_once(confined, child):
    owner, viewer = child(REGISTER), confined(*USER_NAMESPACE)
    for most_s in (5.0, 1.0):
        began = time.monotonic()
        assert viewer.eval(READ).startswith("error PageNotFoundError")
        assert time.monotonic() - began < most_s
    owner.exit()


def test_a_viewer_with_fewer_capabilities_is_served_when_the_owner_is_used_again(confined, child):
    owner, viewer = child(REGISTER), confined("setpriv", "--bounding-set", "-all")
    if os.getuid() != 0:
        pytest.skip("only root has capabilities to lose")
    said = viewer.eval(READ)
    assert "has more capabilities" in said
    owner.run("ms.snapshot()")
    assert viewer.eval(READ) == f"ok {SUM}"
    owner.exit()


def test_an_owner_that_hid_itself_later_is_named_with_the_way_out(nobody):
    owner = nobody(f"{SHOW}; {REGISTER}")
    owner.run(HIDE)
    viewer = nobody(f"{SHOW}; process.registry()")
    with pytest.raises(PageNotFoundError, match=r"not dumpable.*MEMSHARE_SOCKET=1"):
        viewer.run(ATTACH)
    owner.run("ms.snapshot()")
    viewer.run(ATTACH)
    viewer.exit()
    owner.exit()


def test_what_a_dead_process_was_asked_goes_with_it(confined, child, runtime_directory):
    owner, viewer = child(REGISTER), confined(*USER_NAMESPACE)
    viewer.eval(READ)
    assert len(list(runtime_directory.glob("*.wanted"))) == 1
    owner.kill()
    ms.snapshot()
    assert list(runtime_directory.glob("*.wanted")) == []
