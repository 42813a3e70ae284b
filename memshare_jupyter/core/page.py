"""Page: one value in one block of shared memory, with what is needed to read it.

::

    data         the value's buffers, each aligned to 64 bytes
    descriptor   how to rebuild the value from them, see `values`
    trailer      magic, version, state, uuid, place and checksum of the descriptor

The state word is the owner's only message to everybody who has the page mapped: `RELEASED` says
that its name no longer leads here. It is written before the page leaves the ledger, so a page
whose owner died can be told from one whose owner let it go.
"""

from __future__ import annotations

import mmap
import os
import struct
import uuid as uuids
import weakref
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np

from memshare_jupyter.core import segment, values
from memshare_jupyter.core.layout import ALIGNMENT
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.view import Source, View
from memshare_jupyter.errors import HeaderMismatchError

_MAGIC: Final = b"memsharp"
_VERSION: Final = 1
_TRAILER: Final = struct.Struct("<8sII16sQQI12x")
_STATE_AT: Final = 12 - _TRAILER.size
RELEASED: Final = 1


class Mappings:
    """What a process has mapped although no table knows it any more: arrays still use it.

    Parameters
    ----------
    settle : callable
        Called after a page's memory was unmapped, in whatever thread that happened.

    Attributes
    ----------
    gone : deque of weak references to mappings
        Each with the ``page`` whose memory was unmapped. Whoever takes it from there closes
        the page.
    """

    def __init__(self, settle: Callable[[object], None]) -> None:
        self.gone: deque[Mapping] = deque()
        self._settle = settle
        self._dropped: set[Page] = set()

    def watch(self, mapping: mmap.mmap) -> tuple[object, Mapping]:
        """Have `mapping` put among those gone when it ends, and then `settle` called."""
        # The last array may die at any moment, and an exception in a callback is lost: an
        # interrupt at the wrong moment would lose the page. So it goes to the list by a function
        # written in C, which no interrupt can break. The newest callback is called first.
        settle = weakref.ref(mapping, self._settle)
        ended = Mapping(mapping, self.gone.append)
        ended.page = None
        return settle, ended

    def dropped(self, page: Page) -> None:
        """Keep `page` until it is closed, even if nobody but arrays uses it."""
        self._dropped.add(page)

    def close(self, page: Page) -> None:
        """Close a page that is gone."""
        page.close()
        self._dropped.discard(page)


class Mapping(weakref.ref[mmap.mmap]):
    """A weak reference to a mapping, and the page it was the mapping of, once dropped."""

    __slots__ = ("page",)
    page: Page | None


