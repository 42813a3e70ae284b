"""Where every byte of a value goes in its page, before there is one."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from memshare_jupyter.errors import UnsupportedValueError

ALIGNMENT: Final = 64
"""Data begin at multiples of this: a cache line, and what Arrow and vector units ask for."""

_BLOCK_BYTES: Final = 4 << 20
_LARGE_BYTES: Final = 64 << 10
"""Memory of fewer bytes is not remembered as what a later array may be a piece of, nor looked for
by its place."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes that stand in a file and go from there straight into the page."""

    path: Path
    offset: int
    nbytes: int

    def blocks(self) -> Iterator[memoryview]:
        """Read the bytes, a few megabytes at a time, into one buffer."""
        buffer = memoryview(bytearray(min(self.nbytes, _BLOCK_BYTES)))
        done = 0
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            while done < self.nbytes:
                count = file.readinto(buffer[: self.nbytes - done])
                if not count:
                    raise UnsupportedValueError(f"{self.path} ends too early: was it cut short?")
                yield buffer[:count]
                done += count


@dataclass(frozen=True, slots=True)
class Stack:
    """Small arrays of one form that go into the page one behind the other, so many bytes apart."""

    arrays: Sequence[np.ndarray[Any, Any]]
    step_bytes: int

    @property
    def nbytes(self) -> int:
        """All that they take."""
        return len(self.arrays) * self.step_bytes

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes, a few megabytes at a time."""
        at_once = _BLOCK_BYTES // self.step_bytes
        for start in range(0, len(self.arrays), at_once):
            some = self.arrays[start : start + at_once]
            packed = np.concatenate([one.reshape(1, -1) for one in some]).view(np.uint8)
            apart = np.zeros((len(some), self.step_bytes), np.uint8)
            apart[:, : packed.shape[1]] = packed
            yield _bytes(apart)

    def stands_at(self, address: int) -> bool:
        """Say whether the arrays themselves stand there."""
        step = self.step_bytes
        return all(
            one.flags.c_contiguous and one.ctypes.data == address + i * step
            for i, one in enumerate(self.arrays)
        )


Part = np.ndarray[Any, Any] | bytes | FilePart | Stack


class Layout:
    """The parts of a page, in order.

    Attributes
    ----------
    size_bytes : int
        Where the last part ends.
    in_memory : bool
        Whether all of it is at hand: nothing stands in a file, and nothing is left as it is.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self.in_memory = True
        # The parts keep their memory alive, so an address means one thing as long as we do.
        self._parts: list[tuple[int, Part]] = []
        self._placed: dict[tuple[Any, ...], int] = {}
        self._large = _Ranges()

    def place(self, part: bytes | FilePart | Stack, alignment: int = ALIGNMENT) -> int:
        """Reserve room for `part` behind the others and return where it begins."""
        self.in_memory = self.in_memory and not isinstance(part, FilePart)
        size_bytes = len(part) if isinstance(part, bytes) else part.nbytes
        return self._append(part, size_bytes, alignment)

    def place_array(self, array: np.ndarray[Any, Any]) -> int:
        """Reserve room for the elements of `array` in C order and return where it begins.

        Memory that has a place already is not placed again: the same array under another name
        or shape, and a contiguous piece of a large one that came before it.
        """
        nbytes = array.nbytes
        if not nbytes:
            return self._append(b"", 0, ALIGNMENT)
        address = array.ctypes.data  # in half the time of __array_interface__
        contiguous = array.flags.c_contiguous
        key = (address, nbytes) if contiguous else (address, array.shape, array.strides, nbytes)
        found = self._placed.get(key)
        if found is None and contiguous:
            found = self._large.find(address, nbytes)
        if found is None:
            found = self._placed[key] = self._append(array, nbytes, ALIGNMENT)
            if contiguous and nbytes >= _LARGE_BYTES:
                self._large.add(address, nbytes, found)
        return found

    @property
    def holds_arrays(self) -> bool:
        """Whether any part is an array or a buffer, and not just text."""
        return any(not isinstance(part, bytes) for _, part in self._parts)

    def reserve(self, size_bytes: int) -> int:
        """Reserve room that stays as the page is made, all zeros; return where it begins."""
        offset = self.place(b"")
        self.size_bytes += size_bytes
        self.in_memory = False
        return offset

    def blocks(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield (offset, contiguous buffer) in ascending order; no array is copied whole."""
        for offset, part in self._parts:
            if isinstance(part, bytes):
                yield offset, part
                continue
            if isinstance(part, FilePart | Stack):
                blocks = part.blocks()
            else:
                blocks = _contiguous_blocks(part)
            at = offset
            for block in blocks:
                yield at, block
                at += block.nbytes

    def stands_in(self, page: memoryview, address: int) -> bool:
        """Say whether the parts stand in a page: arrays themselves, the rest as equal bytes.

        Small arrays may be equal instead: some classes copy them when they are rebuilt.

        Parameters
        ----------
        page : memoryview
            Its bytes.
        address : int
            Where it is mapped.
        """
        there = 0
        for offset, part in self._parts:
            if isinstance(part, bytes):
                text: bytes | memoryview = part
            elif isinstance(part, Stack):
                if not part.stands_at(address + offset):
                    return False
                there += 1
                continue
            elif isinstance(part, FilePart) or not part.flags.c_contiguous:
                return False
            elif part.ctypes.data == address + offset:
                there += 1
                continue
            elif part.nbytes < _LARGE_BYTES:
                text = _bytes(part)
            else:
                return False
            if page[offset : offset + len(text)] != text:
                return False
        return there > 0

    def _append(self, part: Part, size_bytes: int, alignment: int) -> int:
        offset = -(-self.size_bytes // alignment) * alignment
        self._parts.append((offset, part))
        self.size_bytes = offset + size_bytes
        return offset


class _Ranges:
    """Ranges of memory with a place, none inside another: the ends are sorted as the starts are."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._rest: list[tuple[int, int]] = []

    def find(self, address: int, nbytes: int) -> int | None:
        """Return the place of a piece of memory, if a range covers it."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        end, offset = self._rest[at]
        return offset + address - self._starts[at] if address + nbytes <= end else None

    def add(self, address: int, nbytes: int, offset: int) -> None:
        """Remember a range that no other covers, and forget those that it covers."""
        first = last = bisect.bisect_left(self._starts, address)
        while last < len(self._starts) and self._rest[last][0] <= address + nbytes:
            last += 1
        self._starts[first:last] = [address]
        self._rest[first:last] = [(address + nbytes, offset)]


def _contiguous_blocks(array: np.ndarray[Any, Any]) -> Iterator[memoryview]:
    """Yield the bytes of `array` in C order; only what is not contiguous is gathered."""
    if array.nbytes == 0:
        return
    if array.flags.c_contiguous:
        yield _bytes(array)
        return
    row_bytes = array[:1].nbytes
    if row_bytes > _BLOCK_BYTES and array.ndim > 1:
        for row in array:
            yield from _contiguous_blocks(row)
        return
    rows = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, len(array), rows):
        yield _bytes(np.ascontiguousarray(array[start : start + rows]))


def _bytes(array: np.ndarray[Any, Any]) -> memoryview:
    # By way of uint8, because the buffer protocol refuses dates and other dtypes.
    return array.reshape(-1).view(np.uint8).data
