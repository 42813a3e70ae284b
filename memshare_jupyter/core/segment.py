"""The port to the operating system: create, fill, seal, attach and map one block of memory.

A backend (one module a system, chosen here once) provides three functions:

``create(uuid, size_bytes) -> int``
    A new block of zeros that only this process can reach until it hands out the descriptor.
    The kernel frees it when the last descriptor and mapping are gone, however their processes
    ended.
``seal(fd, writable)``
    Fix the size for ever and, unless `writable`, forbid every write except through mappings
    that exist already.
``attach(uuid, pid, fd, writable) -> int``
    Open the block that process `pid` knows as `fd`. `SegmentGone` when that process is dead, or
    its descriptor is closed or now means something else: the uuid decides, so reused pids and
    descriptors are harmless.

Everything above this module handles blocks by descriptor and by mapping only.
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import Final

from memshare_jupyter.core.layout import Layout

if sys.platform == "linux":
    from memshare_jupyter.core import _memfd as _backend
else:  # pragma: no cover -- the file backend, which these systems need, does not exist yet
    raise ImportError("memshare_jupyter needs Linux: it shares memory through sealed memfds")

create: Final = _backend.create
seal: Final = _backend.seal
attach: Final = _backend.attach
SegmentGone = _backend.SegmentGone


def fill(fd: int, layout: Layout) -> None:
    """Write the parts of a value into a fresh block.

    ``write()`` and not a mapping: the kernel then fills each new page of memory in one go,
    where a mapping pays a page fault for each (2.0 against 0.4-0.9 GB/s, measured).
    """
    for offset, block in layout.blocks():
        write_at(fd, block, offset)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data`; a single call moves at most 2 GiB and may move less."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def map_block(fd: int, size_bytes: int, *, writable: bool) -> mmap.mmap:
    """Map a block; the mapping ends when the returned object and all arrays on it are gone.

    Nothing ever calls ``close()`` on it: that would raise `BufferError`, or take the memory
    from under arrays that use it.
    """
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    if sys.version_info >= (3, 13):
        # Without trackfd the mapping keeps no second descriptor open.
        return mmap.mmap(fd, size_bytes, mmap.MAP_SHARED, protection, trackfd=False)
    return mmap.mmap(fd, size_bytes, mmap.MAP_SHARED, protection)
