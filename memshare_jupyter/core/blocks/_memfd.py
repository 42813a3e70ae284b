"""Linux backend: sealed memfds, reached through any process that has them open.

The way is ``/proc/<pid>/fd``, or the holder's socket (`_handover`) where that leads nowhere.

A memfd has no name in a file system, so nothing can be left behind: not by a crash, not by a
kill, and there is nothing to clean up. See memfd_create(2) and the F_ADD_SEALS part of fcntl(2).

Whoever attaches one keeps a shared flock(2) on the open file that is theirs. The kernel drops it
with the last copy of that descriptor, in whatever process a fork took it to; so an owner that
gets the exclusive one knows that nobody else has the memory, whatever any list says.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import Final, Literal

from memshare_jupyter.core._locks import try_flock
from memshare_jupyter.core._opened import Opened, known
from memshare_jupyter.core.blocks._ability import F_SEAL_FUTURE_WRITE, why_no_memfds
from memshare_jupyter.core.blocks._gone import BlockBusy, SegmentGone

_PREFIX: Final = "memshare:"
_MFD_NOEXEC_SEAL: Final = 0x8  # Linux 6.3


class MemfdBlock(Opened):
    """A memfd that this process has open; see `_block.Segment`."""

    __slots__ = ("ours", "size_bytes", "uuid")

    backend: Literal["memfd"] = "memfd"
    place = ""

    def __init__(self, uuid: bytes) -> None:
        super().__init__()
        self.uuid = uuid
        self.size_bytes = 0
        self.ours = False

    def grow(self, size_bytes: int) -> None:
        """Make it larger, before it is sealed; what is added is zeros."""
        os.ftruncate(self.fd, size_bytes)
        self.size_bytes = size_bytes

    def seal(self, *, writable: bool) -> None:
        """Fix the size and, unless `writable`, let nobody write but through existing mappings."""
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        more = 0 if writable else F_SEAL_FUTURE_WRITE
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals | more)

    def try_alone(self) -> bool:
        """Keep everybody from attaching it, if nobody else has it; the block's maker only."""
        return try_flock(self.fd, fcntl.LOCK_EX)

    def share(self) -> None:
        """Let others attach it again."""
        if self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)


def available() -> bool:
    """Say whether this system has memfds, and a way to them."""
    return not why_no_memfds()


def memfd_name(uuid: bytes) -> str:
    """Return what ``/proc/<pid>/maps`` and ``/proc/<pid>/fd`` call the block."""
    return f"/memfd:{_PREFIX}{uuid.hex()} (deleted)"


def create(uuid: bytes, size_bytes: int) -> MemfdBlock:
    """Make a block of zeros."""
    block = MemfdBlock(uuid)
    name = _PREFIX + uuid.hex()
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        block.open(os.memfd_create, name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        block.open(os.memfd_create, name, flags)
    try:
        if size_bytes:
            block.grow(size_bytes)
    except BaseException:
        block.close()
        raise
    block.ours = True
    return block


def attach(uuid: bytes, pid: int | Literal["self"], fd: int, *, writable: bool) -> MemfdBlock:
    """Open the block that process `pid` knows as `fd`.

    Raises
    ------
    SegmentGone
        That process is dead or of another user, or its descriptor is closed or means something
        else by now.
    BlockBusy
        Its owner is writing another value into it.
    PermissionError
        `writable`, and the block is sealed against it.
    """
    block = MemfdBlock(uuid)
    try:
        _open_link(block, uuid, pid, fd, writable=writable)
        return _hold(block)
    except BaseException:
        block.close()
        raise


def adopt(uuid: bytes, fd: int) -> MemfdBlock:
    """Take over a descriptor of the block that another process sent."""
    block = MemfdBlock(uuid)
    block.open(int, fd)
    try:
        return _hold(block)
    except BaseException:
        block.close()
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
    for held in known():
        if isinstance(held, MemfdBlock) and held.uuid == uuid and held.fd >= 0:
            copy = Opened()
            try:
                _open_link(copy, uuid, "self", held.fd, writable=writable)
                return os.dup(copy.fd)
            except SegmentGone:
                continue  # let go of at this moment
            finally:
                copy.close()
    raise LookupError("this process does not have that block")


def close_all(uuid: bytes) -> None:
    """Close every descriptor of the block that this process has, whoever keeps it."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if is_block(uuid, fd):
                os.close(fd)


def is_block(uuid: bytes, fd: int) -> bool:
    """Say whether a descriptor of this process is the block."""
    return os.readlink(f"/proc/self/fd/{fd}") == memfd_name(uuid)


def _hold(block: MemfdBlock) -> MemfdBlock:
    if not try_flock(block.fd, fcntl.LOCK_SH):
        raise BlockBusy("its owner is writing another value into it")
    found = os.fstat(block.fd)
    block.size_bytes, block.ours = found.st_size, found.st_uid == os.geteuid()
    return block


def _open_link(
    opened: Opened, uuid: bytes, pid: int | Literal["self"], fd: int, *, writable: bool
) -> None:
    link = Opened()
    try:
        # O_PATH looks at the link's target without opening it, so a descriptor that was reused
        # for a device, a pipe or somebody's file has no effect.
        try:
            link.open(os.open, f"/proc/{pid}/fd/{fd}", os.O_PATH | os.O_CLOEXEC)
            there = f"/proc/self/fd/{link.fd}"
            found = os.readlink(there)
        except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
            raise SegmentGone(str(error)) from error
        if found != memfd_name(uuid):
            raise SegmentGone(f"descriptor {fd} of process {pid} is something else by now")
        opened.open(os.open, there, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    finally:
        link.close()
    if writable and fcntl.fcntl(opened.fd, fcntl.F_GET_SEALS) & F_SEAL_FUTURE_WRITE:
        opened.close()
        raise PermissionError(errno.EACCES, "the block is sealed against writing")
