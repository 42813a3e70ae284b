"""The port to the operating system: create, fill, seal, attach and map one block of memory.

A block is a `Segment` in the process that has it open. A backend, one module each, makes them:

=========  ===============  =======================================================================
backend    module           another process reaches the block
=========  ===============  =======================================================================
``memfd``  ``_memfd``       through ``/proc`` of any process that has it open, or over its socket
``file``   ``_file``        by its directory
=========  ===============  =======================================================================

A memfd is the better one: nothing of it can be left behind, and its seals bind everybody. A file
can lie on a disk and so be larger than memory, and works on every POSIX system.

Everything above this module handles blocks as segments and by their mappings only.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol, get_args

from memshare_jupyter.core import _proc
from memshare_jupyter.core.blocks import (
    _file,
    _forked,  # noqa: F401 -- for what it does at a fork
    _memfd,
    _reach,
)
from memshare_jupyter.core.blocks._ability import why_no_memfds
from memshare_jupyter.core.blocks._gone import BlockBusy, SegmentGone
from memshare_jupyter.core.blocks._places import VARIABLE, page_directory

Backend = Literal["memfd", "file"]
Mode = Literal["r", "r+", "c"]
"""Of a mapping, as in `numpy.memmap`: read only, read and write, private copy on write."""
reclaim: Final = _file.reclaim


class Segment(Protocol):
    """A block of shared memory as one process has it open.

    The memory is free when the last process that has the block open or mapped lets it go or
    dies, in whatever way.
    """

    @property
    def uuid(self) -> bytes:
        """Its identity, which attachers check: reused pids, descriptors and names do no harm."""

    @property
    def fd(self) -> int:
        """Its descriptor, which the segment owns."""

    @property
    def size_bytes(self) -> int:
        """How large it was made, or was when it was attached."""

    @property
    def ours(self) -> bool:
        """Whether the kernel says that this user made it; what it says of itself proves nothing."""

    @property
    def backend(self) -> Backend:
        """Which backend made it."""

    @property
    def place(self) -> str:
        """The directory it lies in; empty when it has none."""

    def grow(self, size_bytes: int) -> None:
        """Make it larger, before it is sealed; what is added is zeros."""

    def seal(self, *, writable: bool) -> None:
        """Fix the size and, unless `writable`, let nobody write but through existing mappings."""

    def try_alone(self) -> bool:
        """Keep everybody from attaching it, if nobody else has it open; its maker only.

        The kernel's answer, which no list can make wrong: whoever attached it, or was forked
        with it, has a lock of their own.
        """

    def share(self) -> None:
        """Let others attach it again."""

    def close(self) -> None:
        """Let go of the block, after its mapping ended; once or more often."""


class Address(NamedTuple):
    """Where a holder's block is reached.

    Attributes
    ----------
    uuid : bytes
        The block.
    pid, pid_namespace : int
        The process that holds it.
    fd : int
        What that process knows it as.
    token : bytes
        That process's session; zeros when it has none.
    backend : {"memfd", "file"}
        What kind of block it is.
    place : str
        The directory its file lies in; of a block without one, the directory of the session's
        socket.
    """

    uuid: bytes
    pid: int
    pid_namespace: int
    fd: int
    token: bytes = bytes(16)
    backend: Backend = "memfd"
    place: str = ""


def choose(
    backend: str | None = None, directory: str | os.PathLike[str] | None = None
) -> tuple[Backend, str]:
    """Return backend and place for a block of which the caller said that much.

    A directory means a file. When nothing is said it is a memfd, or a file if ``MEMSHARE_DIR``
    names a directory or the system has no memfds.

    Raises
    ------
    ValueError
        There is no such backend, not on this system, or it takes no directory.
    """
    if backend not in (None, *get_args(Backend)):
        raise ValueError(f"unknown backend {backend!r}; choose one of {get_args(Backend)}")
    if backend == "memfd":
        if directory is not None:
            raise ValueError("a memfd lies in no directory; leave it out, or choose 'file'")
        if not _memfd.available():
            raise ValueError(f"there can be no memfds: {why_no_memfds()}; choose 'file'")
    if directory is not None:
        return "file", os.path.abspath(directory)
    if backend == "file" or (backend is None and os.environ.get(VARIABLE)):
        return "file", str(page_directory())
    return anonymous()


def anonymous() -> tuple[Backend, str]:
    """Return backend and place for memory that is to be fast, whatever was chosen for pages."""
    return ("memfd", "") if _memfd.available() else ("file", str(page_directory()))


def create(uuid: bytes, size_bytes: int, backend: Backend, place: str) -> Segment:
    """Return a new block of zeros, which no other process can reach before it has the address.

    It can be written to, and grows when written past its end, until it is sealed.

    Raises
    ------
    OSError
        There is no room for it.
    RegistryCorruptError
        The directory `place` cannot be trusted.
    """
    if backend == "file":
        return _file.create(uuid, size_bytes, place)
    return _memfd.create(uuid, size_bytes)


def attach(address: Address, *, writable: bool = False, wait: bool = True) -> Segment:
    """Open a block that another process, or this one, holds.

    A holder that can only be reached by a socket, and does not serve it yet, is asked to do so and
    waited for, a second at most; not without `wait`. One that does not answer takes two seconds,
    once. So hold no lock.

    Raises
    ------
    SegmentGone
        That process is dead or no longer has the block, or nobody has the file any more.
    BlockBusy
        Its owner is writing another value into it.
    PermissionError
        `writable`, and the block is sealed against it.
    """
    if address.backend == "file":
        return _file.attach(address.uuid, address.place, writable=writable)
    if address.pid_namespace != _proc.pid_namespace():
        return _over_socket(address, "lives in another pid namespace", writable=writable, wait=wait)
    try:
        return _memfd.attach(address.uuid, address.pid, address.fd, writable=writable)
    except BlockBusy:
        raise
    except SegmentGone as gone:
        if isinstance(gone.__cause__, PermissionError):
            return _over_socket(address, _DENIED, writable=writable, wait=wait)
        if not _reach.socket_path(Path(address.place), address.token).exists():
            raise
        return _over_socket(address, str(gone), writable=writable, wait=False)


_DENIED: Final = (
    "cannot be opened from here: it lives in another user namespace, has more capabilities, or is "
    "not dumpable"
)


def attach_at_once(address: Address, writable: bool) -> Segment | None:
    """Open a block if that needs no waiting for anybody; None when it is not to be had so."""
    if address.backend == "file" or address.pid_namespace != _proc.pid_namespace():
        return None
    try:
        return _memfd.attach(address.uuid, address.pid, address.fd, writable=writable)
    except (SegmentGone, PermissionError):
        return None


def _over_socket(address: Address, why: str, *, writable: bool, wait: bool) -> Segment:
    directory, who = Path(address.place), (address.token, address.uuid, address.pid)
    fd = _reach.get(directory, *who, why, writable=writable, wait=wait)
    if not _memfd.is_block(address.uuid, fd):
        os.close(fd)
        raise SegmentGone(f"process {address.pid} gave something else over its socket")
    return _memfd.adopt(address.uuid, fd)


def map_block(segment: Segment, *, mode: Mode, size_bytes: int | None = None) -> mmap.mmap:
    """Map a block, or its first `size_bytes`.

    The mapping ends when the returned object and all arrays on it are gone.
    Nothing ever calls ``close()`` on it: that would raise `BufferError`, or take the memory
    from under arrays that use it.
    """
    length = segment.size_bytes if size_bytes is None else size_bytes
    flags = mmap.MAP_PRIVATE if mode == "c" else mmap.MAP_SHARED
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if mode != "r" else 0)
    if sys.version_info >= (3, 13):
        # Without trackfd the mapping keeps no second descriptor open.
        return mmap.mmap(segment.fd, length, flags, protection, trackfd=False)
    return mmap.mmap(segment.fd, length, flags, protection)
