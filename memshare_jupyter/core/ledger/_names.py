"""Locks on names, held only while an owner looks for a rival and publishes.

One file per runtime directory, one byte of it per name (a hash: two names that share a byte
merely wait for each other). POSIX record locks, so the kernel drops them when the process dies.
They do not keep the threads of one process apart: the registry lets one at a time in here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from memshare_jupyter.core._locks import holder, try_lock
from memshare_jupyter.core._opened import Opened
from memshare_jupyter.core.ledger._runtime import make_directory, raise_if_unusable
from memshare_jupyter.core.names import PageName

FILE_NAME: Final = "names.lock"
PROMISES_NAME: Final = "memory.promises"
_BESIDE: Final = (".socket", ".line", ".wanted")
"""What lies beside the session file of a process that is there, see `blocks`."""


class NameLocks:
    """Locks on names in one runtime directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._opened = Opened()

    def try_lock(self, names: Iterable[PageName]) -> tuple[PageName, int] | None:
        """Lock all `names`, or none.

        Returns
        -------
        (PageName, int) or None
            A name that another process has locked, and the pid of that process; None when this
            process has them all.

        Raises
        ------
        OSError
            The file cannot be opened.
        RegistryCorruptError
            The directory cannot be trusted, or is gone.
        """
        by_byte = {_byte(name): name for name in names}
        while True:
            fd = self._open()
            for byte in sorted(by_byte):
                if not try_lock(fd, byte):
                    pid = holder(fd, byte)
                    self.unlock()
                    return by_byte[byte], pid
            # Whoever left last may have removed the file between our open and our lock.
            if os.fstat(fd).st_nlink:
                return None
            self.close()

    def unlock(self) -> None:
        """Unlock all names."""
        if (fd := self._opened.fd) >= 0:
            fcntl.lockf(fd, fcntl.LOCK_UN)

    def remove_if_last(self) -> None:
        """Remove lock file and directory when no session is left in it."""
        directory = self._path.parent
        with contextlib.suppress(OSError):
            if not _in_use(directory):
                fd = self._open()
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _in_use(directory) and os.fstat(fd).st_nlink:
                    for name in os.listdir(directory):
                        (directory / name).unlink()
                    directory.rmdir()
        self.close()

    def close(self) -> None:
        """Close the file, which drops every lock this process has on it."""
        self._opened.close()

    def _open(self) -> int:
        while self._opened.fd < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                fd = self._opened.open(os.open, self._path, flags, 0o600)
                os.fchmod(fd, 0o600)  # whatever the umask took away
            except FileNotFoundError:  # the directory was just removed
                make_directory(self._path.parent)
            except OSError as error:
                raise_if_unusable(error, self._path.parent, FILE_NAME)
                raise
        return self._opened.fd


def _in_use(directory: Path) -> bool:
    """Say whether there is anything but what sessions that have ended leave beside their files."""
    left = (FILE_NAME, PROMISES_NAME)
    return any(n not in left and not n.endswith(_BESIDE) for n in os.listdir(directory))


def _byte(name: PageName) -> int:
    return zlib.crc32(f"{name.namespace}\0{name.variable}".encode())
