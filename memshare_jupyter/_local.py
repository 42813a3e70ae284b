"""A local ipyparallel cluster that starts in under a second and ends with its owner.

`local_cluster` is the door. The processes are started, watched and ended by the tether
(`_tether.py`), a child of this process that outlives it just long enough to clean up.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipyparallel import Client, DirectView

_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 4.0  # the tether's grace period and some more
_LOG_TAIL_BYTES: Final = 4000

# The owner's sys.path first, so that engines can import whatever the notebook can, and this
# package in the first place. Not by PYTHONPATH: users' own subprocesses would inherit it.
_BOOTSTRAP: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from memshare_jupyter._tether import main; main(int(sys.argv.pop()))"
)


class _State:
    """What this process knows; a forked child starts with a new one."""

    def __init__(self, inherited: LocalCluster | None = None) -> None:
        self.lock = threading.Lock()
        self.cluster: LocalCluster | None = None
        self.inherited = inherited  # kept, since collecting a client touches shared sockets


_state = _State()


def local_cluster(n: int | None = None, *, quiet: bool = False) -> LocalCluster:
    """Return this process's local cluster, starting it or what it lacks.

    The first call starts a controller and `n` engines on this host; later calls return the
    same cluster. It ends with this process, however that ends: a normal exit, a kernel
    restart, SIGTERM or SIGKILL. A forked child does not inherit it and may start its own.

    Parameters
    ----------
    n : int, optional
        How many engines are needed at least. By default as many as the cluster has, or one
        less than this process may use cores, but at least one. If more engines are running
        they stay: take ``.view(n)``.
    quiet : bool, default False
        Do not write the line of progress to standard error.

    Returns
    -------
    LocalCluster
        Kept until this process ends; need not be stopped.

    Raises
    ------
    ValueError
        If `n` is less than 1.
    RuntimeError
        If the cluster, or an engine that was missing, did not start; the end of the log is
        in the message. Nothing of what failed is left running. Also on any system but Linux.

    Notes
    -----
    Engines that have died since the last call are replaced, by engines with new numbers;
    if the controller has died, everything is started afresh and the earlier `LocalCluster`
    remains stopped. The line of progress says so. Engines start in the current directory,
    with the environment and ``sys.path`` of the first call, in a session of their own:
    Ctrl-C in a terminal does not reach them. Their files live in a private temporary
    directory, and configuration in IPython profiles does not apply to them. Connections are
    authenticated and restricted to the loopback interface.
    """
    if n is not None and n < 1:
        message = f"a cluster needs at least one engine, not {n}"
        raise ValueError(message)
    with _state.lock:
        cluster = _state.cluster
        lost = cluster.take_losses() if cluster is not None else ""
        if cluster is not None and cluster.running:
            cluster.grow(n or 0, lost, quiet=quiet)
        else:
            if lost:
                n = max(n or 0, cluster.target)  # type: ignore[union-attr]
            _state.cluster = None
            _state.cluster = LocalCluster(n or default_engines(), lost, quiet=quiet)
        return _state.cluster  # type: ignore[return-value]


def default_engines() -> int:
    """How many engines a local cluster gets: one less than the usable cores, at least one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores - 1)


