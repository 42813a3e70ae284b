"""File backend: blocks as files in a directory, on tmpfs or on disk, on any POSIX system.

A file does not go with its processes, so each holder keeps a shared flock(2) on it, and whoever
finds that nobody has one removes it. To make a block:

1. create the file; 2. take the shared lock; 3. see that no sweeper was quicker; 4. allocate.

To attach one:

1. open the file; 2. take the shared locks; 3. see that it was not removed in between.

To let go of one, after it was unmapped:

1. ask for the exclusive lock, which gives up the shared one; 2. whoever gets it removes the file.

A kill between any two steps drops the locks, and leaves a file that a sweep removes.

flock and not a record lock: that one would go with any close of the file in the process, and a
process may hold the same page as its owner and as a viewer. An flock belongs to the open file,
though, which a forked child shares with its parent: see `_forked`.

Who attaches it has a second lock, an OFD lock for reading, and the owner asks for that for writing
to know whether it is alone. Were it to ask for the exclusive flock, it would have none for a moment
when that is refused; a viewer that lets go then is the last holder and removes the owner's file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import uuid as uuids
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from memshare_jupyter.core._locks import try_flock, try_ofd_lock
from memshare_jupyter.core._opened import Opened
from memshare_jupyter.core.blocks._gone import BlockBusy, SegmentGone
from memshare_jupyter.core.blocks._places import make_page_directory, remove_if_default
from memshare_jupyter.errors import RegistryCorruptError

SUFFIX: Final = ".page"
# NONBLOCK, because opening somebody's named pipe would wait for its other end.
_OPEN: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NO_ALLOCATION: Final = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_ZEROS: Final = bytes(1 << 20)
_TRIES: Final = 100


class FileBlock(Opened):
    """A file that this process has open and locked; see `_block.Segment`."""

    __slots__ = ("locked", "place", "size_bytes", "uuid")

    backend: Literal["file"] = "file"
    ours = True  # or it is not attached

    def __init__(self, uuid: bytes, place: str) -> None:
        super().__init__()
        self.uuid = uuid
        self.place = place
        self.size_bytes = 0
        self.locked = True  # False after a fork, when the lock is the parent's

    def grow(self, size_bytes: int) -> None:
        """Make it larger, before it is sealed; what is added is zeros."""
        os.ftruncate(self.fd, size_bytes)
        self.size_bytes = size_bytes

    def seal(self, *, writable: bool) -> None:
        """Let nobody open the file for writing, unless `writable`.

        That keeps honest processes from mistakes. Unlike a memfd's seals it does not bind this
        user: a process of theirs can change the mode back, shorten the file or remove it.
        """
        os.fchmod(self.fd, 0o600 if writable else 0o400)

    def try_alone(self) -> bool:
        """Keep everybody from attaching it, if nobody else has it; the block's maker only."""
        try:
            return try_ofd_lock(self.fd, fcntl.F_WRLCK)
        except OSError:
            return False  # nobody can tell

    def share(self) -> None:
        """Let others attach it again."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):  # there was none, then
                try_ofd_lock(self.fd, fcntl.F_UNLCK)

    def close(self) -> None:
        """Let go of it, once or more often; the last holder removes the file."""
        self.remove_if_last()
        super().close()

    def remove_if_last(self) -> None:
        """Give up the lock, and remove the file if nobody else has one; mappings stay valid."""
        if self.fd >= 0 and self.locked:
            _remove_if_last(self.fd, self.place, self.uuid)


def create(uuid: bytes, size_bytes: int, place: str) -> FileBlock:
    """Make a block of zeros that has its room on the file system for certain.

    Raises
    ------
    OSError
        The file system is full, or does not allow a file of that size.
    RegistryCorruptError
        The directory cannot be trusted, or its file system has no locks.
    """
    directory, path = Path(place), _path(place, uuid)
    for _ in range(_TRIES):
        make_page_directory(directory)
        block = FileBlock(uuid, place)
        try:
            fd = block.open(os.open, path, _OPEN | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)  # 1
        except FileNotFoundError:
            continue  # somebody's last page went just now, and the directory with it
        except FileExistsError:
            time.sleep(0.01)  # our own of the last try: whoever sweeps is about to remove it
            continue
        try:
            os.fchmod(fd, 0o600)  # whatever the umask took away
            if _locks(fd, place) and os.fstat(fd).st_nlink:  # steps 2 and 3
                _allocate(fd, size_bytes)  # step 4
                block.size_bytes = size_bytes
                return block
        except BaseException:
            path.unlink(missing_ok=True)
            block.close()
            raise
        block.close()
    raise OSError(errno.EBUSY, "somebody keeps removing new files", place)


def attach(uuid: bytes, place: str, *, writable: bool) -> FileBlock:
    """Open a block by its directory.

    Raises
    ------
    SegmentGone
        Nobody holds it any more.
    BlockBusy
        Its owner is writing another value into it, or it is about to be removed.
    PermissionError
        `writable`, and it was not registered so.
    """
    block = FileBlock(uuid, place)
    try:
        open_locked(block, uuid, place, os.O_RDWR if writable else os.O_RDONLY)
        found = os.fstat(block.fd)
        if writable and not found.st_mode & stat.S_IWUSR:  # open(2) lets root do it
            raise PermissionError(errno.EACCES, "the block is sealed against writing", place)
        block.size_bytes = found.st_size
    except BaseException:
        block.locked = False  # whoever has it goes on
        block.close()
        raise
    return block


def reclaim(place: str, uuid: bytes) -> None:
    """Remove the file of a block if nobody holds it."""
    opened = Opened()
    with contextlib.suppress(OSError, ValueError):
        fd = opened.open(os.open, _path(place, uuid), _OPEN | os.O_RDONLY)
        if _is_ours(os.fstat(fd)):
            _remove_if_last(fd, place, uuid)
    opened.close()


def _remove_if_last(fd: int, place: str, uuid: bytes) -> None:
    with contextlib.suppress(OSError):
        # Once more: of two who sweep, the other one may have been here before.
        if try_flock(fd, fcntl.LOCK_EX) and os.fstat(fd).st_nlink:  # step 1
            os.unlink(_path(place, uuid))  # step 2
            remove_if_default(Path(place))


def _path(place: str, uuid: bytes) -> Path:
    return Path(place, uuids.UUID(bytes=uuid).hex + SUFFIX)


def open_locked(opened: Opened, uuid: bytes, place: str, flags: int) -> None:
    """Open the file of a block, and take the locks of who attached it."""
    path = _path(place, uuid)
    try:
        fd = opened.open(os.open, path, _OPEN | flags)  # step 1
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SegmentGone(f"{path} was removed") from error
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise SegmentGone(f"{path} is a link") from error
    if not (try_flock(fd, fcntl.LOCK_SH) and _no_writer(fd)):  # step 2
        raise BlockBusy("its owner is writing another value into it, or it is being removed")
    if not _is_ours(os.fstat(fd)):  # step 3
        raise SegmentGone(f"{path} was removed")


def _no_writer(fd: int) -> bool:
    try:
        return try_ofd_lock(fd, fcntl.F_RDLCK)
    except OSError:
        return True  # nor can there be one


def _is_ours(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and found.st_nlink > 0


def _locks(fd: int, place: str) -> bool:
    try:
        return try_flock(fd, fcntl.LOCK_SH)
    except OSError as error:
        raise RegistryCorruptError(
            f"the file system of {place} has no locks ({error}), so nobody could tell when a page "
            "is no longer used; choose a directory on a local one",
            directory=place,
        ) from error


def _allocate(fd: int, size_bytes: int) -> None:
    """Take the room now: a file system that is full later would kill who touches the memory."""
    allocate: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
    if allocate is not None:
        try:
            allocate(fd, 0, size_bytes)
        except OSError as error:
            if error.errno not in _NO_ALLOCATION:
                raise
        else:
            return
    for offset in range(0, size_bytes, len(_ZEROS)):
        os.pwrite(fd, _ZEROS[: size_bytes - offset], offset)
