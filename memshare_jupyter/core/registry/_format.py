"""The format of a page: one value in one block, with what is needed to read it.

::

    data         the value's buffers, each aligned to 64 bytes
    descriptor   how to rebuild the value from them, see `core.values`
    trailer      magic, version, state, uuid, place and checksum of the descriptor, edition

The state word is the owner's only message to everybody who has the page mapped. `RELEASED` says
that its name no longer leads here, so a page whose owner ended can be told from one whose owner
let it go. `FILLING` says that a value is being written: whoever reads it in a page that nobody
keeps from being attached knows that its owner died over it, and that there is no value. The
edition counts the values that a page has had, so that a reference to an earlier one leads nowhere.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from memshare_jupyter.core.blocks import Segment
from memshare_jupyter.core.values import ALIGNMENT, Plan
from memshare_jupyter.errors import HeaderMismatchError

_MAGIC: Final = b"memsharp"
_VERSION: Final = 3
TRAILER: Final = struct.Struct("<8sII16sQQII8x")
STATE_AT: Final = 12 - TRAILER.size
_EDITION: Final = struct.Struct("<I")
_EDITION_AT: Final = 52
ACTIVE: Final = 0
RELEASED: Final = 1
FILLING: Final = 2


def trailer_at(plan: Plan) -> int:
    """Return where the trailer of a page with that value stands."""
    return -(-(plan.size_bytes + len(plan.descriptor)) // ALIGNMENT) * ALIGNMENT


def page_bytes(plan: Plan) -> int:
    """Return how large the page of a value is."""
    return trailer_at(plan) + TRAILER.size


def tail(plan: Plan, uuid: bytes, edition: int) -> bytes:
    """Return what stands behind the data: descriptor and trailer of an active page."""
    place = (plan.size_bytes, len(plan.descriptor), zlib.crc32(plan.descriptor))
    trailer = TRAILER.pack(_MAGIC, _VERSION, ACTIVE, uuid, *place, edition)
    return plan.descriptor.ljust(trailer_at(plan) - plan.size_bytes, b"\0") + trailer


class Contents:
    """All bytes of a new page, part by part: the value's buffers, descriptor and trailer.

    Parameters
    ----------
    plan : Plan
        The value.
    end : bytes
        What stands behind its data, see `tail`.
    """

    def __init__(self, plan: Plan, end: bytes) -> None:
        self._plan = plan
        self._end = end
        self.size_bytes = plan.size_bytes + len(end)

    def blocks(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """Yield (offset, contiguous buffer) in ascending order; no array is copied whole."""
        yield from self._plan.layout.blocks()
        yield self._plan.size_bytes, self._end


def edition_of(page: mmap.mmap) -> int:
    """Return how many values a page had before this one."""
    (edition,) = _EDITION.unpack_from(page, len(page) - TRAILER.size + _EDITION_AT)
    return int(edition)


def edition_in(block: Segment) -> int:
    """Return what `edition_of` does of a page without mapping it."""
    at = block.size_bytes - TRAILER.size + _EDITION_AT
    (edition,) = _EDITION.unpack(os.pread(block.fd, _EDITION.size, at))
    return int(edition)


def mark_of(block: Segment) -> tuple[mmap.mmap, int]:
    """Map the end of a page that is being made, and say where its state is in there.

    With it the page's maker can still mark it when it is sealed and mapped for reading only.
    """
    state_at = block.size_bytes + STATE_AT
    start = state_at // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    return mmap.mmap(block.fd, block.size_bytes - start, offset=start), state_at - start


def descriptor_of(page: memoryview, uuid: bytes) -> bytes:
    """Return how to rebuild the value of a page.

    Raises
    ------
    HeaderMismatchError
        It is no page of this version, or damaged.
    """
    at = len(page) - TRAILER.size
    if at < 0:
        raise HeaderMismatchError("the block attached is not a page of memshare_jupyter")
    magic, version, _, found, start, length, checksum, _ = TRAILER.unpack_from(page, at)
    if magic != _MAGIC or found != uuid:
        raise HeaderMismatchError("the block attached is not a page of memshare_jupyter")
    if version != _VERSION:
        raise HeaderMismatchError(
            f"the page has format {version}, this process reads format {_VERSION}; use the "
            "same version of memshare_jupyter in every process",
            found=version,
        )
    descriptor = bytes(page[start : start + length])
    if zlib.crc32(descriptor) != checksum:
        raise HeaderMismatchError("the page's descriptor is damaged; register it again")
    return descriptor


def state_in(block: Segment) -> int:
    """Look at the state of a page without mapping it."""
    at = block.size_bytes + STATE_AT
    found = os.pread(block.fd, 1, at) if at >= 0 else b""
    return found[0] if found else RELEASED
