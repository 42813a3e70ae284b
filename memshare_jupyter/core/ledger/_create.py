"""Making a file that is complete and locked before anybody sees it.

Linux can make a file without a name and give it one later:

1. create a file that has no name (``O_TMPFILE``) and fill it;
2. lock it;
3. link it into the directory.

Elsewhere, and on file systems that cannot do that, it has a hidden name for a moment:

1. create it under its hidden name and fill it;
2. lock it;
3. rename it.

A visible file without a lock is therefore always a dead process's. So is a hidden one, or its
process has come no further than step 1: whoever removes it makes that process begin again.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from memshare_jupyter.core._locks import is_locked, try_lock
from memshare_jupyter.core._opened import Opened

HIDDEN_SUFFIX: Final = ".new"
_OPEN: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_UNNAMED: Final = (
    *(errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL),
    *(errno.EPERM, errno.EACCES, errno.ENOSYS),
)
"""What open(2) says of O_TMPFILE when the file system, or the kernel, does not know it; and what
link(2) says where it is denied."""


def create_locked(opened: Opened, path: Path, image: bytes) -> None:
    """Create a file with the given contents and a lock on byte 0; `opened` has its descriptor.

    Raises
    ------
    FileNotFoundError
        The directory is gone, or a hidden file was swept: begin again.
    OSError
        There is no room for it. Nothing is left of it.
    """
    if hasattr(os, "O_TMPFILE") and os.path.exists("/proc/self/fd"):
        try:
            _create_unnamed(opened, path, image)
        except OSError as error:
            opened.close()
            if error.errno not in _NO_UNNAMED:
                raise
        else:
            return
    _create_hidden(opened, path, image)


def sweep_hidden(path: Path) -> None:
    """Remove a hidden file that nobody has locked."""
    opened = Opened()
    with contextlib.suppress(OSError):
        if not is_locked(opened.open(os.open, path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)):
            path.unlink()
    opened.close()


def _create_unnamed(opened: Opened, path: Path, image: bytes) -> None:
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    fd = opened.open(os.open, path.parent, flags, 0o600)  # step 1
    os.fchmod(fd, 0o600)  # whatever the umask took away
    _write(fd, image)
    try_lock(fd)  # step 2
    # With a descriptor, which an absolute path makes meaningless, Python calls linkat(2), which can
    # follow the link.
    os.link(f"/proc/self/fd/{fd}", path.absolute(), dst_dir_fd=fd)  # step 3


def _create_hidden(opened: Opened, path: Path, image: bytes) -> None:
    hidden = path.with_name(f".{path.name}{HIDDEN_SUFFIX}")
    try:
        fd = opened.open(os.open, hidden, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)  # step 1
        os.fchmod(fd, 0o600)
        _write(fd, image)
        try_lock(fd)  # step 2
        hidden.rename(path)  # step 3
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            hidden.unlink()
        opened.close()
        raise


def _write(fd: int, image: bytes) -> None:
    done = 0
    while done < len(image):
        done += os.pwrite(fd, image[done:], done)
