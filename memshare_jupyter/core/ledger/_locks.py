"""Record locks, and who holds one: the part of fcntl(2) that differs between systems.

POSIX record locks belong to the process. The kernel drops them at its death, and when it closes
any descriptor of the file; forked children do not inherit them.
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


def try_lock(fd: int, byte: int = 0) -> bool:
    """Lock a byte of an open file, unless another process has it locked."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True


def is_locked(fd: int) -> bool:
    """Say whether another process holds a lock on byte 0 of an open file."""
    return _query(fd, 0)[0] != fcntl.F_UNLCK


def holder(fd: int, byte: int) -> int:
    """Return the pid of the process that has a byte locked."""
    return _query(fd, byte)[1]


def _query(fd: int, byte: int) -> tuple[int, int]:
    values = (fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    asked = _FLOCK.pack(*(values[_FIELDS.index(i)] for i in range(5)))
    answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return answer[_FIELDS[0]], answer[_FIELDS[4]]
