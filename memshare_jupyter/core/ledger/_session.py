"""This process's session file: its slots, and the lock that says the process lives.

Each process that holds a handle has one file in the runtime directory of its user::

    header (512 bytes)   who the process is, and the state: a generation counter, the number of
                         slots, and a ring of the slots changed last
    slots (512 each)     one handle each, see `_slot`

Only its process writes a file. A POSIX record lock on byte 0, held for life, says that the
process lives: the kernel drops it at death, however that comes. POSIX and not OFD or flock
locks, because those are inherited by forked children, and a dead session would look alive.

A session begins with a file that is complete and locked before it can be seen (`_create`). To
change slots:

1. write the slots;
2. write the state: ring, number of slots, generation.

A reader that sees the new generation finds the new slots. A kill between any two steps leaves a
file without a lock, and no process of its pid and time of start.

Any ``close()`` of the file in this process would drop its lock, so there is one descriptor and
nothing maps the file. Somebody's stray close, or a cleaner of temporary files, can still happen:
every act first takes the lock again and looks whether the file is still there. One that was
removed does not come back under its name, which may be about to be removed once more: its next
incarnation has a name of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import struct
import time
import uuid
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from memshare_jupyter.core import _proc
from memshare_jupyter.core._locks import try_lock
from memshare_jupyter.core._opened import Opened
from memshare_jupyter.core.ledger._create import create_locked
from memshare_jupyter.core.ledger._runtime import make_directory
from memshare_jupyter.core.ledger._slot import CRC, EMPTY, SLOT_BYTES

MAGIC: Final = b"memshare"
VERSION: Final = 3
HEADER_BYTES: Final = 512
RING: Final = 64
SUFFIX: Final = ".session"

_WHO: Final = struct.Struct("<8sIIIQQQd16s64s")
"""magic, version, slot bytes, pid, pid namespace, user namespace, time of the process's start in
the system's ticks, of the session's in seconds since 1970, token, label"""
STATE: Final = struct.Struct(f"<QI{RING}I")
"""generation, number of slots, ring"""
STATE_OFFSET: Final = 160
_BEFORE_RING: Final = struct.Struct("<QI")
_RING_AT: Final = _BEFORE_RING.size
_IN_RING: Final = struct.Struct("<I")


_hex = functools.lru_cache(maxsize=1024)(bytes.hex)


class Who(NamedTuple):
    """A process, as its session file names it.

    Attributes
    ----------
    pid, pid_namespace : int
        The process, as its own namespace numbers it.
    user_namespace : int
        Where its user id has its meaning; 0 where there are no such namespaces.
    start_ticks : int
        When it started: tells it from another one of that pid. 0 when that is not known.
    began : float
        When its session began, in seconds since 1970.
    token : bytes
        Tells the session from any other.
    label : str
        What lists call it, such as ``"kernel"``.
    """

    pid: int
    pid_namespace: int
    user_namespace: int
    start_ticks: int
    began: float
    token: bytes
    label: str

    @property
    def session(self) -> str:
        """The token, as lists show it."""
        return _hex(self.token)

    @classmethod
    def me(cls, label: str = "") -> Who:
        """Return this process with a session of its own."""
        pid = os.getpid()
        spaces = (_proc.pid_namespace(), _proc.user_namespace())
        me = cls(pid, spaces[0], spaces[1], 0, time.time(), uuid.uuid4().bytes, label)
        return me.told_apart()

    def told_apart(self) -> Who:
        """Return this process with the time of its start, if that could not be read before."""
        if self.start_ticks:
            return self
        with contextlib.suppress(OSError):  # no descriptor is left
            return self._replace(start_ticks=_proc.start_time(self.pid) or 0)
        return self

    @classmethod
    def read(cls, header: bytes) -> Who | None:
        """Read what a header says; None when it is not one of this version."""
        if len(header) < HEADER_BYTES:
            return None
        magic, version, slot_bytes, *who, label = _WHO.unpack_from(header)
        if (magic, version, slot_bytes) != (MAGIC, VERSION, SLOT_BYTES):
            return None
        return cls._make((*who, label.rstrip(b"\0").decode(errors="replace")))

    def pack(self) -> bytes:
        """Return the beginning of a header."""
        label = self.label.encode()[:64].decode(errors="ignore").encode()
        return _WHO.pack(MAGIC, VERSION, SLOT_BYTES, *self[:-1], label).ljust(STATE_OFFSET, b"\0")


class SessionFile:
    """One incarnation of the session file of this process.

    Parameters
    ----------
    directory : Path
        The runtime directory, see `runtime_directory`.
    who : Who
        This process.
    slots : list of bytes
        What the file lists from the moment it can be seen.
    incarnation : int
        How many files this session had before.
    """

    def __init__(self, directory: Path, who: Who, slots: list[bytes], incarnation: int = 0) -> None:
        self._who = who
        self._slots = slots
        self._free = {index for index, slot in enumerate(slots) if slot == EMPTY}
        self._generation = 0
        self._state = bytearray(STATE.size + CRC.size)
        self._opened = Opened()
        self.path = directory / f"{who.pid}-{who.token.hex()}-{incarnation}{SUFFIX}"

    def begin(self) -> None:
        """Make the file.

        Raises
        ------
        OSError
            There is no room for it, or no descriptor.
        RegistryCorruptError
            The directory cannot be trusted, or is gone.
        """
        image = self._who.pack() + self._sealed_state()
        image = image.ljust(HEADER_BYTES, b"\0") + b"".join(self._slots)
        while True:
            make_directory(self.path.parent)
            try:
                create_locked(self._opened, self.path, image)
            except FileNotFoundError:
                continue  # somebody removed the empty directory, or our hidden file, in between
            except BaseException:
                self.end()
                raise
            return

    def put(self, slots: list[bytes]) -> list[int]:
        """Write slots into free places, and return their indexes.

        By one change of the state; who reads every slot just then may see some of them before.
        """
        reused = [self._free.pop() for _ in slots[: len(self._free)]]
        reused.sort()
        end = len(self._slots)
        indexes = [*reused, *range(end, end + len(slots) - len(reused))]
        first = 0
        try:
            for last, index in enumerate(indexes, 1):  # step 1: one write for a run of neighbours
                if last == len(indexes) or indexes[last] != index + 1:
                    run = b"".join(slots[first:last])
                    self._write(run, HEADER_BYTES + indexes[first] * SLOT_BYTES)
                    first = last
        except BaseException:
            self._free.update(reused)
            raise
        for index, slot in zip(reused, slots, strict=False):
            self._slots[index] = slot
        self._slots += slots[len(reused) :]
        self._changed(indexes)
        return indexes

    def replace(self, index: int, slot: bytes) -> None:
        """Write another slot into the place of one."""
        self._write(slot, HEADER_BYTES + index * SLOT_BYTES)  # step 1
        self._slots[index] = slot
        self._changed([index])

    def clear(self, index: int) -> None:
        """Empty a slot."""
        self._write(EMPTY, HEADER_BYTES + index * SLOT_BYTES)
        self._slots[index] = EMPTY
        self._changed([index])
        self._free.add(index)

    def rewrite(self, slots: list[bytes]) -> None:
        """Have exactly these slots, in whatever state a failed change left the file."""
        # No slot is given up: a reader may be about to read as many as there were.
        slots += [EMPTY] * (len(self._slots) - len(slots))
        self._slots = slots
        self._free = {index for index, slot in enumerate(slots) if slot == EMPTY}
        self._write(b"".join(slots), HEADER_BYTES)
        self._generation += RING + 1  # more than the ring holds: readers read every slot
        self._write(self._sealed_state(), STATE_OFFSET)

    def relabel(self, who: Who) -> None:
        """Change what lists call this process."""
        self._who = who
        self._write(who.pack(), 0)

    def is_there(self) -> bool:
        """Take the lock again, and say whether the file can still be found."""
        fd = self._opened.fd
        if fd < 0:
            return False  # an interrupt broke off its end
        try_lock(fd)
        return os.fstat(fd).st_nlink > 0

    @property
    def is_open(self) -> bool:
        """Whether it can be written to; False when an interrupt came as it ended."""
        return self._opened.fd >= 0

    def end(self) -> None:
        """Remove the file: all handles of this process count for nothing from here on."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptor; in a forked child this leaves the parent's lock alone."""
        self._opened.close()

    def _changed(self, indexes: list[int]) -> None:
        for index in indexes:
            self._generation += 1
            at = _RING_AT + self._generation % RING * _IN_RING.size
            _IN_RING.pack_into(self._state, at, index)
        self._write(self._sealed_state(), STATE_OFFSET)  # step 2

    def _sealed_state(self) -> bytes:
        state = self._state
        _BEFORE_RING.pack_into(state, 0, self._generation, len(self._slots))
        CRC.pack_into(state, STATE.size, zlib.crc32(memoryview(state)[: STATE.size]))
        return bytes(state)

    def _write(self, data: bytes, offset: int) -> None:
        while (written := os.pwrite(self._opened.fd, data, offset)) < len(data):
            # Nearly full: the rest says whether there is no room, or was but a signal.
            data, offset = data[written:], offset + written
