"""Tables: what the slots of one session say, by slot, by name, by page and by directory."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Iterator, KeysView
from typing import TypeVar

from memshare_jupyter.core.ledger._slot import NAMES_AT, Entry, TornSlot, unpack
from memshare_jupyter.core.names import PageName

_Key = TypeVar("_Key", bound=Hashable)


class Table:
    """The slots of one session that are not empty.

    A slot is read only when somebody asks for what it says; most are never asked for.
    """

    def __init__(self) -> None:
        self.slots: dict[int, bytes] = {}
        self._entries: dict[int, Entry | None] = {}
        self._by_uuid: dict[bytes, set[int]] = {}
        self._files: set[int] = set()
        self._by_name: dict[bytes, set[int]] | None = None  # made when first asked for
        self._changed: set[bytes] | None = None

    def put(self, index: int, slot: bytes | None, entry: Entry | None = None) -> None:
        """Set or (None) empty a slot."""
        if index in self.slots:
            old = self.slots.pop(index)
            self._entries.pop(index, None)
            self._files.discard(index)
            _forget(self._by_uuid, old[10:26], index)
            if self._by_name is not None:
                _forget(self._by_name, _name_of(old), index)
            if self._changed is not None:
                self._changed.add(old[10:26])
        if slot is not None:
            uuid = slot[10:26]
            self.slots[index] = slot
            if entry is not None:
                self._entries[index] = entry
            if slot[6]:
                self._files.add(index)
            found = self._by_uuid.get(uuid)
            if found is None:
                self._by_uuid[uuid] = {index}
            else:
                found.add(index)
            if self._by_name is not None:
                self._by_name.setdefault(_name_of(slot), set()).add(index)
            if self._changed is not None:
                self._changed.add(uuid)

    def entry(self, index: int) -> Entry | None:
        """Return what a slot says; None when it says nothing."""
        if index in self._entries:
            return self._entries[index]
        slot = self.slots.get(index)
        try:
            entry = None if slot is None else unpack(slot)
        except TornSlot:
            entry = None
        self._entries[index] = entry
        return entry

    def named(self, name: PageName) -> list[Entry]:
        """Return the entries of that name."""
        found = self._names().get(_key_of(name))
        return self._read(found) if found else []

    def has_any(self, names: Iterable[PageName]) -> bool:
        """Say whether there is an entry of one of these names."""
        return not self._names().keys().isdisjoint(map(_key_of, names))

    def _names(self) -> dict[bytes, set[int]]:
        if self._by_name is None:
            self._by_name = {}
            for index, slot in self.slots.items():
                self._by_name.setdefault(_name_of(slot), set()).add(index)
        return self._by_name

    def of(self, uuid: bytes) -> list[Entry]:
        """Return the entries of that page."""
        return self._read(self._by_uuid.get(uuid, ()))

    def slots_of(self, uuids: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Yield the slots that list one of these pages, each with the page's uuid.

        If it is all, in the order in which they came: so lists of thousands are sorted almost.
        """
        by_uuid, slots = self._by_uuid, self.slots
        found = uuids & by_uuid.keys()
        for uuid in by_uuid if len(found) == len(by_uuid) else found:
            for index in by_uuid[uuid]:
                yield uuid, slots[index]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield directory and uuid of each page that is a file."""
        for entry in self._read(self._files):
            yield entry.place, entry.uuid

    def entries(self) -> Iterator[Entry]:
        """Yield all entries."""
        yield from self._read(self.slots)

    def uuids(self) -> KeysView[bytes]:
        """Return the pages that there are entries of."""
        return self._by_uuid.keys()

    def take_changed(self) -> set[bytes]:
        """Return the pages of which an entry came or went since the last call; all at the first."""
        changed = set(self._by_uuid) if self._changed is None else self._changed
        self._changed = set()
        return changed

    def _read(self, indexes: Iterable[int]) -> list[Entry]:
        return [entry for index in indexes if (entry := self.entry(index)) is not None]


@functools.lru_cache(maxsize=4096)
def _key_of(name: PageName) -> bytes:
    """Return a name as the key of a table, see `_name_of`."""
    namespace, variable = name.namespace.encode(), name.variable.encode()
    return bytes((len(namespace), len(variable))) + namespace + variable


def _name_of(slot: bytes) -> bytes:
    """Return a slot's namespace and variable, as the key of a table."""
    return slot[7:9] + slot[NAMES_AT : NAMES_AT + slot[7] + slot[8]]


def _forget(table: dict[_Key, set[int]], key: _Key, index: int) -> None:
    table[key].discard(index)
    if not table[key]:
        del table[key]
