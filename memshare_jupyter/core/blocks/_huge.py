"""Filling a block by huge pages, where the system gives them to shared memory."""

from __future__ import annotations

import contextlib
import functools
import itertools
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from memshare_jupyter.core.values import Layout

SETTING: Final = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_WILLING: Final = {"always", "within_size", "advise", "force"}
_MADV_HUGEPAGE: Final = 14
_LEAST_BYTES: Final = 64 << 20
_THREADS: Final = 2
"""More do not help: two fill what the memory of a small machine can take."""


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


def fill(mapping: mmap.mmap, layout: Layout) -> None:
    """Copy the parts of a value into a fresh block, in huge pages."""
    with not_inherited(mapping):
        with contextlib.suppress(OSError):  # then in small pages, slower but right
            mapping.madvise(_MADV_HUGEPAGE)
        copy_into(mapping, layout)


def copy_into(mapping: mmap.mmap, layout: Layout) -> None:
    """Copy the parts of a value into memory that is there, by two threads if it is much.

    numpy lets other threads run while it copies.
    """
    target = np.frombuffer(mapping, np.uint8)
    for offset, block in layout.blocks():
        source = np.frombuffer(block, np.uint8)
        there = target[offset : offset + source.size]
        if source.size < _LEAST_BYTES:
            np.copyto(there, source)
            continue
        cuts = np.linspace(0, source.size, _THREADS + 1).astype(int).tolist()
        halves = [slice(a, b) for a, b in itertools.pairwise(cuts)]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda half, t=there, s=source: np.copyto(t[half], s[half]), halves))


@contextlib.contextmanager
def not_inherited(mapping: mmap.mmap) -> Iterator[None]:
    """Let no forked child have the mapping meanwhile: what it is half way is nothing to it."""
    if hasattr(mmap, "MADV_DONTFORK"):
        mapping.madvise(mmap.MADV_DONTFORK)
    try:
        yield
    finally:
        if hasattr(mmap, "MADV_DOFORK"):
            mapping.madvise(mmap.MADV_DOFORK)
