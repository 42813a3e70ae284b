"""The process that holds a local cluster together and ends it with its owner.

One tether stands between the owner (a notebook's kernel, a script) and the cluster::

    owner ── pipe pair ── tether ── controller
                             ├───── engine 0
                             └───── engine 1 ...

It imports ipyparallel once and *forks* the controller and the engines, which so share the
memory of all modules and start without importing anything. Afterwards it sleeps in one
``poll`` until one of these happens:

1. the owner is gone (its pidfd, or the end of its pipe): everything ends;
2. the owner asks for engines: they are forked;
3. a member of the cluster has ended: the hub and the owner are told.

Ending means SIGTERM to all, SIGKILL after a grace period, and the directory removed. The
signal comes from another process, so an engine sitting in C code with the GIL held ends
like any other; a watching thread inside the engine would never be scheduled. Should the
tether itself be killed, the kernel ends its children at once (``PR_SET_PDEATHSIG``).

The owner sends lines of JSON, ``{"start": [0, 1]}``, and closes the pipe to stop. It reads
``{"ready": {...}}`` (what an ipyparallel Client needs), ``{"exited": ...}`` and
``{"failed": ...}``.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE_S: Final = 1.0
"""How long members may take to end by themselves; an idle engine needs 0.05 s."""

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # linux/prctl.h
_PARENT_POLL_MS: Final = 500  # where there is no pidfd
_HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Member:
    """A child of the tether; ``messenger`` is one that only delivers a message to the hub."""

    role: Literal["controller", "engine", "messenger"]
    engine: int = -1


class _ForkedError(BaseException):
    """Raised in a new child to leave the tether's stack; carries what the child is to do."""

    def __init__(self, duty: Callable[[], None]) -> None:
        self.duty = duty


class _OwnerGoneError(Exception):
    """The pipe to the owner has no reader any more."""


