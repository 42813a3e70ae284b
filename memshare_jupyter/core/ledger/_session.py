"""This process's session file: its slots, and the lock that says the process lives.

Each process that holds a handle has one file in the runtime directory of its user::

    header (512 bytes)   who the process is, and the state: a generation counter, the number of
                         slots, and a ring of the slots changed last
    slots (512 each)     one handle each, see `ledger`

Only its process writes a file. A POSIX record lock on byte 0, held for life, says that the
process lives: the kernel drops it at death, however that comes. POSIX and not OFD or flock
locks, because those are inherited by forked children, and a dead session would look alive.

A session begins with a file that is complete and locked before it can be seen (`_newfile`), so
a visible file without a lock is always a dead one. To change a slot:

1. write the slot;
2. write the state: ring, number of slots, generation.

A reader that sees the new generation finds the new slot. A kill between any two steps leaves a
file without a lock, which counts for nothing.

Any ``close()`` of the file in this process would drop its lock, so there is one descriptor and
nothing maps the file; and because somebody's stray close, or a cleaner of temporary files, can
still happen, every change first takes the lock again and looks whether the file is still there.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import uuid
import zlib
from pathlib import Path
from typing import Final

from memshare_jupyter.core._proc import pid_namespace
from memshare_jupyter.core.ledger._locks import try_lock
from memshare_jupyter.core.ledger._newfile import create_locked
from memshare_jupyter.core.ledger._runtime import make_directory

MAGIC: Final = b"memshare"
VERSION: Final = 2
HEADER_BYTES: Final = 512
SLOT_BYTES: Final = 512
RING: Final = 64
SUFFIX: Final = ".session"

WHO: Final = struct.Struct("<8sIIIQd16s64s")
"""magic, version, slot bytes, pid, pid namespace, time of start, token, label"""
STATE: Final = struct.Struct(f"<QI{RING}I")
"""generation, number of slots, ring"""
STATE_OFFSET: Final = 128
CRC: Final = struct.Struct("<I")


class SessionFile:
    """The session file of this process.

    Parameters
    ----------
    directory : Path
        The runtime directory, see `runtime_directory`.
    label : str
        What lists call this process, such as ``"kernel"``.
    """

    def __init__(self, directory: Path, label: str = "") -> None:
        self.directory = directory
        self.label = label
        self.token = uuid.uuid4().bytes
        self.pid = os.getpid()
        self.pid_namespace = pid_namespace()
        self.path = directory / f"{self.pid}-{self.token.hex()}{SUFFIX}"
        self.started = time.time()
        self._slots: list[bytes] = []
        self._free: set[int] = set()
        self._generation = 0
        self._ring = [0] * RING
        self._fd = self._begin()

    def put(self, slot: bytes) -> int:
        """Write a slot into a free place and return its index."""
        if not self._free:
            self._slots.append(bytes(SLOT_BYTES))
            self._free.add(len(self._slots) - 1)
        index = self._free.pop()
        self._slots[index] = slot
        self._change(index)
        return index

    def clear(self, index: int) -> None:
        """Empty a slot."""
        self._slots[index] = bytes(SLOT_BYTES)
        self._change(index)
        self._free.add(index)

    def rewrite(self, slots: dict[int, bytes]) -> None:
        """Have exactly these slots, in whatever state a failed change left the file."""
        empty = bytes(SLOT_BYTES)
        self._slots = [slots.get(index, empty) for index in range(len(self._slots))]
        self._free = set(range(len(self._slots))) - slots.keys()
        self.assert_alive()
        os.pwrite(self._fd, b"".join(self._slots), HEADER_BYTES)
        self._generation += RING + 1  # more than the ring holds: readers read every slot
        os.pwrite(self._fd, self._state(), STATE_OFFSET)

    def relabel(self, label: str) -> None:
        """Change what lists call this process."""
        if label != self.label:
            self.label = label
            self.assert_alive()
            os.pwrite(self._fd, self._header(), 0)

    def assert_alive(self) -> None:
        """Take the lock again and put the file back if somebody removed it."""
        try_lock(self._fd)
        if os.fstat(self._fd).st_nlink == 0:
            gone, self._fd = self._fd, self._begin()
            os.close(gone)

    def end(self) -> None:
        """Remove the file: all handles of this process count for nothing from here on."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptor; in a forked child this leaves the parent's lock alone."""
        # Not kept: by its number a late write would reach some other file that got it since.
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _begin(self) -> int:
        while True:
            make_directory(self.directory)
            try:
                image = self._header() + b"".join(self._slots)
                return create_locked(self.path, image)
            except FileNotFoundError:
                # Another process removed the empty directory, or our hidden file, in between.
                continue

    def _change(self, index: int) -> None:
        self.assert_alive()
        os.pwrite(self._fd, self._slots[index], HEADER_BYTES + index * SLOT_BYTES)  # step 1
        self._generation += 1
        self._ring[self._generation % RING] = index
        os.pwrite(self._fd, self._state(), STATE_OFFSET)  # step 2

    def _header(self) -> bytes:
        label = self.label.encode()[:64].decode(errors="ignore").encode()
        who = WHO.pack(
            *(MAGIC, VERSION, SLOT_BYTES, self.pid, self.pid_namespace, self.started),
            *(self.token, label),
        )
        return (who.ljust(STATE_OFFSET, b"\0") + self._state()).ljust(HEADER_BYTES, b"\0")

    def _state(self) -> bytes:
        state = STATE.pack(self._generation, len(self._slots), *self._ring)
        return state + CRC.pack(zlib.crc32(state))
