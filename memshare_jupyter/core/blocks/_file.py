"""File backend: blocks as files in a directory, on tmpfs or on disk, on any POSIX system.

A file does not go with its processes, so each holder keeps a shared flock(2) on it, and whoever
finds that nobody has one removes it. To make a block:

1. create the file; 2. take the shared lock; 3. see that no sweeper was quicker; 4. allocate.

To attach one:

1. open the file; 2. take the shared lock; 3. see that it was not removed in between.

To let go of one, after it was unmapped:

1. ask for the exclusive lock, which gives up the shared one; 2. whoever gets it removes the file.

A kill between any two steps drops the locks, and leaves a file that `sweep` removes.

flock and not a record lock: that one would go with any close of the file in the process, and a
process may hold the same page as its owner and as a viewer. An flock belongs to the open file,
though, which a forked child shares with its parent. So the parent opens its files anew before it
forks, and the child goes on with those.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import re
import stat
import uuid as uuids
from collections.abc import Callable, Container
from pathlib import Path
from typing import Final, Literal

from memshare_jupyter.core import _descriptors
from memshare_jupyter.core.blocks._gone import SegmentGone
from memshare_jupyter.core.blocks._places import make_page_directory, remove_if_default
from memshare_jupyter.errors import RegistryCorruptError

SUFFIX: Final = ".page"
_NAME: Final = re.compile(r"([0-9a-f]{32})\.page")
# NONBLOCK, because opening somebody's named pipe would wait for its other end.
_OPEN: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NO_ALLOCATION: Final = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_ZEROS: Final = bytes(1 << 20)
_TRIES: Final = 100

_held: dict[int, FileSegment] = {}
"""The blocks that this process has open, by descriptor."""
_for_child: Final[list[tuple[FileSegment, int]]] = []
"""While this process forks: its blocks, and descriptors of them that will be the child's."""


class FileSegment:
    """A file that this process has open and locked; see `segment.Segment`."""

    __slots__ = ("_locked", "fd", "place", "size_bytes", "uuid")

    backend: Literal["file"] = "file"

    def __init__(self, uuid: bytes, place: str, fd: int, size_bytes: int) -> None:
        self.uuid = uuid
        self.place = place
        self.fd = fd
        self.size_bytes = size_bytes
        self._locked = True
        _descriptors.keep_spare(fd)
        _held[fd] = self

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

    def close(self) -> None:
        """Let go of it, once or more often; the last holder removes the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _held.pop(fd, None)
            if self._locked:
                _remove_if_last(fd, self.place, self.uuid)
            os.close(fd)

    def remove_if_last(self) -> None:
        """Give up the lock, and remove the file if nobody else has one; mappings stay valid."""
        if self._locked:
            _remove_if_last(self.fd, self.place, self.uuid)

    def open_again(self) -> int:
        """Return a descriptor with a lock of its own; -1 when the file has no name any more."""
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
        for way in (flags, os.O_RDONLY):  # the owner's own way in may be sealed by now
            with contextlib.suppress(OSError, SegmentGone):
                return _open_locked(self.uuid, self.place, way)
        return -1

    def take_over(self, fd: int) -> None:
        """Hold the block by another open file, under the same descriptor number."""
        if fd < 0:
            # Without a name it needs no lock, and the lock on this descriptor is the parent's.
            self._locked = False
            return
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)


def create(uuid: bytes, size_bytes: int, place: str) -> FileSegment:
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
        try:
            fd = os.open(path, _OPEN | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)  # step 1
        except FileNotFoundError:
            continue  # somebody's last page went just now, and the directory with it
        try:
            if _locks(fd, place) and os.fstat(fd).st_nlink:  # steps 2 and 3
                _allocate(fd, size_bytes)  # step 4
                return FileSegment(uuid, place, fd, size_bytes)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        os.close(fd)
    raise OSError(errno.EBUSY, "somebody keeps removing new files", place)


def attach(uuid: bytes, place: str, *, writable: bool) -> FileSegment:
    """Open a block by its directory.

    Raises
    ------
    SegmentGone
        Nobody holds it any more.
    PermissionError
        `writable`, and it was not registered so.
    """
    fd = _open_locked(uuid, place, os.O_RDWR if writable else os.O_RDONLY)
    try:
        found = os.fstat(fd)
        if writable and not found.st_mode & stat.S_IWUSR:  # open(2) lets root do it
            raise PermissionError(errno.EACCES, "the block is sealed against writing", place)
        return FileSegment(uuid, place, fd, found.st_size)
    except BaseException:
        os.close(fd)
        raise


def sweep(place: str, listed: Container[bytes]) -> None:
    """Remove the files of blocks that all holders left by dying.

    Parameters
    ----------
    place : str
        The directory.
    listed : container of bytes
        Blocks that a living process lists: it would be no use to try.
    """
    try:
        with os.scandir(place) as found:
            names = [file.name for file in found]
    except (OSError, ValueError):  # ValueError: a damaged list may name anything
        return
    for name in names:
        if (match := _NAME.fullmatch(name)) and (uuid := bytes.fromhex(match[1])) not in listed:
            reclaim(place, uuid)


def reclaim(place: str, uuid: bytes) -> None:
    """Remove the file of a block if nobody holds it."""
    with contextlib.suppress(OSError, ValueError):
        fd = os.open(_path(place, uuid), _OPEN | os.O_RDONLY)
        try:
            if _is_ours(os.fstat(fd)):
                _remove_if_last(fd, place, uuid)
        finally:
            os.close(fd)


def _remove_if_last(fd: int, place: str, uuid: bytes) -> None:
    with contextlib.suppress(OSError):
        if _try_flock(fd, fcntl.LOCK_EX):  # step 1
            os.unlink(_path(place, uuid))  # step 2
            remove_if_default(Path(place))


def _path(place: str, uuid: bytes) -> Path:
    return Path(place, uuids.UUID(bytes=uuid).hex + SUFFIX)


def _open_locked(uuid: bytes, place: str, flags: int) -> int:
    path = _path(place, uuid)
    try:
        fd = os.open(path, _OPEN | flags)  # step 1
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SegmentGone(f"{path} was removed") from error
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise SegmentGone(f"{path} is a link") from error
    try:
        # step 2: only who is about to remove the file has it locked against us
        if not _try_flock(fd, fcntl.LOCK_SH) or not _is_ours(os.fstat(fd)):  # step 3
            raise SegmentGone(f"{path} was removed")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_ours(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and found.st_nlink > 0


def _try_flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locks(fd: int, place: str) -> bool:
    try:
        return _try_flock(fd, fcntl.LOCK_SH)
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


def _at_exit() -> None:
    # Arrays that live to the very end keep their mappings, but need the file no more.
    for held in list(_held.values()):
        held.remove_if_last()


def _before_fork() -> None:
    # Not in the child: the parent may let go before the child comes to it.
    _for_child.extend((held, held.open_again()) for held in list(_held.values()))


def _after_fork_in_parent() -> None:
    while _for_child:
        held, fd = _for_child.pop()
        if fd >= 0:
            if _held.get(held.fd) is not held:  # let go of meanwhile, when this lock was in the way
                _remove_if_last(fd, held.place, held.uuid)
            os.close(fd)


def _after_fork_in_child() -> None:
    ready = {id(held): fd for held, fd in _for_child}
    _for_child.clear()
    for held in list(_held.values()):
        fd = ready.pop(id(held), None)
        held.take_over(held.open_again() if fd is None else fd)
    for fd in ready.values():
        if fd >= 0:
            os.close(fd)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
