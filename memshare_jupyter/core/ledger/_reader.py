"""Reader: the session of another process, as read from its file.

1. a file that is unlocked, and whose process no longer lives, is a dead session's: remove it,
   count nothing of it;
2. read the header; when the generation moved by no more than the ring is long, read the slots
   the ring names, else all of them, and go on with those that differ;
3. a slot or state whose checksum is wrong is being written at this moment: read it again. One
   that stays wrong was damaged by another hand: a slot says nothing then, and a state nothing new.

It fails closed: a session counts as dead only when its lock is gone *and* this process can see
that no process of that pid and time of start is there. Locks go by a stray close, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from memshare_jupyter.core import _proc
from memshare_jupyter.core._locks import is_locked
from memshare_jupyter.core._opened import Opened
from memshare_jupyter.core.ledger._session import (
    HEADER_BYTES,
    RING,
    STATE,
    STATE_OFFSET,
    SUFFIX,
    Who,
)
from memshare_jupyter.core.ledger._slot import (
    CRC,
    EMPTY,
    SLOT_BYTES,
    Entry,
    TornSlot,
    is_whole,
    unpack,
)
from memshare_jupyter.core.ledger._table import Table
from memshare_jupyter.core.names import PageName

# Nonblocking, so that a pipe of that name cannot stop us.
_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_TRIES: Final = 200
_MOST_SLOTS: Final = 1 << 20
_STATE_END: Final = STATE_OFFSET + STATE.size
_NOT_A_FILE: Final = (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.ESPIPE)

OnDead = Callable[[Path, bytes, Iterator[tuple[str, bytes]]], None]
"""Told of a dead session, before its file is removed: where, its token, and the directory and uuid
of each page that it listed and that is a file."""


class Reader:
    """The session of another process.

    Parameters
    ----------
    path : Path
        Its file.

    Attributes
    ----------
    who : Who
        The process.
    table : Table
        What it lists, as of the last `refresh`.
    """

    def __init__(self, path: Path, opened: Opened, who: Who) -> None:
        self._path = path
        self._opened = opened
        self.who = who
        self.table = Table()
        self._header = b""
        self._image = b""
        self._generation = -1

    @classmethod
    def open(cls, path: Path, on_dead: OnDead, opened: Opened) -> Reader | None:
        """Open a living session; None when it is dead (and now removed) or not of this version.

        The caller lets go of `opened` when it gets no answer.

        Raises
        ------
        OSError
            No descriptor is left.
        """
        try:
            fd = opened.open(os.open, path, _OPEN)
            who = Who.read(os.pread(fd, HEADER_BYTES, 0))
            if who is not None and lives(fd, who):
                return cls(path, opened, who)
            if who is not None:
                _sweep(fd, path, who, on_dead)
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            pass
        except OSError as error:
            if error.errno not in _NOT_A_FILE:
                raise  # it may well live, and must not be missing from a list
        opened.close()
        return None

    def close(self) -> None:
        """Close the file, until the next refresh."""
        self._opened.close()

    def refresh(self, on_dead: OnDead) -> bool:
        """Bring the table up to date; False when the process is dead, and its file now removed.

        Raises
        ------
        OSError
            No descriptor is left.
        """
        fd = self._opened.fd
        if fd < 0:
            try:
                fd = self._opened.open(os.open, self._path, _OPEN)
            except FileNotFoundError:
                return False
        if not lives(fd, self.who):
            _sweep(fd, self._path, self.who, on_dead)
            return False
        header = os.pread(fd, HEADER_BYTES, 0)
        if header != self._header:
            self._read(fd, header)
        return True

    def forget(self) -> None:
        """Read everything at the next refresh."""
        self.table = Table()
        self._header = self._image = b""
        self._generation = -1

    def _read(self, fd: int, header: bytes) -> None:
        state = self._state(fd, header)
        if state is None:
            return  # damaged: keep what was known
        generation, count, ring, header = state
        if (who := Who.read(header)) is not None:
            self.who = who._replace(token=self.who.token)
        behind = generation - self._generation
        if self._generation < 0 or not 0 <= behind <= RING:
            self._read_all(fd, min(count, _MOST_SLOTS))
        else:
            for g in range(self._generation + 1, generation + 1):
                self._read_one(fd, ring[g % RING])
        self._generation = generation
        self._header = header

    def _state(self, fd: int, header: bytes) -> tuple[int, int, tuple[int, ...], bytes] | None:
        for _ in range(_TRIES):
            if len(header) < HEADER_BYTES:
                return None
            state = header[STATE_OFFSET:_STATE_END]
            (checksum,) = CRC.unpack_from(header, _STATE_END)
            if checksum == zlib.crc32(state):
                generation, count, *ring = STATE.unpack(state)
                return generation, count, tuple(ring), header
            time.sleep(0)
            header = os.pread(fd, HEADER_BYTES, 0)
        return None

    def _read_all(self, fd: int, count: int) -> None:
        room = os.fstat(fd).st_size - HEADER_BYTES  # a damaged count may be any number
        count = max(0, min(count, room // SLOT_BYTES))
        image = os.pread(fd, count * SLOT_BYTES, HEADER_BYTES)
        image = image[: len(image) // SLOT_BYTES * SLOT_BYTES]
        known, put = self.table.slots, self.table.put
        for index in _differing(image, self._image):
            slot = image[index * SLOT_BYTES : (index + 1) * SLOT_BYTES]
            if slot == known.get(index, EMPTY):
                continue
            if not slot or slot == EMPTY:
                put(index, None)
            elif is_whole(slot):
                put(index, slot)
            else:
                self._read_one(fd, index)
        self._image = image

    def _read_one(self, fd: int, index: int) -> None:
        if index >= _MOST_SLOTS:
            return
        for _ in range(_TRIES):
            slot = os.pread(fd, SLOT_BYTES, HEADER_BYTES + index * SLOT_BYTES)
            if len(slot) == SLOT_BYTES and is_whole(slot):
                self.table.put(index, None if slot == EMPTY else slot)
                break
            time.sleep(0)
        else:
            self.table.put(index, None)  # damaged by another hand: it names no page
        # What differs from the image is looked at again when everything is read.
        at = index * SLOT_BYTES
        if at < len(self._image):
            self._image = self._image[:at]


def lives(fd: int, who: Who) -> bool:
    """Say whether the process of a session may live: only what is certain is denied.

    This process's own list is not read by it. One of its pid that is, is a dead one's, or was left
    by an end that was broken off.
    """
    if is_locked(fd):
        return True
    if not who.start_ticks or who.pid_namespace != _proc.pid_namespace():
        return False  # its lock is all there is to go by
    if who.pid == os.getpid():
        return False
    try:
        return _proc.start_time(who.pid) == who.start_ticks
    except OSError:
        return True


def sessions_in(directory: Path, mine: Path | None) -> Iterator[tuple[int, Who | None]]:
    """Yield pid and description of the living sessions in a directory, of whatever version.

    The description is None of another version's. This process's own file is not opened: to
    close it would drop its lock.
    """
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        if path == mine:
            continue
        opened = Opened()
        with contextlib.suppress(OSError, ValueError):
            try:
                fd = opened.open(os.open, path, _OPEN)
                who = Who.read(os.pread(fd, HEADER_BYTES, 0))
                if who is not None and lives(fd, who):
                    yield who.pid, who
                elif who is None and is_locked(fd):
                    # Of the file's name every version begins with the pid.
                    yield int(path.name.partition("-")[0]), None
            finally:
                opened.close()


def lists(image: bytes, wanted: Callable[[PageName], bool]) -> bool:
    """Say whether a session file with these contents lists a page of a name that is wanted."""
    slots = range(HEADER_BYTES, len(image) - SLOT_BYTES + 1, SLOT_BYTES)
    whole = (image[at : at + SLOT_BYTES] for at in slots)
    for slot in whole:
        with contextlib.suppress(TornSlot):
            if slot != EMPTY and is_whole(slot) and wanted(unpack(slot).name):
                return True
    return False


def _differing(image: bytes, before: bytes) -> list[int]:
    """Return the indexes of the slots that are not the same in two images."""
    slots = [len(image) // SLOT_BYTES, len(before) // SLOT_BYTES]
    both = min(slots)
    words = [
        np.frombuffer(data, np.uint64, both * SLOT_BYTES // 8).reshape(both, SLOT_BYTES // 8)
        for data in (image, before)
    ]
    differing = np.flatnonzero((words[0] != words[1]).any(axis=1)).tolist()
    return [*differing, *range(both, max(slots))]


def _sweep(fd: int, path: Path, who: Who, on_dead: OnDead) -> None:
    if os.fstat(fd).st_nlink:  # else it was swept already
        with contextlib.suppress(OSError):
            entries = _last_entries(fd)
            files = ((one.place, one.uuid) for one in entries if one.backend == "file")
            on_dead(path.parent, who.token, files)
        with contextlib.suppress(OSError):
            path.unlink()


def _last_entries(fd: int) -> Iterator[Entry]:
    """Yield what a dead session listed, as far as it can be read."""
    slots = os.pread(fd, min(os.fstat(fd).st_size, _MOST_SLOTS * SLOT_BYTES), HEADER_BYTES)
    for at in range(0, len(slots) - SLOT_BYTES + 1, SLOT_BYTES):
        slot = slots[at : at + SLOT_BYTES]
        if is_whole(slot) and slot != EMPTY:
            with contextlib.suppress(TornSlot):
                yield unpack(slot)