class Page:
    """A page as one process has it open and mapped.

    The mapping lives until `drop` was called *and* the last array on it is gone.

    Parameters
    ----------
    block : Segment
        Its memory; the page owns it and closes it when it is unmapped.
    mode : {"r", "r+", "c"}
        How to map it; ``"lent"`` from when its owner released it while arrays of its own use it.
    mappings : Mappings
        Where it is kept from `drop` until its memory is gone.
    """

    def __init__(self, block: segment.Segment, mode: segment.Mode, mappings: Mappings) -> None:
        self.block = block
        self.uuid = block.uuid
        self.mode: segment.Mode | Literal["lent"] = mode
        self._sent_mode: segment.Mode = mode
        try:
            if block.size_bytes < _TRAILER.size:
                raise HeaderMismatchError("the block attached is not a page of memshare_jupyter")
            self._trailer_at = block.size_bytes - _TRAILER.size
            self._state_at = block.size_bytes + _STATE_AT
            mapping = segment.map_block(block, mode=mode)
            self.address = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
            self._held: mmap.mmap | None = mapping
            self._mappings = mappings
            self._settle, self._mapping = mappings.watch(mapping)
        except BaseException:
            self.close()
            raise

    @property
    def mapped(self) -> bool:
        """Whether the memory is still mapped."""
        return self._mapping() is not None

    @property
    def released(self) -> bool:
        """Whether the owner gave up the name."""
        mapping = self._mapping()
        return mapping is not None and mapping[self._state_at] == RELEASED

    def mark_released(self) -> None:
        """Tell every process that has the page mapped that its name no longer leads here."""
        mapping = self._mapping()
        if mapping is not None:
            mapping[self._state_at] = RELEASED

    def hold(self) -> bool:
        """Keep the mapping even while no array uses it; False when it is gone already."""
        self._held = self._mapping()
        return self._held is not None

    def close(self) -> None:
        """Close the block; once or more often."""
        self.block.close()

    def drop(self) -> None:
        """Let the mapping end with its last array; at once when there is none."""
        self._mapping.page = self  # not before: so a page that was lost on its way just ends
        held, self._held = self._held, None  # before the call, at which an interrupt can come
        try:
            if held is not None:
                self._mappings.dropped(self)
        finally:
            del held  # or the interrupt's traceback would keep it

    def __del__(self) -> None:
        if hasattr(self, "block"):  # or an interrupt came before there was one
            self.close()

    def value(self, name: PageName, rebuild: Callable[..., Any]) -> Any:
        """Build the value on the mapped memory: a `View`, or the `Elements` of a list.

        Raises
        ------
        HeaderMismatchError
            The block is no page of this version, or its descriptor is damaged.
        """
        mapping = self._mapping()
        assert mapping is not None  # noqa: S101 -- callers hold it
        page = memoryview(mapping)
        make = self._maker(mapping, name, rebuild)
        # The kernel says who made the block; what the page says of itself proves nothing.
        trusted = os.fstat(self.block.fd).st_uid == os.geteuid()
        made = values.build(self._descriptor(page), page, make, trusted=trusted)
        if isinstance(made, values.Elements):
            made.by_reference(rebuild, *name, self.uuid, self._sent_mode)
        return made

    def array(self, name: PageName, rebuild: Callable[..., Any], form: tuple[Any, ...]) -> View:
        """Build an array of a given dtype, shape, strides and offset on the mapped memory."""
        mapping = self._mapping()
        assert mapping is not None  # noqa: S101 -- callers hold it
        return self._maker(mapping, name, rebuild)(*form)

    def _maker(
        self, mapping: mmap.mmap, name: PageName, rebuild: Callable[..., Any]
    ) -> Callable[..., View]:
        source = Source(*name, self.uuid, self._sent_mode, self.address, rebuild)

        def make(dtype: Any, shape: Any, strides: Any, offset: Any) -> View:
            view = np.ndarray.__new__(View, shape, dtype, mapping, offset, strides)
            view._source = source
            return view

        return make

    def _descriptor(self, page: memoryview) -> bytes:
        magic, version, _, uuid, at, length, checksum = _TRAILER.unpack_from(page, self._trailer_at)
        if magic != _MAGIC or uuid != self.uuid:
            raise HeaderMismatchError("the block attached is not a page of memshare_jupyter")
        if version != _VERSION:
            raise HeaderMismatchError(
                f"the page has format {version}, this process reads format {_VERSION}; use the "
                "same version of memshare_jupyter in every process",
                found=version,
            )
        descriptor = bytes(page[at : at + length])
        if zlib.crc32(descriptor) != checksum:
            raise HeaderMismatchError("the page's descriptor is damaged; register it again")
        return descriptor


def create(
    plan: values.Plan,
    mappings: Mappings,
    *,
    writable: bool,
    backend: segment.Backend,
    place: str,
) -> Page:
    """Make a page of a planned value: allocate, fill, map, then seal.

    The mapping is made before the seal, so the owner alone can write to a sealed page.
    """
    uuid = uuids.uuid4().bytes
    at = plan.size_bytes
    trailer_at = -(-(at + len(plan.descriptor)) // ALIGNMENT) * ALIGNMENT
    checksum = zlib.crc32(plan.descriptor)
    trailer = _TRAILER.pack(_MAGIC, _VERSION, 0, uuid, at, len(plan.descriptor), checksum)
    block = segment.create(uuid, trailer_at + _TRAILER.size, backend, place)
    try:
        segment.fill(block, plan.layout)
        segment.write_at(block, plan.descriptor, at)
        segment.write_at(block, trailer, trailer_at)
    except BaseException:
        block.close()
        raise
    page = Page(block, "r+", mappings)
    page._sent_mode = "r+" if writable else "r"  # the owner may write; whom it sends views may not
    try:
        block.seal(writable=writable)
    except BaseException:
        page.drop()
        raise
    return page


def read_released(block: segment.Segment) -> bool:
    """Look at the state of a page without mapping it."""
    return os.pread(block.fd, 1, block.size_bytes + _STATE_AT) == bytes([RELEASED])
