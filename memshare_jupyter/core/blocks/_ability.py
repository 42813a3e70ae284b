"""Whether this system lets us have memfds as we need them: tried once, not guessed.

A kernel may be too old for a seal, a container's filter of system calls may deny the call or
pretend that there is none, and without ``/proc`` nobody could reach a memfd.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import Final

F_SEAL_FUTURE_WRITE: Final = 0x10  # Linux 5.1
_FOR_GOOD: Final = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.ENOENT)
"""What will be the same the next time; a lack of memory or of descriptors will not."""

_known: list[str] = []


def why_no_memfds() -> str:
    """Say why there can be no memfds here; empty when there can."""
    if not _known:
        try:
            found = _try()
        except OSError as error:
            if error.errno not in _FOR_GOOD:
                return ""  # then the page that is to be made says what is wrong
            found = f"the system refuses them ({error.strerror})"
        _known.append(found)
    return _known[0]


def _try() -> str:
    if not hasattr(os, "memfd_create") or not hasattr(fcntl, "F_ADD_SEALS"):
        return "this system has none"
    fd = os.memfd_create("memshare:probe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
        if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & F_SEAL_FUTURE_WRITE:
            return "this kernel cannot seal them against writing (Linux before 5.1)"
        try:
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return "there is no /proc of this process, through which others reach them"
        return ""
    finally:
        os.close(fd)
