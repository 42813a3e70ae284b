"""Linux backend: sealed memfds, reached through any process that has them open.

The way is ``/proc/<pid>/fd``, or the holder's socket (`_socket`) where that leads nowhere.

A memfd has no name in a file system, so nothing can be left behind: not by a crash, not by a
kill, and there is nothing to clean up. See memfd_create(2) and the F_ADD_SEALS part of fcntl(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import uuid as uuids
from typing import Final, Literal

from memshare_jupyter.core import _descriptors
from memshare_jupyter.core.blocks._ability import why_no_memfds
from memshare_jupyter.core.blocks._gone import SegmentGone

_PREFIX: Final = "memshare:"
_MFD_NOEXEC_SEAL: Final = 0x8  # Linux 6.3
_F_SEAL_FUTURE_WRITE: Final = 0x10  # Linux 5.1

_held: dict[int, MemfdSegment] = {}
"""The blocks that this process has open, by descriptor."""


class MemfdSegment:
    """A memfd that this process has open; see `segment.Segment`."""

    __slots__ = ("fd", "size_bytes", "uuid")

    backend: Literal["memfd"] = "memfd"
    place = ""

    def __init__(self, uuid: bytes, fd: int, size_bytes: int) -> None:
        self.uuid = uuid
        self.fd = fd
        self.size_bytes = size_bytes
        _descriptors.keep_spare(fd)
        _held[fd] = self

    def grow(self, size_bytes: int) -> None:
        """Make it larger, before it is sealed; what is added is zeros."""
        os.ftruncate(self.fd, size_bytes)
        self.size_bytes = size_bytes

    def seal(self, *, writable: bool) -> None:
        """Fix the size and, unless `writable`, let nobody write but through existing mappings."""
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        more = 0 if writable else _F_SEAL_FUTURE_WRITE
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals | more)

    def close(self) -> None:
        """Let go of it; once or more often."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _held.pop(fd, None)
            os.close(fd)


def available() -> bool:
    """Say whether this system has memfds, and a way to them."""
    return not why_no_memfds()


def memfd_name(uuid: bytes) -> str:
    """Return what ``/proc/<pid>/maps`` and ``/proc/<pid>/fd`` call the block."""
    return f"/memfd:{_PREFIX}{uuids.UUID(bytes=uuid).hex} (deleted)"


def create(uuid: bytes, size_bytes: int) -> MemfdSegment:
    """Make a block of zeros."""
    name = _PREFIX + uuids.UUID(bytes=uuid).hex
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create(name, flags)
    try:
        os.ftruncate(fd, size_bytes)
        return MemfdSegment(uuid, fd, size_bytes)
    except BaseException:
        os.close(fd)
        raise


def attach(uuid: bytes, pid: int | Literal["self"], fd: int, *, writable: bool) -> MemfdSegment:
    """Open the block that process `pid` knows as `fd`.

    Raises
    ------
    SegmentGone
        That process is dead or of another user, or its descriptor is closed or means something
        else by now.
    PermissionError
        `writable`, and the block is sealed against it.
    """
    return adopt(uuid, _open(uuid, pid, fd, writable=writable))


def adopt(uuid: bytes, fd: int) -> MemfdSegment:
    """Take over a descriptor of the block."""
    try:
        return MemfdSegment(uuid, fd, os.fstat(fd).st_size)
    except BaseException:
        os.close(fd)
        raise


def reopen_held(uuid: bytes, writable: bool) -> int:
    """Open a block that this process has open anew; a descriptor that can do what is asked for.

    Raises
    ------
    LookupError
        This process does not have it.
    PermissionError
        `writable`, and the block is sealed against it.
    """
    for fd in [fd for fd, held in list(_held.items()) if held.uuid == uuid]:
        try:
            return _open(uuid, "self", fd, writable=writable)
        except SegmentGone:
            continue  # let go of at this moment
    raise LookupError("this process does not have that block")


def is_block(uuid: bytes, fd: int) -> bool:
    """Say whether a descriptor of this process is the block."""
    return os.readlink(f"/proc/self/fd/{fd}") == memfd_name(uuid)


def _open(uuid: bytes, pid: int | Literal["self"], fd: int, *, writable: bool) -> int:
    try:
        # O_PATH looks at the link's target without opening it, so a descriptor that was reused
        # for a device, a pipe or somebody's file has no effect.
        handle = os.open(f"/proc/{pid}/fd/{fd}", os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
        raise SegmentGone(str(error)) from error
    try:
        link = f"/proc/self/fd/{handle}"
        if os.readlink(link) != memfd_name(uuid):
            raise SegmentGone(f"descriptor {fd} of process {pid} is something else by now")
        opened = os.open(link, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    finally:
        os.close(handle)
    if writable and fcntl.fcntl(opened, fcntl.F_GET_SEALS) & _F_SEAL_FUTURE_WRITE:
        os.close(opened)
        raise PermissionError(errno.EACCES, "the block is sealed against writing")
    return opened
