"""Where every byte of a value goes in its page, before there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from memshare_jupyter.errors import UnsupportedValueError

ALIGNMENT: Final = 64
"""Data begin at multiples of this: a cache line, and what Arrow and vector units ask for."""

_BLOCK_BYTES: Final = 4 << 20


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


Part = np.ndarray[Any, Any] | bytes | memoryview | FilePart


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
        self._parts: list[tuple[int, Part]] = []

    def place(self, part: Part, alignment: int = ALIGNMENT) -> int:
        """Reserve room for `part` behind the others and return where it begins.

        An array takes the room of its elements in C order.
        """
        offset = -(-self.size_bytes // alignment) * alignment
        self._parts.append((offset, part))
        self.in_memory = self.in_memory and not isinstance(part, FilePart)
        self.size_bytes = offset + (len(part) if isinstance(part, bytes) else part.nbytes)
        return offset

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
            if isinstance(part, bytes | memoryview):
                yield offset, part
                continue
            blocks = part.blocks() if isinstance(part, FilePart) else _contiguous_blocks(part)
            at = offset
            for block in blocks:
                yield at, block
                at += block.nbytes


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