class Tether:
    """The supervisor; see the module's comment.

    Parameters
    ----------
    owner : int
        The process that started this one, and with which the cluster ends.
    """

    def __init__(self, owner: int) -> None:
        self._owner = owner
        self._pid = os.getpid()
        self._members: dict[int, Member] = {}
        self._connection: dict[str, dict[str, Any]] = {}
        self._wanted: list[int] = []
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        # Signals arrive as bytes in a pipe, so that one poll waits for everything.
        self._signals, signals_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._own_fds = [self._signals, signals_in]
        signal.set_wakeup_fd(signals_in, warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, lambda *_: None)
        self._poll = select.poll()
        for fd in (_STDIN, self._signals):
            self._poll.register(fd, select.POLLIN)
        # The pipe's end alone would not do: a forked child of the owner keeps it open.
        # The pidfd is the owner's for sure if it still is our parent once we hold it.
        self._owner_fd = os.pidfd_open(owner) if hasattr(os, "pidfd_open") else -1
        if self._owner_fd >= 0:
            self._own_fds.append(self._owner_fd)
            self._poll.register(self._owner_fd, select.POLLIN)
        if os.getppid() != owner:
            raise _OwnerGoneError
        self.directory = tempfile.mkdtemp(prefix="memshare-cluster-")

    def run(self) -> None:
        """Serve until the owner goes or the controller ends; raise `_ForkedError` in children."""
        from memshare_jupyter import _members  # noqa: PLC0415  (heavy: ipyparallel)

        _members.preload()
        gc.collect()
        gc.freeze()  # a collection in a child would otherwise write to, and so copy, every page
        ready, ready_in = os.pipe()
        self._own_fds.append(ready)
        self._fork(Member("controller"), lambda: _members.run_controller(self.directory, ready_in))
        os.close(ready_in)
        self._poll.register(ready, select.POLLIN)
        timeout = None if self._owner_fd >= 0 else _PARENT_POLL_MS
        while os.getppid() == self._owner:
            for fd, _event in self._poll.poll(timeout):
                if fd == self._signals:
                    if set(os.read(fd, 4096)) - {signal.SIGCHLD}:
                        return
                    if not self._bury(_members.send_unregistration):
                        return
                elif fd == ready:
                    self._controller_ready(ready)
                elif fd == self._owner_fd or not self._read_commands():
                    return
            if self._connection:
                for engine in self._wanted:
                    self._fork(
                        Member("engine", engine),
                        lambda engine=engine: _members.run_engine(  # type: ignore[misc]
                            self.directory, engine, self._connection["engine"]
                        ),
                    )
                self._wanted.clear()

    def end(self) -> None:
        """End every member and all their descendants in the same group; remove the directory."""
        deadline = time.monotonic() + GRACE_S
        for pid in self._members:
            os.kill(pid, signal.SIGTERM)  # never an error: it is not reaped yet
        while time.monotonic() < deadline and not all(map(_has_ended, self._members)):
            time.sleep(0.005)
        for pid in list(self._members):
            self._reap(pid)
        shutil.rmtree(self.directory, ignore_errors=True)

    def fail(self, reason: str) -> None:
        """Tell the owner why the cluster ends, if it still listens."""
        with suppress(_OwnerGoneError):
            self._tell({"failed": reason})

    def _fork(self, member: Member, duty: Callable[[], None]) -> None:
        pid = os.fork()
        if pid:
            self._members[pid] = member
            return
        signal.set_wakeup_fd(-1)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setpgid(0, 0)  # its own children can be found, and ended, by the group
        if self._libc is not None:
            # "Parent" means the thread that forked: the tether has one, as long as it lives.
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            number_text = str(member.engine) if member.role == "engine" else ""
            self._libc.prctl(_PR_SET_NAME, f"ms-{member.role}{number_text}".encode())
        if os.getppid() != self._pid:
            os._exit(1)
        for fd in self._own_fds:
            os.close(fd)
        with open(os.devnull, "rb") as null:
            os.dup2(null.fileno(), _STDIN)
        os.dup2(_STDERR, _STDOUT)  # the log
        random = sys.modules.get("numpy.random")
        if random is not None:
            random.seed()  # else every engine would draw the same numbers
        raise _ForkedError(duty)

    def _read_commands(self) -> bool:
        """Take in what the owner asks for; False when it has closed the pipe."""
        data = os.read(_STDIN, 65536)
        # A command is far shorter than PIPE_BUF, so it is never read in part.
        for line in data.splitlines():
            self._wanted += json.loads(line)["start"]
        return bool(data)

    def _controller_ready(self, ready: int) -> None:
        with open(ready, encoding="utf-8") as stream:
            self._poll.unregister(ready)
            text = stream.read()
        self._own_fds.remove(ready)
        if text:  # else it died, and SIGCHLD says so
            self._connection = json.loads(text)
            self._tell({"ready": self._connection["client"], "directory": self.directory})

    def _bury(self, send_unregistration: Callable[[dict[str, Any], int], None]) -> bool:
        """Reap who has ended and spread the news; False if it was the controller."""
        for pid in [pid for pid in self._members if _has_ended(pid)]:
            member, how = self._members[pid], self._reap(pid)
            if member.role == "controller":
                self.fail(f"the controller {how}")
                return False
            if member.role == "engine":
                # Heartbeats would take half a minute to notice. A process of its own: ZeroMQ
                # starts threads, and what forks should have none.
                engine = member.engine
                self._fork(
                    Member("messenger"),
                    lambda engine=engine: send_unregistration(  # type: ignore[misc]
                        self._connection["engine"], engine
                    ),
                )
                self._tell({"exited": engine, "how": how})
        return True

    def _reap(self, pid: int) -> str:
        """Kill what is left of a member's process group, collect it, say how it ended."""
        # In this order: until it is waited for, nobody else can get its number.
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(pid, signal.SIGKILL)  # forked, but not yet the leader of its group
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        del self._members[pid]
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with exit code {status}"

    def _tell(self, event: dict[str, Any]) -> None:
        try:
            os.write(_STDOUT, json.dumps(event).encode() + b"\n")
        except BrokenPipeError as error:
            raise _OwnerGoneError from error


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it remains to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(owner: int) -> None:
    """Run the tether of a cluster owned by process `owner`, and in its children the members.

    Standard input and output are the pipes to the owner, standard error the log.
    """
    try:
        tether = Tether(owner)
    except _OwnerGoneError:
        return
    try:
        tether.run()
    except _ForkedError as forked:
        # Out of the tether's stack, a member ends like any interpreter, atexit included.
        duty = forked.duty
    except _OwnerGoneError:
        _end(tether)
    except BaseException as error:  # whatever it was, leave nothing behind
        tether.fail(f"the tether failed: {error!r}")
        tether.end()
        raise
    else:
        _end(tether)
    duty()


def _end(tether: Tether) -> NoReturn:
    tether.end()
    sys.stderr.flush()
    os._exit(0)  # nothing is left to finalize, and this is quicker