class LocalCluster:
    """A controller and engines on this host. Made by `local_cluster`, not directly.

    Attributes
    ----------
    client : ipyparallel.Client
        Connected to the cluster; closed when the cluster stops.
    target : int
        How many engines there are when none has died.
    """

    client: Client

    def __init__(self, n: int, lost: str = "", *, quiet: bool = False) -> None:
        if sys.platform != "linux":
            message = "local_cluster() needs Linux; start an ipyparallel.Cluster and use its client"
            raise RuntimeError(message)
        self._owner = os.getpid()
        self._engines: set[int] = set()  # the living, as far as we have been told
        self._started = 0  # engines are numbered from 0 and no number is used twice
        self.target = 0
        self._losses: list[str] = []
        self._end = ""  # why it is over
        self._connection: dict[str, Any] = {}
        self._directory = ""
        self._unread = b""
        self._listening = threading.Lock()
        # Anonymous: the log vanishes with the last process that writes it.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        with _progress(f"{lost}starting a local cluster of {_engines(n)}", quiet=quiet):
            self._tether = subprocess.Popen(  # noqa: S603  (our own interpreter and code)
                [sys.executable, "-c", _BOOTSTRAP, str(self._owner), json.dumps(_import_path())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                start_new_session=True,  # Ctrl-C in the terminal is not for the engines
            )
            atexit.register(self.stop)
            try:
                from ipyparallel import Client  # noqa: PLC0415  (while the tether does the same)

                self._wait(lambda: bool(self._connection))
                profile = {"ipython_dir": self._directory, "profile_dir": self._directory}
                self.client = Client(self._connection, **profile)
                self._request(n)
                self._wait_for_engines()
            except BaseException:  # an interrupt too: nothing is to be left running
                self.stop()
                raise

    def __repr__(self) -> str:
        return f"<LocalCluster: {_engines(self.n) if self.running else 'stopped'}>"

    @property
    def running(self) -> bool:
        """Whether it is this process's own, and its controller alive."""
        self._listen()
        return not self._end and self._owner == os.getpid()

    @property
    def n(self) -> int:
        """How many engines are alive."""
        return len(self._engines) if self.running else 0

    def view(self, n: int | None = None) -> DirectView:
        """Return a ``DirectView`` of the first `n` engines, by default of all.

        Raises
        ------
        ValueError
            If fewer than `n` engines are alive.
        RuntimeError
            If the cluster has stopped, or belongs to the parent of this process.
        """
        if not self.running:
            why = self._end or f"it belongs to process {self._owner}"
            message = f"this local cluster cannot be used: {why}; call local_cluster() again"
            raise RuntimeError(message)
        engines = sorted(self._engines)
        if n is not None and not 1 <= n <= len(engines):
            message = f"no view of {n} engines in a cluster of {len(engines)}"
            raise ValueError(message)
        return self.client.direct_view(targets=engines[:n])

    def stop(self) -> None:
        """End controller and engines; return when they and their files are gone.

        Takes 0.1 s if the engines are idle; one that does not react is killed after a
        second. May be called again. In a forked child it does nothing.
        """
        if self._owner != os.getpid():
            return
        atexit.unregister(self.stop)
        self._end = self._end or "it was stopped"
        if "client" in self.__dict__:
            self.client.close(linger=0)
        self._close_pipes()  # which is the tether's word to end
        try:
            self._tether.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._tether.kill()  # its children end with it
            self._tether.wait()
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)  # if the tether was killed
        self._log.close()

    def take_losses(self) -> str:
        """Say once, as the start of a message, what has died; stop what is left of a ruin."""
        if self._end == "it was stopped":
            return ""
        if not self.running:
            self._losses.append(self._end)
            self.stop()
        losses, self._losses = self._losses, []
        return f"{' and '.join(losses)}: " if losses else ""

    def grow(self, n: int, lost: str = "", *, quiet: bool = False) -> None:
        """Start what is missing from `n` engines and from as many as there once were."""
        missing = max(n, self.target) - len(self._engines)
        if missing > 0:
            with _progress(f"{lost}starting {_engines(missing)}", quiet=quiet):
                self._request(missing)
                self._wait_for_engines()
        else:
            self._wait_for_engines()  # an interrupt may have ended the wait of an earlier call

    def detach(self) -> None:
        """Let go of the owner's pipes in a forked child."""
        self._close_pipes()
        self._tether.returncode = 0  # not our child: nothing to wait for, nothing to warn about

    def _close_pipes(self) -> None:
        for pipe in (self._tether.stdin, self._tether.stdout):
            if pipe is not None:
                pipe.close()

    def _request(self, n: int) -> None:
        new = list(range(self._started, self._started + n))
        self._started += n
        self._engines.update(new)
        self.target = max(self.target, len(self._engines))
        with suppress(BrokenPipeError):  # then it has ended, and the wait that follows says why
            self._tether.stdin.write(json.dumps({"start": new}).encode() + b"\n")  # type: ignore[union-attr]

    def _wait_for_engines(self) -> None:
        awaited = set(self._engines)
        self._wait(lambda: awaited <= {*self.client.ids}, awaited)

    def _wait(self, condition: Callable[[], bool], engines: set[int] | None = None) -> None:
        """Wait for `condition`; an error if the cluster or one of `engines` ends first."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not condition():
            self._listen(timeout_ms=10)
            died = bool(engines and engines - self._engines)
            if self._end or died or time.monotonic() > deadline:
                reasons = [self._end, *(self._losses if died else ())]
                reason = "; ".join(filter(None, reasons)) or f"no answer in {_START_TIMEOUT_S} s"
                self._losses.clear()
                message = f"the local cluster did not start: {reason}\n{self._log_tail()}"
                raise RuntimeError(message)

    def _log_tail(self) -> str:
        # Read by position: the offset of the open file is the writers'.
        start = max(0, os.fstat(self._log.fileno()).st_size - _LOG_TAIL_BYTES)
        return os.pread(self._log.fileno(), _LOG_TAIL_BYTES, start).decode(errors="replace")

    def _listen(self, timeout_ms: int = 0) -> None:
        """Take in what the tether has to tell; wait for it up to `timeout_ms`."""
        pipe = self._tether.stdout
        if pipe is None or pipe.closed:  # stopped, or forked
            return
        with self._listening:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            while not self._end and poll.poll(timeout_ms):
                data = os.read(pipe.fileno(), 65536)
                *lines, self._unread = (self._unread + data).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
                if not data:
                    self._end = self._end or "the tether has ended"
                timeout_ms = 0

    def _take(self, event: dict[str, Any]) -> None:
        if "ready" in event:
            self._connection, self._directory = event["ready"], event["directory"]
        elif "exited" in event:
            self._engines.discard(event["exited"])
            self._losses.append(f"engine {event['exited']} {event['how']}")
        else:
            self._end = event["failed"]


@contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[None]:
    """Write one line to standard error: what is being done, then how long it took."""
    write = (lambda _text: None) if quiet else sys.stderr.write
    begin = time.monotonic()
    write(f"{what} ... ")
    sys.stderr.flush()
    try:
        yield
    except BaseException:
        write("failed\n")
        raise
    write(f"{time.monotonic() - begin:.1f} s\n")


def _engines(n: int) -> str:
    return f"{n} engine{'' if n == 1 else 's'}"


def _import_path() -> list[str]:
    """Return the ``sys.path`` for engines: ours, and this package's place if it is not there."""
    path = [entry for entry in sys.path if isinstance(entry, str)]
    here = str(Path(__file__).parents[1])
    return path if here in path else [*path, here]


def _after_fork() -> None:
    cluster = _state.cluster
    if cluster is not None:
        cluster.detach()
    _state.__init__(cluster)  # type: ignore[misc]  # everything anew, the lock above all


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
