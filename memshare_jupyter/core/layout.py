"""Where every byte of a value goes in its page, before there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

ALIGNMENT: Final = 64
"""Data begin at multiples of this: a cache line, and what Arrow and vector units ask for."""

_BLOCK_BYTES: Final = 4 << 20

Part = np.ndarray[Any, Any] | bytes | memoryview


class Layout:
    """The parts of a page, in order.

    Attributes
    ----------
    size_bytes : int
        Where the last part ends.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self._parts: list[tuple[int, Part]] = []

    def place(self, part: Part, alignment: int = ALIGNMENT) -> int:
        """Reserve room for `part` behind the others and return where it begins.

        An array takes the room of its elements in C order.
        """
        offset = -(-self.size_bytes // alignment) * alignment
        self._parts.append((offset, part))
        self.size_bytes = offset + (len(part) if isinstance(part, bytes) else part.nbytes)
        return offset

    @property
    def holds_arrays(self) -> bool:
        """Whether any part is an array or a buffer, and not just text."""
        return any(not isinstance(part, bytes) for _, part in self._parts)

    def blocks(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield (offset, contiguous buffer) in ascending order; no array is copied whole."""
        for offset, part in self._parts:
            if not isinstance(part, np.ndarray):
                yield offset, part
                continue
            at = offset
            for block in _contiguous_blocks(part):
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
