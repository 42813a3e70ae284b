"""Linux backend: sealed memfds, reached through ``/proc/<pid>/fd`` of any process that has one.

A memfd has no name in a file system, so nothing can be left behind: not by a crash, not by a
kill, and there is nothing to clean up. See memfd_create(2) and the F_ADD_SEALS part of fcntl(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import uuid as uuids
from typing import Final, Literal

_PREFIX: Final = "memshare:"
_MFD_NOEXEC_SEAL: Final = 0x8  # Linux 6.3
_F_SEAL_FUTURE_WRITE: Final = 0x10  # Linux 5.1
_SPARE_FDS: Final = 64


class SegmentGone(Exception):  # noqa: N818 -- a state the caller handles, not an error
    """The process named no longer has that block."""


class MemfdSegment:
    """A memfd that this process has open; see `segment.Segment`."""

    __slots__ = ("fd", "size_bytes", "uuid")

    backend: Literal["memfd"] = "memfd"
    place = ""

    def __init__(self, uuid: bytes, fd: int, size_bytes: int) -> None:
        self.uuid = uuid
        self.fd = fd
        self.size_bytes = size_bytes
        _keep_fds_spare(fd)

    def seal(self, *, writable: bool) -> None:
        """Fix the size and, unless `writable`, let nobody write but through existing mappings."""
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        more = 0 if writable else _F_SEAL_FUTURE_WRITE
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals | more)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


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


def attach(uuid: bytes, pid: int, fd: int, *, writable: bool) -> MemfdSegment:
    """Open the block that process `pid` knows as `fd`.

    Raises
    ------
    SegmentGone
        That process is dead or of another user, or its descriptor is closed or means something
        else by now.
    """
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
    try:
        return MemfdSegment(uuid, opened, os.fstat(opened).st_size)
    except BaseException:
        os.close(opened)
        raise


def _keep_fds_spare(fd: int) -> None:
    """Raise the soft limit of open files when `fd` comes close to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and fd > soft - _SPARE_FDS:
        most = 2 * soft if hard == resource.RLIM_INFINITY else min(hard, 2 * soft)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
