"""Filling blocks: by ``write()``, or by a mapping of huge pages where the system gives them.

A system call that copies gigabytes cannot be interrupted, and Python code that copies them keeps
every other thread waiting. So what is large is copied in slices, by functions that let others
run, and a stop button is heard between two.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

import numpy as np

SETTING: Final = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_WILLING: Final = {"always", "within_size", "advise", "force"}
_MADV_HUGEPAGE: Final = 14
_MADV_POPULATE_WRITE: Final = 23  # Linux 5.14
_LEAST_BYTES: Final = 64 << 20
_SLICE_BYTES: Final = 64 << 20
_SMALL_BYTES: Final = 4096
_JOINED_BYTES: Final = 1 << 20
_THREADS: Final = 2
"""More do not help: two fill what the memory of a small machine can take."""

_Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]
Buffer = bytes | memoryview
Filled = Callable[[int], None]
"""Told how many bytes more were filled."""


class Parts(Protocol):
    """A value as bytes, part by part."""

    size_bytes: int

    def blocks(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield (offset, contiguous buffer) in ascending order."""


class Open(Protocol):
    """A block that this process has open for writing; see `_block.Segment`."""

    @property
    def fd(self) -> int:
        """Its descriptor."""

    @property
    def size_bytes(self) -> int:
        """How large it is."""

    @property
    def backend(self) -> str:
        """Which backend made it."""


def setting() -> str:
    """Return what the system does: one of the words of shmem_enabled, or ``"unknown"``."""
    with contextlib.suppress(OSError):
        return SETTING.read_text().partition("[")[2].partition("]")[0]
    return "unknown"


@functools.cache
def _willing() -> bool:
    return setting() in _WILLING


def worth_asking(size_bytes: int) -> bool:
    """Say whether a block of that size should be filled by huge pages."""
    return size_bytes >= _LEAST_BYTES and _willing()


def _no_matter(_size_bytes: int) -> None:
    pass


def fill(block: Open, parts: Parts, filled: Filled = _no_matter) -> None:
    """Write the parts of a value into a fresh block.

    ``write()`` and not a mapping: the kernel then fills each new page of memory in one go,
    where a mapping pays a page fault for each (2.0 against 0.4-0.9 GB/s, measured). Unless there
    are huge pages for the asking: then there are few faults, and two threads copy.
    """
    if block.backend == "memfd" and worth_asking(parts.size_bytes):
        mapping = mmap.mmap(block.fd, block.size_bytes)
        hide(mapping)
        with contextlib.suppress(OSError):  # then in small pages, slower but right
            mapping.madvise(_MADV_HUGEPAGE)
        copy_into(mapping, parts, filled)
        return
    for offset, part in _together(parts.blocks()):
        write_at(block, part, offset, filled)


def _together(parts: Iterable[tuple[int, Buffer]]) -> Iterator[tuple[int, Buffer]]:
    """Join small parts that lie close together: each write costs what two kilobytes cost.

    What is between them are zeros, as in the fresh block.
    """
    some, start = bytearray(), 0
    for offset, part in parts:
        size_bytes = memoryview(part).nbytes
        gap = offset - start - len(some)
        if some and (gap >= _SMALL_BYTES or len(some) >= _JOINED_BYTES):
            yield start, bytes(some)
            some.clear()
        if size_bytes >= _SMALL_BYTES:
            if some:
                yield start, bytes(some)
                some.clear()
            yield offset, part
            continue
        if not some:
            start, gap = offset, 0
        some += bytes(gap)
        some += part
    if some:
        yield start, bytes(some)


def write_at(
    block: Open, data: bytes | memoryview, offset: int, filled: Filled = _no_matter
) -> None:
    """Write all of `data`; a single call moves what it can, and at most a slice."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(block.fd, rest[:_SLICE_BYTES], offset)
        rest, offset = rest[written:], offset + written
        filled(written)


def copy_into(mapping: mmap.mmap, parts: Parts, filled: Filled = _no_matter) -> None:
    """Copy the parts of a value into memory that is there, by two threads if it is much.

    numpy lets other threads run while it copies.
    """
    target = np.frombuffer(mapping, np.uint8)
    with contextlib.ExitStack() as stack:
        pool: ThreadPoolExecutor | None = None
        for offset, part in parts.blocks():
            source = np.frombuffer(part, np.uint8)
            if source.size >= _LEAST_BYTES and pool is None:
                pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
            for start in range(0, source.size, _SLICE_BYTES):
                some = source[start : start + _SLICE_BYTES]
                there = target[offset + start : offset + start + some.size]
                if pool is None or some.size < _THREADS:
                    np.copyto(there, some)
                else:
                    _copy_by(pool, there, some)
                filled(some.size)


def _copy_by(pool: ThreadPoolExecutor, there: _Bytes, some: _Bytes) -> None:
    cuts = np.linspace(0, some.size, _THREADS + 1).astype(int).tolist()
    pieces = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    list(pool.map(lambda piece: np.copyto(there[piece], some[piece]), pieces))


def populate(mapping: mmap.mmap) -> None:
    """Have all of a mapping at hand, or each page of it that is written costs a fault."""
    with contextlib.suppress(OSError):
        for start in range(0, len(mapping), _SLICE_BYTES):
            length = min(_SLICE_BYTES, len(mapping) - start)
            mapping.madvise(_MADV_POPULATE_WRITE, start, length)  # which lets no thread run


def hide(mapping: mmap.mmap) -> None:
    """Let no forked child have a mapping: what is half way is nothing to it."""
    if hasattr(mmap, "MADV_DONTFORK"):
        mapping.madvise(mmap.MADV_DONTFORK)


def show(mapping: mmap.mmap) -> None:
    """Let children that are forked from now on have a mapping that was hidden."""
    if hasattr(mmap, "MADV_DOFORK"):
        mapping.madvise(mmap.MADV_DOFORK)
