"""What a slot of a session file says: one handle, one process's claim on one page."""

from __future__ import annotations

import os
import struct
import zlib
from typing import Final, NamedTuple, get_args

from memshare_jupyter.core.blocks._block import Backend
from memshare_jupyter.core.ledger._session import CRC, SLOT_BYTES
from memshare_jupyter.core.names import PageName
from memshare_jupyter.errors import InvalidNameError

PAGE: Final = 1
VIEW: Final = 2
_SLOT: Final = struct.Struct("<IBBBBBB16siIQdd16sB")
"""checksum, kind, writable, backend, length of namespace, of variable and of place, uuid,
descriptor number, pid of the page's owner, bytes, page's and handle's time of birth, token of the
owner, length of summary"""
_BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)
_SUMMARY_BYTES: Final = 168
_LEAST_SUMMARY_BYTES: Final = 64


class Entry(NamedTuple):
    """One handle: one process's claim on one page."""

    kind: int
    name: PageName
    uuid: bytes
    fd: int
    size_bytes: int
    writable: bool
    created: float
    since: float
    owner_pid: int
    owner_token: bytes
    summary: bytes
    backend: Backend = "memfd"
    place: str = ""

    def pack(self) -> bytes:
        """Return the entry as the bytes of a slot."""
        namespace, variable = self.name.namespace.encode(), self.name.variable.encode()
        place = os.fsencode(self.place)
        body = _SLOT.pack(
            *(0, self.kind, self.writable, _BACKENDS.index(self.backend)),
            *(len(namespace), len(variable), len(place), self.uuid, self.fd, self.owner_pid),
            *(self.size_bytes, self.created, self.since, self.owner_token, len(self.summary)),
        )
        slot = b"".join((body, namespace, variable, place, self.summary)).ljust(SLOT_BYTES, b"\0")
        return CRC.pack(zlib.crc32(slot[4:])) + slot[4:]


class TornSlot(Exception):  # noqa: N818 -- a state the reader handles, not an error
    """The slot is being written."""


def unpack(slot: bytes) -> Entry | None:
    """Read a slot; None when it is empty, `TornSlot` when its checksum is wrong."""
    head = _SLOT.unpack_from(slot)
    checksum, kind, writable, backend, n, v, p, uuid = head[:8]
    fd, owner_pid, size_bytes, created, since, token, s = head[8:]
    if not checksum and not kind:
        return None
    if checksum != zlib.crc32(slot[4:]):
        raise TornSlot
    v_at = _SLOT.size + n
    p_at = v_at + v
    s_at = p_at + p
    try:
        name = PageName(slot[_SLOT.size : v_at].decode(), slot[v_at:p_at].decode())
        place = os.fsdecode(slot[p_at:s_at]) if p else ""
        made_of = _BACKENDS[backend]
    except (UnicodeDecodeError, IndexError):
        raise TornSlot from None
    # By position: keywords would double what a list of thousands costs.
    return Entry(
        *(kind, name, uuid, fd, size_bytes, bool(writable), created, since, owner_pid, token),
        *(slot[s_at : s_at + s], made_of, place),
    )


def summary_room(name: PageName, place: str = "") -> int:
    """Return how many bytes of summary fit into a slot with that name and place.

    Raises
    ------
    InvalidNameError
        Too few; the directory is what has to be shorter.
    """
    taken = len(name.namespace.encode()) + len(name.variable.encode())
    most = min(SLOT_BYTES - _SLOT.size - taken - _LEAST_SUMMARY_BYTES, 255)
    if (length := len(os.fsencode(place))) > most:
        raise InvalidNameError(
            f"cannot register {name}: with that name its directory may be {most} bytes long, and "
            f"{place} has {length}; use a shorter path",
            name=str(name),
            directory=place,
        )
    return min(SLOT_BYTES - _SLOT.size - taken - length, _SUMMARY_BYTES)
