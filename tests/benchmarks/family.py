"""A process and all that it has started: its memory, and its end. Linux only."""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

SHM = "/dev/shm"  # noqa: S108 -- where others have their blocks


class Family:
    """The processes that descend from one, whether their parents still live or not.

    `tag` is a line of the environment that they have inherited, by which those are found at the
    end whose parents had died between two looks.
    """

    def __init__(self, pid: int, tag: str) -> None:
        self._seen = {psutil.Process(pid)}
        self._tag = tag.encode()
        # Named blocks. What lies in directories there may be others', opened to be read.
        self._files: set[str] = set()

    def look(self) -> list[psutil.Process]:
        """Return those who live."""
        for process in [*self._seen]:
            with contextlib.suppress(psutil.Error):
                self._seen.update(process.children(recursive=True))
        return [process for process in self._seen if _lives(process)]

    def memory_bytes(self) -> int:
        """Return the memory of all, shared memory counted once.

        That is their PSS, but shared memory at what is allocated of its blocks: so it counts when
        nobody has mapped it, and is not counted twice while one process after the other maps it,
        between the looks at the first and at the last.
        """
        private = 0
        blocks: dict[tuple[int, int], int] = {}
        for process in self.look():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                kilobytes = dict(line.split()[:2] for line in text.splitlines()[1:])
                private += int(kilobytes["Pss:"]) - int(kilobytes["Pss_Shmem:"]) << 10
            for path in self._shared(process.pid):
                with contextlib.suppress(OSError):
                    status = os.stat(path)
                    blocks[status.st_dev, status.st_ino] = status.st_blocks * 512
        return private + sum(blocks.values())

    def _shared(self, pid: int) -> Iterator[str]:
        """Yield paths by which the blocks can be looked at that a process has open or mapped."""
        for path in glob.iglob(f"/proc/{pid}/fd/*"):
            with contextlib.suppress(OSError):
                file = os.readlink(path)
                if file.startswith(("/memfd:", f"{SHM}/")):
                    yield path
                if os.path.dirname(file) == SHM:
                    self._files.add(file)
        for path in glob.iglob(f"/proc/{pid}/map_files/*"):
            with contextlib.suppress(OSError):
                file = os.readlink(path)
                if file.startswith(("/memfd:", f"{SHM}/")):
                    # To look through the mapping takes privileges; but one that is open nowhere
                    # has a name.
                    yield file if os.path.exists(file) else path

    def end(self, patience_s: float) -> list[str]:
        """End whoever and remove whatever is still there after so many seconds; say which."""
        deadline = time.monotonic() + patience_s
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.02)
        names = []
        for process in left:
            with contextlib.suppress(psutil.Error):
                names.append(f"process {process.name()}")
                process.kill()
        psutil.wait_procs(left, timeout=patience_s)
        for file in sorted(self._files):
            with contextlib.suppress(OSError):
                os.unlink(file)
                names.append(f"file {Path(file).name}")
        return names

    def _left(self) -> list[psutil.Process]:
        for environment in glob.glob("/proc/[0-9]*/environ"):
            with contextlib.suppress(OSError, psutil.Error):
                if self._tag in Path(environment).read_bytes().split(b"\0"):
                    self._seen.add(psutil.Process(int(environment.split("/")[2])))
        return self.look()


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
