"""What a slot of a session file says: one handle, one process's claim on one page."""

from __future__ import annotations

import os
import struct
import zlib
from typing import Final, Literal, NamedTuple, get_args

from memshare_jupyter.core.names import PageName
from memshare_jupyter.errors import InvalidNameError

Backend = Literal["memfd", "file"]
SLOT_BYTES: Final = 512
EMPTY: Final = bytes(SLOT_BYTES)
PAGE: Final = 1
VIEW: Final = 2
KEPT: Final = 3
CRC: Final = struct.Struct("<I")
_SLOT: Final = struct.Struct("<IBBBBBB16siIQdd16sB")
"""checksum, kind, writable, backend, length of namespace, of variable and of directory, uuid,
descriptor number, pid of the page's owner, bytes, page's and handle's time of birth, token of the
owner, length of what lists show of the value"""
_read: Final = _SLOT.unpack_from
NAMES_AT: Final = _SLOT.size
_BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)
_ABOUT_BYTES: Final = 168
_LEAST_ABOUT_BYTES: Final = 64


class Entry(NamedTuple):
    """One handle: one process's claim on one page.

    Attributes
    ----------
    kind : int
        `PAGE` of the page's owner, `VIEW` of any other holder, `KEPT` of one that does not use
        it now and lets it go when its owner does.
    name : PageName
        The page's name.
    uuid : bytes
        The page's identity.
    fd : int
        What the holder knows the page's block as.
    size_bytes : int
        Bytes of data.
    writable : bool
        Whether viewers may write.
    created, since : float
        When the page was registered and when the handle began, in seconds since 1970.
    owner_pid, owner_token : int, bytes
        Who registered the page.
    about : bytes
        What lists show of the value.
    backend : {"memfd", "file"}
        What the block is.
    place : str
        The directory of a block that is a file; else empty.
    """

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
    about: bytes
    backend: Backend = "memfd"
    place: str = ""

    def pack(self) -> bytes:
        """Return the entry as the bytes of a slot."""
        namespace, variable = self.name.namespace.encode(), self.name.variable.encode()
        place = os.fsencode(self.place)
        body = _SLOT.pack(
            *(0, self.kind, self.writable, _BACKENDS.index(self.backend)),
            *(len(namespace), len(variable), len(place), self.uuid, self.fd, self.owner_pid),
            *(self.size_bytes, self.created, self.since, self.owner_token, len(self.about)),
        )
        slot = b"".join((body, namespace, variable, place, self.about)).ljust(SLOT_BYTES, b"\0")
        return CRC.pack(zlib.crc32(slot[4:])) + slot[4:]


_checksum_in: Final = CRC.unpack_from
_KIND_AT: Final = 4
_FD: Final = struct.Struct("<i")
_FD_AT: Final = 26
_SINCE: Final = struct.Struct("<d")
_SINCE_AT: Final = 50
handle_in = struct.Struct(f"<{_KIND_AT}xB{_SINCE_AT - _KIND_AT - 1}xd").unpack_from
"""Return kind and time of birth of the handle in a slot, without reading the rest."""


def as_view(slot: bytes, fd: int, since: float) -> bytes:
    """Return the slot of a view of the page that a slot lists; a third of the work of `pack`."""
    made = bytearray(slot)
    made[_KIND_AT] = VIEW
    _FD.pack_into(made, _FD_AT, fd)
    _SINCE.pack_into(made, _SINCE_AT, since)
    CRC.pack_into(made, 0, zlib.crc32(memoryview(made)[4:]))
    return bytes(made)


class TornSlot(Exception):  # noqa: N818 -- a state the reader handles, not an error
    """The slot is being written, or was damaged."""


def is_whole(slot: bytes) -> bool:
    """Say whether a slot's checksum is right, or the slot empty."""
    return _checksum_in(slot)[0] == zlib.crc32(slot[4:]) or slot == EMPTY


def unpack(slot: bytes) -> Entry:
    """Read a slot that `is_whole` and not empty.

    Raises
    ------
    TornSlot
        It says what no process of ours would write.
    """
    _, kind, writable, backend, n, v, p, uuid, fd, pid, size, created, since, token, a = _read(slot)
    v_at = NAMES_AT + n
    p_at = v_at + v
    a_at = p_at + p
    try:
        # By `tuple.__new__`: to call the classes would double what a list of thousands costs.
        name = _make(PageName, (slot[NAMES_AT:v_at].decode(), slot[v_at:p_at].decode()))
        place = os.fsdecode(slot[p_at:a_at]) if p else ""
        made_of = _BACKENDS[backend]
    except (UnicodeDecodeError, IndexError):
        raise TornSlot from None
    about, may_write = slot[a_at : a_at + a], bool(writable)
    fields = (kind, name, uuid, fd, size, may_write, created, since, pid, token, about)
    return _make(Entry, (*fields, made_of, place))


_make = tuple.__new__


def about_room(name: PageName, place: str = "") -> int:
    """Return how many bytes about its value fit into a slot with that name and directory.

    Raises
    ------
    InvalidNameError
        Too few; the directory is what has to be shorter.
    """
    taken = len(name.namespace.encode()) + len(name.variable.encode())
    most = min(SLOT_BYTES - _SLOT.size - taken - _LEAST_ABOUT_BYTES, 255)
    if (length := len(os.fsencode(place))) > most:
        raise InvalidNameError(
            f"cannot register {name}: with that name its directory may be {most} bytes long, and "
            f"{place} has {length}; use a shorter path",
            name=str(name),
            directory=place,
        )
    return min(SLOT_BYTES - _SLOT.size - taken - length, _ABOUT_BYTES)
