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
from collections.abc import Callable
from typing import Any, Final

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


class Page:
    """A page as one process has it open and mapped.

    The mapping lives until `drop` was called *and* the last array on it is gone; `ended` then
    runs, in whatever thread that happens.

    Parameters
    ----------
    block : Segment
        Its memory; the page owns it and closes it when it is unmapped.
    writable : bool
        Map it for writing.
    ended : callable
        Called with the page after its memory was unmapped.
    """

    def __init__(
        self, block: segment.Segment, *, writable: bool, ended: Callable[[Page], None]
    ) -> None:
        self.block = block
        self.uuid = block.uuid
        try:
            if block.size_bytes < _TRAILER.size:
                raise HeaderMismatchError("the block attached is not a page of memshare_jupyter")
            self._trailer_at = block.size_bytes - _TRAILER.size
            self._state_at = block.size_bytes + _STATE_AT
            mapping = segment.map_block(block, writable=writable)
            self.address = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
        except BaseException:
            block.close()
            raise
        self._held: mmap.mmap | None = mapping

        self._mapping = weakref.ref(mapping)
        # A finalizer and not a callback of the reference: it must run even when nobody but the
        # arrays knows this page any more. Not at exit: arrays may be used until the very end.
        weakref.finalize(mapping, self._unmapped, ended).atexit = False

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

    def _unmapped(self, ended: Callable[[Page], None]) -> None:
        self.block.close()
        ended(self)

    def drop(self) -> None:
        """Let the mapping end with its last array; at once when there is none."""
        self._held = None

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
            made.by_reference(rebuild, *name, self.uuid)
        return made

    def array(self, name: PageName, rebuild: Callable[..., Any], form: tuple[Any, ...]) -> View:
        """Build an array of a given dtype, shape, strides and offset on the mapped memory."""
        mapping = self._mapping()
        assert mapping is not None  # noqa: S101 -- callers hold it
        return self._maker(mapping, name, rebuild)(*form)

    def _maker(
        self, mapping: mmap.mmap, name: PageName, rebuild: Callable[..., Any]
    ) -> Callable[..., View]:
        source = Source(name.namespace, name.variable, self.uuid, self.address, rebuild)

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
    *,
    writable: bool,
    ended: Callable[[Page], None],
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
    page = Page(block, writable=True, ended=ended)
    block.seal(writable=writable)
    return page


def read_released(block: segment.Segment) -> bool:
    """Look at the state of a page without mapping it."""
    return os.pread(block.fd, 1, block.size_bytes + _STATE_AT) == bytes([RELEASED])
