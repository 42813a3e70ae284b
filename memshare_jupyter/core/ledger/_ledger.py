"""The ledger: the union of all living sessions.

There is no shared table. Every process publishes its handles in its own session file (the
protocol of one change stands in `session`); the ledger is the union of the files whose process
lives. Readers take no lock:

1. list the directory; forget sessions that are gone from it;
2. a file without a lock is a dead process's: remove it, count nothing of it;
3. read the header; when the generation moved by no more than the ring is long, read the slots
   the ring names, else all of them;
4. a slot or state whose checksum is wrong is being written at this moment: read it again.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from memshare_jupyter.core._descriptors import RUN_OUT
from memshare_jupyter.core.blocks._block import Address, reclaim
from memshare_jupyter.core.blocks._reach import Reach, remove_leftovers
from memshare_jupyter.core.ledger._locks import is_locked
from memshare_jupyter.core.ledger._newfile import HIDDEN_SUFFIX, sweep_hidden
from memshare_jupyter.core.ledger._session import (
    CRC,
    HEADER_BYTES,
    MAGIC,
    RING,
    SLOT_BYTES,
    STATE,
    STATE_OFFSET,
    SUFFIX,
    VERSION,
    WHO,
    SessionFile,
)
from memshare_jupyter.core.ledger._slot import Entry, TornSlot, unpack
from memshare_jupyter.core.names import PageName

_TRIES: Final = 200
_Key = TypeVar("_Key")


class Table:
    """Entries by slot, by name, by uuid and by place.

    Attributes
    ----------
    slots : dict of int to Entry
        All of them.
    changed : set of bytes
        Pages of which an entry came or went; who keeps something by page empties it.
    """

    def __init__(self) -> None:
        self.slots: dict[int, Entry] = {}
        self.changed: set[bytes] = set()
        self._by_name: dict[PageName, set[int]] = {}
        self._by_uuid: dict[bytes, set[int]] = {}
        self._by_place: dict[str, set[int]] = {}

    def put(self, index: int, entry: Entry | None) -> None:
        """Set or (None) empty a slot."""
        old = self.slots.pop(index, None)
        if old is not None:
            _forget(self._by_name, old.name, index)
            _forget(self._by_uuid, old.uuid, index)
            if old.place:
                _forget(self._by_place, old.place, index)
            self.changed.add(old.uuid)
        if entry is not None:
            self.slots[index] = entry
            self.changed.add(entry.uuid)
            self._by_name.setdefault(entry.name, set()).add(index)
            self._by_uuid.setdefault(entry.uuid, set()).add(index)
            if entry.place:
                self._by_place.setdefault(entry.place, set()).add(index)

    def named(self, name: PageName) -> list[Entry]:
        """Return the entries of that name."""
        return [self.slots[i] for i in self._by_name.get(name, ())]

    def of(self, uuid: bytes) -> list[Entry]:
        """Return the entries of that page."""
        return [self.slots[i] for i in self._by_uuid.get(uuid, ())]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield place and uuid of each page that is a file."""
        for place, indexes in self._by_place.items():
            for index in indexes:
                yield place, self.slots[index].uuid

    def uuids(self) -> Iterable[bytes]:
        """Return the pages that there are entries of."""
        return self._by_uuid.keys()


def _forget(table: dict[_Key, set[int]], key: _Key, index: int) -> None:
    table[key].discard(index)
    if not table[key]:
        del table[key]


class Session:
    """A living process and its entries.

    Attributes
    ----------
    pid, pid_namespace : int
        The process.
    token : bytes
        Tells it from another process that had the same pid.
    label : str
        What lists call it.
    started : float
        When the session began, in seconds since 1970.
    table : Table
        Its entries.
    """

    def __init__(
        self, pid: int, pid_namespace: int, token: bytes, label: str, started: float
    ) -> None:
        self.pid = pid
        self.pid_namespace = pid_namespace
        self.token = token
        self.label = label
        self.started = started
        self.table = Table()


