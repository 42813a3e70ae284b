"""Locks on files, of three kinds, none of which waits.

===========  ===========================  ========================================================
kind         belongs to                   the kernel drops it
===========  ===========================  ========================================================
record lock  the process; forked          at its death, and when it closes any descriptor of the
             children do not inherit it   file
flock(2)     the open file, which forked  with the last copy of the descriptor, and when the other
             children share               kind of flock is asked for in vain
OFD lock     the open file, too           with the last copy of the descriptor
===========  ===========================  ========================================================

Linux alone has OFD locks, of fcntl(2); the others are on every POSIX system.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from typing import Final

if sys.platform == "linux":
    _FLOCK: Final = struct.Struct("@hhqqi4x")
    """struct flock on 64 bits: type, whence, start, length, pid"""
    _FIELDS: Final = (0, 1, 2, 3, 4)
else:  # macOS and the BSDs
    _FLOCK: Final = struct.Struct("@qqihh")
    """struct flock: start, length, pid, type, whence"""
    _FIELDS: Final = (3, 4, 0, 1, 2)

_OFD_BYTE: Final = 1 << 62  # behind all bytes that anybody locks


def try_lock(fd: int, byte: int = 0) -> bool:
    """Lock a byte of an open file, unless another process has it locked."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True


def try_flock(fd: int, kind: int) -> bool:
    """Take a lock of that kind on an open file, unless another open file has one against it."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_ofd_lock(fd: int, kind: int) -> bool:
    """Take or give up an OFD lock on an open file, unless another has one against it.

    `kind` is ``fcntl.F_RDLCK``, for which the file must be open for reading, ``F_WRLCK``, for
    writing, or ``F_UNLCK``. After False there is what there was before.

    Raises
    ------
    OSError
        The file system has no such locks, or the system.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):
        raise OSError(errno.ENOTSUP, "this system has no OFD locks")
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _packed(kind, _OFD_BYTE))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True


def is_locked(fd: int, byte: int = 0) -> bool:
    """Say whether another process holds a lock on a byte of an open file."""
    return _query(fd, byte)[0] != fcntl.F_UNLCK


def holder(fd: int, byte: int) -> int:
    """Return the pid of the process that has a byte locked."""
    return _query(fd, byte)[1]


def _query(fd: int, byte: int) -> tuple[int, int]:
    answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, _packed(fcntl.F_WRLCK, byte)))
    return answer[_FIELDS[0]], answer[_FIELDS[4]]


def _packed(kind: int, byte: int) -> bytes:
    values = (kind, os.SEEK_SET, byte, 1, 0)
    return _FLOCK.pack(*(values[_FIELDS.index(i)] for i in range(5)))
