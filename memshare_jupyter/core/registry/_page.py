"""Page: one value in one block of shared memory, with what is needed to read it.

::

    data         the value's buffers, each aligned to 64 bytes
    descriptor   how to rebuild the value from them, see `values`
    trailer      magic, version, state, uuid, place and checksum of the descriptor, edition

The state word is the owner's only message to everybody who has the page mapped. `RELEASED` says
that its name no longer leads here; it is written before the page leaves the ledger, so a page
whose owner died can be told from one whose owner let it go. `REFILLING` says that its owner is
about to write another value into it, because nobody else had it: who comes now, lets go again.
The edition counts those values, so that a reference to an earlier one leads nowhere.
"""

from __future__ import annotations

import contextlib
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

from memshare_jupyter.core.blocks import _block as segment
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.values import _values as values
from memshare_jupyter.core.values._layout import ALIGNMENT
from memshare_jupyter.core.values._view import Source, View
from memshare_jupyter.errors import HeaderMismatchError

_MAGIC: Final = b"memsharp"
_VERSION: Final = 1
_TRAILER: Final = struct.Struct("<8sII16sQQII8x")
_STATE_AT: Final = 12 - _TRAILER.size
_EDITION_AT: Final = 52
_MADV_POPULATE_WRITE: Final = 23  # Linux 5.14
ACTIVE: Final = 0
RELEASED: Final = 1
REFILLING: Final = 2


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
        self.touched = False  # whether a refill has begun to destroy the value that is listed
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
    def state(self) -> int:
        """`ACTIVE`, `RELEASED` or `REFILLING`; `RELEASED` when it is not mapped any more."""
        mapping = self._mapping()
        return RELEASED if mapping is None else mapping[self._state_at]

    def mark(self, state: int) -> None:
        """Tell every process that has the page mapped; the owner only."""
        mapping = self._mapping()
        if mapping is not None:
            mapping[self._state_at] = state

    @property
    def edition(self) -> int:
        """How many values the page had before this one."""
        mapping = self._mapping()
        assert mapping is not None  # noqa: S101 -- callers hold it
        (edition,) = struct.unpack_from("<I", mapping, self._trailer_at + _EDITION_AT)
        return int(edition)

    def fits(self, plan: values.Plan) -> bool:
        """Say whether a value takes exactly the room of this page."""
        return _trailer_place(plan) == self._trailer_at

    def refill(self, plan: values.Plan) -> None:
        """Write another value into the owner's page; whoever attaches it now lets go again.

        Memory that is there already is written five to ten times as fast as new memory.
        """
        mapping = self._mapping()
        assert mapping is not None  # noqa: S101 -- callers hold it
        trailer = _trailer(plan, self.uuid, REFILLING, self.edition + 1)
        self.touched = True
        with contextlib.suppress(OSError):  # else each page of it costs a fault
            mapping.madvise(_MADV_POPULATE_WRITE)
        for offset, block in plan.layout.blocks():
            mapping[offset : offset + len(block)] = block
        at = plan.size_bytes
        mapping[at : at + len(plan.descriptor)] = plan.descriptor
        mapping[self._trailer_at :] = trailer

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
            made.by_reference(rebuild, *name, self.uuid, self.edition, self._sent_mode)
        return made

    def array(self, name: PageName, rebuild: Callable[..., Any], form: tuple[Any, ...]) -> View:
        """Build an array of a given dtype, shape, strides and offset on the mapped memory."""
        mapping = self._mapping()
        assert mapping is not None  # noqa: S101 -- callers hold it
        return self._maker(mapping, name, rebuild)(*form)

    def _maker(
        self, mapping: mmap.mmap, name: PageName, rebuild: Callable[..., Any]
    ) -> Callable[..., View]:
        source = Source(*name, self.uuid, self.edition, self._sent_mode, self.address, rebuild)

        def make(dtype: Any, shape: Any, strides: Any, offset: Any) -> View:
            view = np.ndarray.__new__(View, shape, dtype, mapping, offset, strides)
            view._source = source
            return view

        return make

    def _descriptor(self, page: memoryview) -> bytes:
        magic, version, _, uuid, at, length, checksum, _ = _TRAILER.unpack_from(
            page, self._trailer_at
        )
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
    filled: Callable[[int], None],
    *,
    writable: bool,
    backend: segment.Backend,
    place: str,
) -> Page:
    """Make a page of a planned value: allocate, fill, map, then seal.

    The mapping is made before the seal, so the owner alone can write to a sealed page.
    """
    size_bytes = _trailer_place(plan) + _TRAILER.size
    block = segment.create(uuids.uuid4().bytes, size_bytes, backend, place)
    try:
        segment.fill(block, plan.layout, filled)
    except BaseException:
        block.close()
        raise
    return _finish(block, plan, mappings, writable=writable)


def adopt(block: segment.Segment, plan: values.Plan, mappings: Mappings) -> Page:
    """Make a page of a block that has the data already; it may not be sealed yet.

    The page owns the block, also if this fails.
    """
    try:
        block.grow(_trailer_place(plan) + _TRAILER.size)
    except BaseException:
        block.close()
        raise
    return _finish(block, plan, mappings, writable=False)


def _finish(
    block: segment.Segment, plan: values.Plan, mappings: Mappings, *, writable: bool
) -> Page:
    try:
        segment.write_at(block, plan.descriptor, plan.size_bytes)
        trailer = _trailer(plan, block.uuid, ACTIVE, 0)
        segment.write_at(block, trailer, _trailer_place(plan))
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


def _trailer_place(plan: values.Plan) -> int:
    return -(-(plan.size_bytes + len(plan.descriptor)) // ALIGNMENT) * ALIGNMENT


def _trailer(plan: values.Plan, uuid: bytes, state: int, edition: int) -> bytes:
    place = (plan.size_bytes, len(plan.descriptor), zlib.crc32(plan.descriptor))
    return _TRAILER.pack(_MAGIC, _VERSION, state, uuid, *place, edition)


def read_released(block: segment.Segment) -> bool:
    """Look at the state of a page without mapping it."""
    return os.pread(block.fd, 1, block.size_bytes + _STATE_AT) == bytes([RELEASED])
