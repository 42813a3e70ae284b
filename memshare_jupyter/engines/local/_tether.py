"""The process that holds a local cluster together and ends it with its owner.

One tether stands between the owner (a notebook's kernel, a script) and the cluster::

    owner ── pipe pair ── tether ── controller
                             ├───── engine 0
                             └───── engine 1 ...

It imports ipyparallel once and *forks* the controller and the engines, which so share the
memory of all modules and start without importing anything. Afterwards it sleeps in one
``poll`` until one of these happens:

1. the owner is gone (its pidfd, or the end of its pipe): everything ends;
2. the controller accepts connections: the owner is told;
3. the owner asks for engines: they are forked;
4. a member of the cluster has ended: the hub and the owner are told.

Ending means SIGTERM to all, SIGKILL after a grace period, and the directory removed. The
signal comes from another process, so an engine sitting in C code with the GIL held ends
like any other; a watching thread inside the engine would never be scheduled. Should the
tether itself be killed, the kernel ends its children at once (``PR_SET_PDEATHSIG``).

The owner reads lines of JSON: ``{"ready": ...}`` with what an ipyparallel Client needs, then
``{"exited": ...}`` for an engine or ``{"failed": ...}`` for everything. It sends
``{"start": [0, 1]}`` once its client listens (a client misses the admission of engines in
the moment in which it connects), and closes the pipe to stop.
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
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from memshare_jupyter.engines.local._directory import make_directory

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE_S: Final = 1.0
"""How long members may take to end by themselves; an idle engine needs 0.05 s."""

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # linux/prctl.h
_PARENT_POLL_MS: Final = 500  # without a pidfd
_LOG_POLL_MS: Final = 10_000
_MOST_LOG_BYTES: Final = 16 << 20
"""A log that grows beyond begins anew: nobody sees it, and it is a file of the machine's."""
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
        self._report = -1  # the pipe from the controller, until it has reported
        self._libc = ctypes.CDLL(None)
        # Signals arrive as bytes in a pipe, so that one poll waits for everything.
        self._signals, signals_in = os.pipe()
        os.set_blocking(signals_in, False)
        self._own_fds = [self._signals, signals_in]
        signal.set_wakeup_fd(signals_in, warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, lambda *_: None)
        self._poll = select.poll()
        for fd in (_STDIN, self._signals):
            self._poll.register(fd, select.POLLIN)
        # The end of its pipe alone would not do: a forked child of the owner keeps that open.
        # The pidfd is the owner's for sure if it still is our parent once we hold it.
        try:
            self._owner_fd = os.pidfd_open(owner)
        except OSError:  # Linux before 5.3, or a sandbox that forbids it
            self._owner_fd = -1
        else:
            self._own_fds.append(self._owner_fd)
            self._poll.register(self._owner_fd, select.POLLIN)
        if os.getppid() != owner:
            raise _OwnerGoneError
        self.directory, lock = make_directory()
        self._own_fds.append(lock)  # no member keeps it

    def run(self) -> None:
        """Serve until the owner goes or the controller ends; raise `_ForkedError` in children."""
        for name in [name for name in os.environ if name.startswith("IPP_")]:
            del os.environ[name]  # the owner may itself be an engine of another cluster
        gc.disable()  # no collection here, to keep the memory of the children shared
        from memshare_jupyter.engines.local import _members  # noqa: PLC0415  (heavy: ipyparallel)

        # From Python 3.12, on account of numpy's BLAS, whose threads know how to be forked.
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        self._start_controller(_members.run_controller)
        _members.preload()  # meanwhile
        timeout = _LOG_POLL_MS if self._owner_fd >= 0 else _PARENT_POLL_MS
        while os.getppid() == self._owner:
            events = {fd for fd, _event in self._poll.poll(timeout)}
            if self._owner_fd in events:
                return
            if not events:
                _bound_log()
            if self._signals in events and not self._read_signals(_members.send_unregistration):
                return
            if _STDIN in events and not self._read_command(_members.run_engine):
                return
            if self._report in events:
                self._read_report()

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
        gc.freeze()  # spare the shared objects the child's collections
        pid = os.fork()
        if pid:
            self._members[pid] = member
            return
        gc.enable()
        signal.set_wakeup_fd(-1)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setpgid(0, 0)  # what it starts itself can be ended by the group
        # "Parent" means the thread that forked: it lives as long as the tether.
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        name = f"ms-engine{member.engine}" if member.role == "engine" else f"ms-{member.role}"
        self._libc.prctl(_PR_SET_NAME, name.encode())
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

    def _start_controller(self, run_controller: Callable[[str, int], None]) -> None:
        self._report, report_in = os.pipe()
        self._own_fds.append(self._report)
        self._poll.register(self._report, select.POLLIN)
        self._fork(Member("controller"), lambda: run_controller(self.directory, report_in))
        os.close(report_in)

    def _read_report(self) -> None:
        """Take the controller's word that clients and engines may connect; pass it on."""
        self._poll.unregister(self._report)
        self._own_fds.remove(self._report)
        with open(self._report, encoding="utf-8") as stream:
            text = stream.read()
        self._report = -1
        if text:  # else it died, and SIGCHLD says so
            self._connection = json.loads(text)
            self._tell({"ready": self._connection["client"], "directory": self.directory})

    def _read_command(self, run_engine: Callable[[str, int, dict[str, Any]], None]) -> bool:
        """Start the engines the owner asks for; False when it has closed the pipe."""
        # A command is shorter than PIPE_BUF, so it is never read in part.
        data = os.read(_STDIN, 65536)
        for line in data.splitlines():
            for engine in json.loads(line)["start"]:
                duty = partial(run_engine, self.directory, engine, self._connection["engine"])
                self._fork(Member("engine", engine), duty)
        return bool(data)

    def _read_signals(self, send_unregistration: Callable[[dict[str, Any], int], None]) -> bool:
        """Handle the signals that have come; False if one is a reason to end."""
        if set(os.read(self._signals, 4096)) - {signal.SIGCHLD}:
            return False
        return self._bury(send_unregistration)

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
                duty = partial(send_unregistration, self._connection["engine"], member.engine)
                self._fork(Member("messenger"), duty)
                self._tell({"exited": member.engine, "how": how})
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


def _bound_log() -> None:
    if os.fstat(_STDERR).st_size > _MOST_LOG_BYTES:
        os.ftruncate(_STDERR, 0)
        os.lseek(_STDERR, 0, os.SEEK_SET)  # all who write to it share the position


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
