"""One contender in a fresh process of its own, from its start to the end of all that it started."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from tests.benchmarks.family import SHM, Family

ROOT = Path(__file__).parents[2]
SAMPLE_S = 0.02
LINGER_S = 5.0
"""What was started has so long to end, after its owner has ended."""


class ContenderError(Exception):
    """A contender failed, or did not answer in time."""


class Session:
    """A contender's process; a context manager."""

    def __init__(self, module: str, limit_s: float) -> None:
        self.left: list[str] = []
        """What was still there after the end, and had to be ended or removed."""
        self.peak_bytes = 0
        self._limit_s = limit_s
        # Where there is memory for files joblib and others put theirs there; it is also a short
        # path, which sockets need.
        base = SHM if os.access(SHM, os.W_OK | os.X_OK) else None
        self.scratch = tempfile.mkdtemp(prefix="apply-", dir=base)
        tag = f"APPLY_BENCHMARK={uuid.uuid4().hex}"
        ours, theirs = socket.socketpair()
        with ours, theirs, open(f"{self.scratch}/log", "w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.contestant", module, str(theirs.fileno())],
                cwd=self.scratch,
                env=_environment(self.scratch, tag),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            self._connection = Connection(ours.detach())
        self.family = Family(self._process.pid, tag)

    def ask(self, command: str, *arguments: Any, watch: bool = False) -> Any:
        """Have a method of `Contestant` called; with `watch`, note the peak of memory meanwhile.

        Raises
        ------
        ContenderError
            The method failed, or gave no answer within the limit.
        """
        if watch:
            self.peak_bytes = 0
        deadline = time.monotonic() + self._limit_s
        interval = SAMPLE_S if watch else self._limit_s
        try:
            self._connection.send((command, *arguments))
            while not self._connection.poll(interval):
                if time.monotonic() >= deadline:
                    raise ContenderError(f"no answer to {command!r} in {self._limit_s:.0f} s")
                self.peak_bytes = max(self.peak_bytes, self.family.memory_bytes())
            outcome, answer = self._connection.recv()
        except (EOFError, ConnectionError):
            raise ContenderError(f"it died during {command!r}{self._log()}") from None
        if watch:
            self.peak_bytes = max(self.peak_bytes, self.family.memory_bytes())
        if outcome == "failed":
            raise ContenderError(f"{command!r} failed: {answer}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.family.memory_bytes()  # takes note of its processes and files
        self._connection.close()  # which ends it, if it listens
        try:
            self._process.wait(LINGER_S)
        except subprocess.TimeoutExpired:
            self.left.append("the contender's own process")
            self._process.kill()
            self._process.wait()
        self.left += self.family.end(LINGER_S)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _log(self) -> str:
        lines = Path(self.scratch, "log").read_text(errors="replace").splitlines()
        return f": {lines[-1]}" if lines else ""


def _environment(scratch: str, tag: str) -> dict[str, str]:
    one_thread = dict.fromkeys(["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"], "1")
    name, value = tag.split("=")
    return {
        **os.environ,
        **one_thread,
        name: value,
        "TMPDIR": scratch,
        "JOBLIB_TEMP_FOLDER": scratch,
        "IPYTHONDIR": f"{scratch}/ipython",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
    }
