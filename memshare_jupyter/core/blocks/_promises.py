"""Promises: memory that processes of this user are about to fill, told to each other.

Memory is there or not when it is touched, and whoever comes too late is killed. So whoever fills
much of it says so before; who looks meanwhile counts it as taken. One file in the runtime
directory, which is there only while somebody fills:

1. lock the book (byte 0): one process at a time;
2. read what others promised; a promise whose byte nobody has locked is a dead process's, and void;
3. look whether there is room beside those; if not, unlock and refuse;
4. write a promise into a free slot, lock the slot's byte;
5. unlock the book; fill, and lower the promise on the way;
6. void the promise; who has the last one removes the file.

Record locks, so that a kill at any step leaves nothing that counts. They do not keep the threads
of a process apart, nor this process's own promises: a lock and a table here do.

All this is for the good of those who come at the same time, and never in the way of anybody: when
the book cannot be had in half a second, because its holder is stopped, it is done without.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from memshare_jupyter.core import _directories

FILE_NAME: Final = "memory.promises"
_SLOT: Final = struct.Struct("<QQ496s")
"""bytes to be filled, number of the control group namespace, control group"""
_BYTES: Final = struct.Struct("<Q")
_SLOTS: Final = 128
_PATIENCE_S: Final = 0.5
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Promise(NamedTuple):
    """Memory that is about to be taken.

    Attributes
    ----------
    size_bytes : int
        How much is still to be filled.
    namespace, group : int, str
        The control group that it will be charged to, as its process calls it.
    """

    size_bytes: int
    namespace: int
    group: str

    def counts_for(self, namespace: int, group: str) -> bool:
        """Say whether it is charged to that group, or to one inside it."""
        inside = self.group == group or self.group.startswith(group.rstrip("/") + "/")
        return self.namespace == namespace and inside


Fits = Callable[[list[Promise]], bool]
"""Says whether there is room beside these promises."""


class _Ticket:
    """One promise of this process; told from one of the same slot that its parent had."""

    def __init__(self, slot: int) -> None:
        self.slot = slot


class _Book:
    """The file, as this process has it open; only while it has a promise, or looks."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._path = Path()
        self._fd = -1
        self._mine: dict[int, _Ticket] = {}

    def in_child(self) -> None:
        """Have no promise in a forked child; closing the file costs the parent nothing."""
        if self._fd >= 0:
            os.close(self._fd)
        self.reset()

    @contextlib.contextmanager
    def locked(self, directory: Path, *, create: bool) -> Iterator[bool]:
        """Have the book to oneself; yield False when it cannot be had, or there is none."""
        # A signal handler or finalizer of this thread may come here again: it goes without.
        if self._owner == threading.get_ident() or not self._lock.acquire(timeout=_PATIENCE_S):
            yield False
            return
        try:
            self._owner = threading.get_ident()
            opened = self._open(directory / FILE_NAME, create=create)
            try:
                yield opened
            finally:
                self._leave()
        finally:
            self._owner = 0
            self._lock.release()

    def _open(self, path: Path, *, create: bool) -> bool:
        deadline = time.monotonic() + _PATIENCE_S
        with contextlib.suppress(OSError):
            while True:
                if self._fd < 0 or (path != self._path and not self._mine):
                    self._close()
                    if create and _directories.make(path.parent, _directories.ONLY_MINE):
                        return False  # not ours alone: nothing is told there
                    self._fd = os.open(path, _OPEN | (os.O_CREAT if create else 0), 0o600)
                    self._path = path
                if not self._lock_byte(0, deadline):
                    return False
                found = os.fstat(self._fd)
                if not stat.S_ISREG(found.st_mode):
                    return False
                if found.st_nlink:
                    return True
                if self._mine:  # it was removed from under our promises: nobody sees them
                    return False
                self._close()
        return False

    def _leave(self) -> None:
        if self._fd >= 0:
            if self._mine:
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, 0)
            else:
                self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lock_byte(self, byte: int, deadline: float) -> bool:
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.0005)
            except PermissionError:  # the other name that POSIX has for it
                return False
            else:
                return True

    def living(self) -> dict[int, Promise]:
        """Return the promises by slot, and void those of the dead (step 2)."""
        found = {}
        image = os.pread(self._fd, _SLOTS * _SLOT.size, 0)
        for slot in range(len(image) // _SLOT.size):
            size_bytes, namespace, group = _SLOT.unpack_from(image, slot * _SLOT.size)
            if not size_bytes:
                continue
            if slot not in self._mine and self._lock_byte(1 + slot, 0.0):
                self._write(slot, 0)
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, 1 + slot)
                continue
            name = group.rstrip(b"\0").decode(errors="replace")
            found[slot] = Promise(size_bytes, namespace, name)
        return found

    def promise(self, promise: Promise, taken: dict[int, Promise]) -> _Ticket | None:
        """Write a promise (step 4); None when all slots are taken."""
        slot = next((one for one in range(_SLOTS) if one not in taken), None)
        if slot is None:
            return None
        image = _SLOT.pack(*promise[:2], promise.group.encode()[:496])
        ticket = self._mine[slot] = _Ticket(slot)
        try:
            self._lock_byte(1 + slot, 0.0)
            os.pwrite(self._fd, image, slot * _SLOT.size)
        except OSError:  # a full file system: it goes without
            del self._mine[slot]
            return None
        return ticket

    def lower(self, ticket: _Ticket, size_bytes: int) -> None:
        """Say how much of a promise is still to be filled."""
        if self._mine.get(ticket.slot) is ticket:
            with contextlib.suppress(OSError):
                self._write(ticket.slot, size_bytes)

    def void(self, ticket: _Ticket) -> None:
        """Take back a promise (step 6)."""
        if self._mine.get(ticket.slot) is not ticket:
            return
        self.lower(ticket, 0)
        with self.locked(self._path.parent, create=False) as ours:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, 1 + ticket.slot)
            del self._mine[ticket.slot]
            if ours and not self.living():
                _remove(self._path)

    def _write(self, slot: int, size_bytes: int) -> None:
        os.pwrite(self._fd, _BYTES.pack(size_bytes), slot * _SLOT.size)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
        path.parent.rmdir()  # if nobody lists anything there


_book: Final = _Book()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_book.in_child)


def others(directory: Path) -> list[Promise]:
    """Return the promises that are open; takes microseconds when there are none."""
    if not (directory / FILE_NAME).exists():
        return []
    with _book.locked(directory, create=False) as ours:
        if not ours:
            return []
        found = _book.living()
        if not found:  # what a killed process left
            _remove(directory / FILE_NAME)
        return list(found.values())


@contextlib.contextmanager
def promised(
    directory: Path, promise: Promise, fits: Fits
) -> Iterator[Callable[[int], None] | None]:
    """Promise to fill memory, and take the promise back at the end.

    Yields what lowers the promise by so many bytes, as they were filled; None when there is no
    room for them, and nothing was promised.

    Parameters
    ----------
    directory : Path
        The runtime directory.
    promise : Promise
        What will be filled.
    fits : callable
        Told the promises of others.
    """
    ticket = None
    with _book.locked(directory, create=True) as ours:
        taken = _book.living() if ours else {}
        room = fits(list(taken.values()))
        if ours and room:
            ticket = _book.promise(promise, taken)
    left = promise.size_bytes

    def filled(size_bytes: int) -> None:
        nonlocal left
        left = max(0, left - size_bytes)
        if ticket is not None:
            _book.lower(ticket, left)

    try:
        yield filled if room else None
    finally:
        if ticket is not None:
            _book.void(ticket)
