"""A lock on a page's name, held only while its owner looks for a rival and publishes.

One file per runtime directory, one byte of it per name (a hash: two names that share a byte
merely wait for each other). POSIX record locks, so the kernel drops them when the process dies.
They do not keep the threads of one process apart: the registry's own lock does that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from memshare_jupyter.core.ledger._locks import holder, try_lock
from memshare_jupyter.core.ledger._runtime import make_directory
from memshare_jupyter.core.names import PageName
from memshare_jupyter.errors import LockTimeoutError

FILE_NAME: Final = "names.lock"
TIMEOUT_S: Final = 10.0


class NameLocks:
    """Locks on names in one runtime directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._fd: int | None = None

    def lock(self, names: Iterable[PageName], timeout_s: float = TIMEOUT_S) -> None:
        """Lock all `names`; locks are taken in one order by everybody, so never in a ring.

        Raises
        ------
        LockTimeoutError
            Another process held one of them for `timeout_s` seconds; it is named.
        """
        by_byte = {_byte(name): name for name in names}
        deadline = time.monotonic() + timeout_s
        while True:
            fd = self._open()
            for byte in sorted(by_byte):
                _lock(fd, byte, by_byte[byte], deadline, timeout_s)
            # Whoever left last may have removed the file between our open and our lock.
            if os.fstat(fd).st_nlink:
                return
            self.close()

    def unlock(self) -> None:
        """Unlock all names."""
        if self._fd is not None:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def remove_if_last(self) -> None:
        """Remove lock file and directory when no session is left in it."""
        directory = self._path.parent
        with contextlib.suppress(OSError):
            if set(os.listdir(directory)) <= {FILE_NAME}:
                fd = self._open()
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if set(os.listdir(directory)) == {FILE_NAME} and os.fstat(fd).st_nlink:
                    self._path.unlink()
                    directory.rmdir()
        self.close()

    def close(self) -> None:
        """Close the file, which drops every lock this process has on it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        while self._fd is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            with contextlib.suppress(FileNotFoundError):  # the directory was just removed
                self._fd = os.open(self._path, flags, 0o600)
                break
            make_directory(self._path.parent)
        return self._fd


def _byte(name: PageName) -> int:
    return zlib.crc32(f"{name.namespace}\0{name.variable}".encode())


def _lock(fd: int, byte: int, name: PageName, deadline: float, timeout_s: float) -> None:
    pause_s = 0.0005
    while True:
        if try_lock(fd, byte):
            return
        if time.monotonic() > deadline:
            pid = holder(fd, byte)
            raise LockTimeoutError(
                f"could not register {name}: process {pid} has held the lock of that name for "
                f"{timeout_s:g} s; it may be stopped, resume or end it",
                name=name,
                pid=pid,
            )
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.02)
