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
from typing import Final

_PREFIX: Final = "memshare:"
_MFD_NOEXEC_SEAL: Final = 0x8  # Linux 6.3
_F_SEAL_FUTURE_WRITE: Final = 0x10  # Linux 5.1
_SPARE_FDS: Final = 64


class SegmentGone(Exception):  # noqa: N818 -- a state the caller handles, not an error
    """The process named no longer has that block."""


def memfd_name(uuid: bytes) -> str:
    """Return what ``/proc/<pid>/maps`` and ``/proc/<pid>/fd`` call the block."""
    return f"/memfd:{_PREFIX}{uuids.UUID(bytes=uuid).hex} (deleted)"


def create(uuid: bytes, size_bytes: int) -> int:
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
    except BaseException:
        os.close(fd)
        raise
    _keep_fds_spare(fd)
    return fd


def seal(fd: int, *, writable: bool) -> None:
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals if writable else seals | _F_SEAL_FUTURE_WRITE)


def attach(uuid: bytes, pid: int, fd: int, *, writable: bool = False) -> int:
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
    _keep_fds_spare(opened)
    return opened


def _keep_fds_spare(fd: int) -> None:
    """Raise the soft limit of open files when `fd` comes close to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and fd > soft - _SPARE_FDS:
        most = 2 * soft if hard == resource.RLIM_INFINITY else min(hard, 2 * soft)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
