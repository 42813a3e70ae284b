"""The owner's end of a tether: its process, the pipes to it, and what it has told."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import memshare_jupyter
from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ANSWER_TIMEOUT_S: Final = 60.0
_END_TIMEOUT_S: Final = 4.0  # the tether's grace period and some more
_LOG_TAIL_BYTES: Final = 4000

# The owner's sys.path first, so that engines can import whatever the notebook can, and this
# package in the first place. Not by PYTHONPATH: users' own subprocesses would inherit it.
_BOOTSTRAP: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from memshare_jupyter.engines.local._tether import main; main(int(sys.argv.pop()))"
)


class TetherLink:
    """Starts a tether with its controller; `close` ends them and every engine.

    Nothing is read in the background: the attributes are as of the last `listen`. Threads
    may share a link.

    Attributes
    ----------
    pid : int
        The tether's process.
    connection : dict
        What an ipyparallel Client connects with; empty until the controller is up.
    directory : str
        The cluster's private directory, from the same moment.
    engines : set of int
        The engines asked for, less those that have died.
    losses : list of str
        For each engine that has died, what happened to it. The reader may clear it.
    end : str
        Why the cluster is over; empty as long as it is not.
    """

    def __init__(self) -> None:
        self.connection: dict[str, Any] = {}
        self.directory = ""
        self.engines: set[int] = set()
        self.losses: list[str] = []
        self.end = ""
        self._unread = b""
        self._reading = threading.Lock()
        # Anonymous: the log vanishes with the last process that writes it.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and code)
            [sys.executable, "-c", _BOOTSTRAP, str(os.getpid()), json.dumps(_import_path())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in the terminal is not for the engines
        )
        self.pid = self._process.pid

    def start(self, engines: Iterable[int]) -> None:
        """Ask for engines with these numbers, which must be new; does not wait for them."""
        command = {"start": list(engines)}
        self.engines.update(command["start"])
        assert self._process.stdin is not None  # noqa: S101  (for mypy)
        with suppress(BrokenPipeError):  # then it has ended, and the next `listen` says why
            self._process.stdin.write(json.dumps(command).encode() + b"\n")

    def listen(self, timeout_ms: int = 0) -> None:
        """Take in what the tether has to tell; wait for something up to `timeout_ms`."""
        with self._reading:
            pipe = self._process.stdout
            if pipe is None or pipe.closed:
                return
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            while not self.end and poll.poll(timeout_ms):
                data = os.read(pipe.fileno(), 65536)
                *lines, self._unread = (self._unread + data).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
                if not data:
                    self.end = self.end or "the tether has ended"
                timeout_ms = 0

    def wait(self, condition: Callable[[], bool], engines: Iterable[int] = ()) -> None:
        """Wait for `condition`.

        Raises
        ------
        ClusterError
            If the cluster or one of these engines ends first, or nothing happens for a minute.
            The end of the log is in the message; `losses` are cleared.
        """
        engines = set(engines)
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        while not condition():
            self.listen(timeout_ms=10)
            late = time.monotonic() > deadline
            if self.end or late or not engines <= self.engines:
                reasons = [self.end, *self.losses, f"no answer in {_ANSWER_TIMEOUT_S} s" * late]
                self.losses.clear()
                reason = "; ".join(filter(None, reasons))
                message = f"the local cluster did not start: {reason}\n{self._log_tail()}"
                raise ClusterError(message)

    def close(self) -> None:
        """End the cluster and wait until its processes and its directory are gone."""
        self.end = self.end or "it was stopped"
        with self._reading:
            self._close_pipes()  # which is the tether's word to end
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its children end with it
            self._process.wait()
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)  # if the tether was killed
        self._log.close()

    def detach(self) -> None:
        """Let go of the pipes in a forked child of the owner, which no longer has a cluster."""
        self._reading = threading.Lock()  # another thread may have held it
        self._close_pipes()
        self._process.returncode = 0  # not our child: nothing to wait for or to warn about

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _take(self, event: dict[str, Any]) -> None:
        if "ready" in event:
            self.connection, self.directory = event["ready"], event["directory"]
        elif "exited" in event:
            self.engines.discard(event["exited"])
            self.losses.append(f"engine {event['exited']} {event['how']}")
        else:
            self.end = event["failed"]

    def _log_tail(self) -> str:
        # Read by position: the offset of the open file is the writers'.
        start = max(0, os.fstat(self._log.fileno()).st_size - _LOG_TAIL_BYTES)
        return os.pread(self._log.fileno(), _LOG_TAIL_BYTES, start).decode(errors="replace")


def _import_path() -> list[str]:
    """Return the ``sys.path`` for engines: ours, and this package's place if it is not there."""
    path = [entry for entry in sys.path if isinstance(entry, str)]
    here = str(Path(memshare_jupyter.__file__).parents[1])
    return path if here in path else [*path, here]