class _Reader(Session):
    """The session of another process, as read from its file."""

    def __init__(self, fd: int, *who: Any) -> None:
        super().__init__(*who)
        self._fd = fd
        self._generation = -1

    @classmethod
    def open(cls, path: Path) -> _Reader | None:
        """Open a living session; None when it is dead (and now removed) or not one of ours."""
        try:
            # Nonblocking, so that a pipe of that name cannot stop us.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in RUN_OUT:
                raise  # it may well live, and must not be missing from a list
            return None
        if not is_locked(fd):
            _sweep(fd, path)
        elif (who := cls.who(os.pread(fd, HEADER_BYTES, 0))) is not None:
            return cls(fd, *who)
        os.close(fd)
        return None

    @staticmethod
    def who(header: bytes) -> tuple[int, int, bytes, str, float] | None:
        """Read what a header says of its process; None when it is not one of this version."""
        if len(header) < HEADER_BYTES:
            return None
        magic, version, slot_bytes, pid, namespace, started, token, label = WHO.unpack_from(header)
        if (magic, version, slot_bytes) != (MAGIC, VERSION, SLOT_BYTES):
            return None
        return pid, namespace, token, label.rstrip(b"\0").decode(errors="replace"), started

    def close(self) -> None:
        os.close(self._fd)

    def lives(self, path: Path) -> bool:
        """Say whether the process lives; remove the file of a dead one."""
        alive = is_locked(self._fd)
        if not alive:
            _sweep(self._fd, path)
        return alive

    def forget(self) -> None:
        """Read everything at the next refresh."""
        self.table = Table()
        self._generation = -1

    def refresh(self) -> None:
        """Bring the table up to date (steps 3 and 4)."""
        generation, count, ring = self._state()
        if generation == self._generation:
            return
        behind = generation - self._generation
        if self._generation < 0 or behind > RING or behind < 0:
            self._read_all(count)
        else:
            for g in range(self._generation + 1, generation + 1):
                self._read_one(ring[g % RING])
        self._generation = generation

    def _state(self) -> tuple[int, int, tuple[int, ...]]:
        for _ in range(_TRIES):
            header = os.pread(self._fd, HEADER_BYTES, 0)
            state = header[STATE_OFFSET : STATE_OFFSET + STATE.size]
            (checksum,) = CRC.unpack_from(header, STATE_OFFSET + STATE.size)
            if checksum == zlib.crc32(state):
                who = self.who(header)
                if who is not None:
                    self.label = who[3]
                generation, count, *ring = STATE.unpack(state)
                return generation, count, tuple(ring)
            time.sleep(0)
        return self._generation, 0, (0,) * RING  # damaged: keep what was known

    def _read_all(self, count: int) -> None:
        room = os.fstat(self._fd).st_size - HEADER_BYTES  # a damaged count may be any number
        image = os.pread(self._fd, max(0, min(count * SLOT_BYTES, room)), HEADER_BYTES)
        for index in range(len(image) // SLOT_BYTES):
            try:
                entry = unpack(image[index * SLOT_BYTES : (index + 1) * SLOT_BYTES])
            except TornSlot:
                self._read_one(index)
            else:
                self.table.put(index, entry)

    def _read_one(self, index: int) -> None:
        for _ in range(_TRIES):
            slot = os.pread(self._fd, SLOT_BYTES, HEADER_BYTES + index * SLOT_BYTES)
            with contextlib.suppress(TornSlot, struct.error):
                self.table.put(index, unpack(slot))
                return
            time.sleep(0)
        self.table.put(index, None)  # damaged by another hand: it names no page


def _sweep(fd: int, path: Path) -> None:
    # A file without a name was swept already, and its name may be a living session's again.
    if os.fstat(fd).st_nlink:
        with contextlib.suppress(OSError):  # it may be a pipe, a directory, anything
            for entry in _last_entries(fd):
                if entry.backend == "file":
                    reclaim(entry.place, entry.uuid)
        token = path.name.removesuffix(SUFFIX).rpartition("-")[2]
        with contextlib.suppress(ValueError):
            remove_leftovers(path.parent, bytes.fromhex(token))
        with contextlib.suppress(OSError):
            path.unlink()


class Seen(NamedTuple):
    """A living session, as far as a process of any version can read it."""

    pid: int
    label: str
    pid_namespace: int
    same_version: bool


def survey(directory: Path, mine: Path) -> list[Seen]:
    """Return the living sessions in a directory, of whatever version, but not this process's.

    Closing one's own session file would drop its lock, so it is not opened.
    """
    found = []
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        if path == mine:
            continue
        with contextlib.suppress(OSError, ValueError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if is_locked(fd):
                    who = _Reader.who(os.pread(fd, HEADER_BYTES, 0))
                    if who is not None:
                        found.append(Seen(who[0], who[3], who[1], same_version=True))
                    else:  # of the file's name every version begins with the pid
                        pid = int(path.name.partition("-")[0])
                        found.append(Seen(pid, "", 0, same_version=False))
            finally:
                os.close(fd)
    return found


def _last_entries(fd: int) -> Iterator[Entry]:
    """Yield what a dead session listed, as far as it can be read."""
    if _Reader.who(os.pread(fd, HEADER_BYTES, 0)) is not None:
        slots = os.pread(fd, os.fstat(fd).st_size - HEADER_BYTES, HEADER_BYTES)
        for at in range(0, len(slots) - SLOT_BYTES + 1, SLOT_BYTES):
            with contextlib.suppress(TornSlot):
                if (entry := unpack(slots[at : at + SLOT_BYTES])) is not None:
                    yield entry


class Ledger:
    """This process's entries, and the union of all.

    Parameters
    ----------
    file : SessionFile
        This process's session file.
    foreign : bool
        Whether a session of another pid namespace was seen already.

    Attributes
    ----------
    reach : Reach
        How other sessions reach the blocks of this one.
    """

    def __init__(self, file: SessionFile, *, foreign: bool = False) -> None:
        self.file = file
        self.mine = Session(file.pid, file.pid_namespace, file.token, file.label, file.started)
        self._others: dict[str, _Reader] = {}
        self.reach = Reach(file.directory, file.token, foreign=foreign)
        self.reach.look()

    def publish(self, entry: Entry) -> int:
        """List a handle of this process; returns its slot. A crash before leaves no trace."""
        index = self.file.put(entry.pack())
        self.mine.table.put(index, entry)
        return index

    def withdraw(self, index: int, entry: Entry) -> None:
        """Take a handle of this process off the list, unless its slot is another's by now."""
        if self.mine.table.slots.get(index) is entry:
            self.file.clear(index)
            self.mine.table.put(index, None)

    def rewrite(self, entries: dict[int, Entry]) -> None:
        """List exactly these handles, by slot, and read everybody else's anew.

        An interrupt or a failure may have left file and tables in any state.
        """
        self.mine.table = Table()
        for index, entry in entries.items():
            self.mine.table.put(index, entry)
        for other in self._others.values():
            other.forget()
        self.file.rewrite({index: entry.pack() for index, entry in entries.items()})

    def address(self, session: Session, entry: Entry) -> Address:
        """Return where the block of an entry is reached through the session that lists it."""
        who = (session.pid, session.pid_namespace, entry.fd, session.token)
        # Seen from here: another session may know the runtime directory by another path.
        place = entry.place or str(self.file.directory)
        return Address(entry.uuid, *who, entry.backend, place)

    def sessions(self) -> Iterator[Session]:
        """Yield every living session, this process's first, up to date."""
        self.mine.label = self.file.label
        yield self.mine
        yield from self._living()

    def look(self) -> None:
        """Remove what the dead left, and let the living of other pid namespaces in."""
        self._living()

    def _living(self) -> list[_Reader]:
        mine = self.file.path.name
        try:
            all_names = set(os.listdir(self.file.directory))
        except FileNotFoundError:
            all_names = set()
        names = {name for name in all_names if name.endswith(SUFFIX)} - {mine}
        for name in all_names - names:
            if name.endswith(HIDDEN_SUFFIX):
                sweep_hidden(self.file.directory / name)
        for gone in self._others.keys() - names:  # step 1
            self._others.pop(gone).close()
        for name, other in list(self._others.items()):
            if not other.lives(self.file.directory / name):  # step 2
                self._others.pop(name).close()
        # After that, because a file that was put back is another file of the same name.
        for name in names - self._others.keys():
            if (reader := _Reader.open(self.file.directory / name)) is not None:
                self._others[name] = reader
                self.reach.foreign |= reader.pid_namespace != self.mine.pid_namespace
        for other in self._others.values():
            other.refresh()
        self.reach.look(all_names)
        return list(self._others.values())

    def close(self) -> None:
        """Close the files of other sessions, and let them come no more."""
        self.reach.end()
        self._forget_others()

    def abandon(self) -> None:
        """Close the parent's files in a forked child."""
        self.reach.abandon()
        self._forget_others()

    def _forget_others(self) -> None:
        for other in self._others.values():
            other.close()
        self._others.clear()
