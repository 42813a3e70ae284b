"""What all tests share: a world of their own, children that can be killed, and the truth."""

from __future__ import annotations

import contextlib
import gc
import glob
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import memshare_jupyter

# How long something takes decides no test.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

PACKAGE_ROOT = Path(memshare_jupyter.__file__).parents[1]
PATIENCE_S = 30.0  # for what should come at once: a loaded machine is no failure
_BLOCK = re.compile(r"/(?:memfd:memshare:|(?=[0-9a-f]{32}\.page))([0-9a-f]{32})")


# --- a world of their own ----------------------------------------------------------------


def pytest_configure() -> None:
    """End a run that is told to end as one that is interrupted: servers and children go with it.

    What a shell starts in the background ignores SIGINT, and so would all that is started here.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def runtime_directory():
    """A private runtime directory for this run and its children; nothing may be left in it."""
    shared = "/dev/shm"  # noqa: S108 -- mkdtemp makes the private directory
    base = shared if os.access(shared, os.W_OK | os.X_OK) else None
    private = tempfile.mkdtemp(prefix="memshare-tests-", dir=base)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = private
    try:
        yield Path(private, "memshare")
        faults = _left_behind(private)
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
        shutil.rmtree(private, ignore_errors=True)
    assert not faults, f"left behind by this run: {faults}"


def _left_behind(private: str) -> list[str]:
    gc.unfreeze()
    gc.collect()
    lines = sys.modules.get("memshare_jupyter.engines._lines")
    for kept in list(lines._of_clients.values()) if lines is not None else ():
        kept.close()  # it lives as long as its client, which IPython may keep
    if (process := sys.modules.get("memshare_jupyter.core.registry._process")) is not None:
        process.registry().snapshot()  # whoever looks removes what killed children left
        process.close()
    deadline = time.monotonic() + PATIENCE_S
    while _pids_of(private) and time.monotonic() < deadline:
        time.sleep(0.02)
    faults = [f"process {pid}: {_command(pid)}" for pid in _pids_of(private)]
    faults += [f"block {block} in this process" for block in _blocks(os.getpid())]
    for left in ("memshare/*.session", "memshare/.*", "memshare/*.socket", "*/*.page"):
        faults += glob.glob(f"{private}/{left}")
    return faults


def _pids_of(private: str) -> set[int]:
    """Living processes that were started with our runtime directory."""
    found = set()
    for path in glob.glob("/proc/[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"XDG_RUNTIME_DIR={private}".encode() in Path(path).read_bytes().split(b"\0"):
                found.add(int(path.split("/")[2]))
    return found - {os.getpid()}


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return "ended"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.passed = report.passed
    return report


@pytest.fixture(scope="module", autouse=True)
def what_other_modules_left_is_not_looked_at_again():
    """Else each collection takes half a second, for all the packages that are imported by then."""
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_in_this_process(request, runtime_directory):
    """A test ends its handles; if it fails to, the next one does not suffer."""
    pages_before, views_before = _handles()
    yield _blocks(os.getpid())
    if _handles() != (pages_before, views_before):
        gc.collect()  # takes longer than most tests
    pages, views = _handles()
    pages, views = pages - pages_before, views - views_before
    if pages or views:
        sys.modules["memshare_jupyter.core.registry._process"].close()
    if getattr(request.node, "passed", False):
        assert not pages, f"pages left by the test: {sorted(pages)}"
        assert not views, f"views left by the test: {sorted(views)}"


def _handles() -> tuple[set[str], set[str]]:
    process = sys.modules.get("memshare_jupyter.core.registry._process")
    registry = process._registry if process is not None else None
    if registry is None:
        return set(), set()
    return set(registry.pages()), set(registry.views())


@pytest.fixture(params=["memfd", "file on tmpfs", "file on disk"])
def pages_as(request, runtime_directory, tmp_path, monkeypatch):
    """Run a test on every backend; which one it is."""
    if request.param == "memfd":
        yield "memfd"
        return
    directory = runtime_directory.with_name("pages") if "tmpfs" in request.param else tmp_path / "p"
    monkeypatch.setenv("MEMSHARE_DIR", str(directory))
    yield "file"
    if getattr(request.node, "passed", False) and directory.exists():
        memshare_jupyter.snapshot()  # whoever looks removes what killed children left
        assert os.listdir(directory) == [], "files left by the test"


# --- waiting -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def eventually():
    """Wait until a condition holds; the test fails when it does not in time."""

    def wait(condition, timeout_s=PATIENCE_S):
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, f"did not come to pass in {timeout_s} s"
            time.sleep(0.002)
        return found

    return wait


# --- children ----------------------------------------------------------------------------


class Child:
    """A process to be told what to do, and to be killed; see child.py for what it knows.

    It has `ms`, `np` and the modules of the core in its namespace, and the functions of
    child.py that make it die, stop or fail at a chosen call.
    """

    def __init__(self, address: str) -> None:
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(address)
        self._connection = Connection(connected.detach())
        self.pid = self._receive(PATIENCE_S)
        self._pidfd = os.pidfd_open(self.pid)

    def run(self, code: str, timeout_s: float = PATIENCE_S) -> None:
        """Execute `code`; raise what it raises."""
        self.send(code)
        self.result(timeout_s)

    def eval(self, code: str, timeout_s: float = PATIENCE_S):
        """Return the value of an expression."""
        self._connection.send(("eval", code))
        return self.result(timeout_s)

    def send(self, code: str) -> None:
        """Begin to execute `code`."""
        self._connection.send(("exec", code))

    def result(self, timeout_s: float = PATIENCE_S):
        """Wait for the end of what was begun."""
        kind, *answer = self._receive(timeout_s)
        if kind == "error":
            error, text = answer
            error.add_note(text)
            raise error
        return answer[0]

    def dies(self, code: str, timeout_s: float = PATIENCE_S) -> None:
        """Execute `code`, which the child must not survive."""
        self.send(code)
        assert self._ended(timeout_s), "the child is still alive"
        with pytest.raises((EOFError, ConnectionError)):
            self._connection.recv()
        self.reap()

    def kill(self) -> None:
        """SIGKILL it and wait until it is gone."""
        self.reap()

    def stopped(self) -> bool:
        """Say whether it stands still."""
        return "State:\tT" in Path(f"/proc/{self.pid}/status").read_text()

    def signal(self, number: int) -> None:
        """Send it a signal; one that stops it has done so then."""
        signal.pidfd_send_signal(self._pidfd, number)
        deadline = time.monotonic() + PATIENCE_S
        while number == signal.SIGSTOP and not self.stopped():
            assert time.monotonic() < deadline, "the child does not stop"
            time.sleep(0.001)

    def exit(self) -> None:
        """Let it end as interpreters do."""
        self._connection.close()
        ended = self._ended()
        os.close(self._pidfd)
        assert ended, "the child did not exit"

    def reap(self) -> None:
        """End it in whatever state it is; once or more often."""
        if self._connection.closed:
            return
        # First the signal: a child whose connection ends exits in good order.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._connection.close()
        ended = self._ended()
        os.close(self._pidfd)
        assert ended, "the child cannot be killed"

    def _ended(self, timeout_s: float = PATIENCE_S) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def _receive(self, timeout_s: float):
        assert self._connection.poll(timeout_s), f"no answer in {timeout_s} s: a deadlock?"
        return self._connection.recv()


@pytest.fixture(scope="session")
def child_environment(runtime_directory):
    """Environment in which a child interpreter finds the package under test."""
    one_thread = dict.fromkeys(["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"], "1")
    return {**os.environ, **one_thread, "PYTHONPATH": str(PACKAGE_ROOT)}


@pytest.fixture(scope="session")
def _child_server(child_environment, tmp_path_factory):
    address = tempfile.mktemp(prefix="memshare-", suffix=".sock")  # noqa: S306 -- a socket
    script = str(Path(__file__).with_name("child.py"))
    command = [sys.executable, "-W", "error", script, address]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen(command, env=child_environment, **pipes)
    try:
        assert server.stdout.readline() == b"ready\n"
        yield address
    finally:
        server.stdin.close()
        server.stdout.close()
        server.wait(PATIENCE_S)
        os.unlink(address)


@pytest.fixture
def child(_child_server):
    """Make a child; all are ended after the test."""
    made = []

    def make(code: str = "") -> Child:
        made.append(Child(_child_server))
        if directory := os.environ.get("MEMSHARE_DIR"):
            made[-1].run(f"os.environ['MEMSHARE_DIR'] = {directory!r}")
        if code:
            made[-1].run(code)
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.reap()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)  # what it forked and the test did not end


@pytest.fixture
def interpreter(child_environment):
    """Run code in a fresh interpreter; what it printed."""

    def run(code: str, timeout_s: float = 60.0) -> str:
        command = [sys.executable, "-W", "error", "-c", code]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        done = subprocess.run(
            command, env=child_environment, timeout=timeout_s, text=True, check=False, **pipes
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


# --- the truth ---------------------------------------------------------------------------


def _blocks(pid: int) -> Counter[str]:
    """How often a process holds our blocks, by uuid: mappings, and descriptors beyond theirs."""
    mapped: Counter[str] = Counter()
    with contextlib.suppress(OSError):
        mapped.update(_BLOCK.findall(Path(f"/proc/{pid}/maps").read_text()))
    opened: Counter[str] = Counter()
    for descriptor in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            opened.update(_BLOCK.findall(os.readlink(descriptor)))
    each = 1 if sys.version_info >= (3, 13) else 2  # the page's own, and its mapping's
    return mapped | Counter({uuid: -(-count // each) for uuid, count in opened.items()})


def _ours() -> set[int]:
    """This process and everything that was started from it."""
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError):
            text = Path(path).read_text()
            parents[int(path.split("/")[2])] = int(text.rpartition(")")[2].split()[1])
    ours = {os.getpid()} | _pids_of(os.environ["XDG_RUNTIME_DIR"])
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return ours


@pytest.fixture
def truth(nothing_left_in_this_process):
    """Say who holds which page, as the kernel knows it: a Counter of (pid, uuid)."""
    before = {os.getpid(): nothing_left_in_this_process}

    def look() -> Counter[tuple[int, str]]:
        found: Counter[tuple[int, str]] = Counter()
        for pid in _ours():
            for uuid, count in (_blocks(pid) - before.get(pid, Counter())).items():
                found[pid, uuid] = count
        return found

    return look


@pytest.fixture
def listed():
    """Say who holds which page, as a snapshot of this process knows it."""
    from memshare_jupyter import snapshot

    def look() -> Counter[tuple[int, str]]:
        return Counter((h.pid, page.uuid) for page in snapshot().pages for h in page.holders)

    return look


# --- a shell -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A real InteractiveShell without history, with the magics loaded."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        def cell(self, source: str):
            """Run a cell; return its result, or raise what it raised."""
            result = self.run_cell(source)
            result.raise_error()
            return result.result

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    InteractiveShell.clear_instance()
    main = sys.modules["__main__"]  # a shell puts a module of its own there, for good
    made = Shell.instance(config=config, ipython_dir=str(tmp_path_factory.mktemp("ipython")))
    try:
        made.cell("%load_ext memshare_jupyter")
        yield made
        if "memshare" in made.magics_manager.magics["line"]:
            made.cell("%unload_ext memshare_jupyter")
    finally:
        Shell.clear_instance()
        sys.modules["__main__"] = main


@pytest.fixture
def run(shell):
    """Run a cell of a notebook that has numpy; nothing of it is left afterwards."""
    before = {*shell.user_ns, "np"}
    shell.cell("import numpy as np")
    yield shell.cell
    # Not by %reset, which collects garbage, and that takes longer than most tests.
    for name in shell.user_ns.keys() - before:
        del shell.user_ns[name]
    shell.user_ns["_oh"].clear()
    shell.user_ns.update(dict.fromkeys(("_", "__", "___"), ""))
    shell.displayhook._ = shell.displayhook.__ = shell.displayhook.___ = ""
    shell.last_execution_result = None
    memshare_jupyter.memshare_gc()
