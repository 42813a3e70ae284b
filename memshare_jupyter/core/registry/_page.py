"""Page: the memory of one variable as one process has it open and mapped, and how long.

The mapping lives until the page was dropped *and* the last array on it is gone, which may be at
any moment, in any thread; `Mappings` keeps what is on that way. Arrays are not built on the mapping
itself but on one array of all its bytes, which lives as long as they do: so a mapping that
somebody keeps for later can be told from one that is in use.
"""

from __future__ import annotations

import mmap
import sys
import weakref
from collections import deque
from collections.abc import Callable, Container
from functools import partial
from typing import Any, Final, Literal

import numpy as np

from memshare_jupyter.core import blocks
from memshare_jupyter.core.blocks import Segment
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import _format
from memshare_jupyter.core.values import Elements, Plan, Source, View, build
from memshare_jupyter.errors import HeaderMismatchError


class Mappings:
    """What a process has mapped although no table knows it any more: arrays still use it.

    Parameters
    ----------
    settle : callable
        Called after a page's memory was unmapped, in whatever thread that happened.

    Attributes
    ----------
    made : WeakSet of Page
        Every page that is there, in whatever table or thread.
    gone : deque of weak references to mappings
        Each with the ``page`` whose memory was unmapped. Whoever takes it from there closes
        the page.
    dropped : set of Page
        What arrays still use although it was dropped.
    """

    def __init__(self, settle: Callable[[], None]) -> None:
        self.made: weakref.WeakSet[Page] = weakref.WeakSet()
        self.gone: deque[Mapping] = deque()
        self.dropped = _dropped
        self._settle = settle

    def watch(self, mapping: mmap.mmap) -> tuple[object, Mapping]:
        """Have `mapping` put among those gone when it ends, and then `settle` called."""
        # The last array may die at any moment, and an exception in a callback is lost: an
        # interrupt at the wrong moment would lose the page. So it goes to the list by a function
        # written in C, which no interrupt can break. The newest callback is called first.
        settle = weakref.ref(mapping, self._settled)
        ended = Mapping(mapping, self.gone.append)
        ended.page = None
        return settle, ended

    def _settled(self, _: object) -> None:
        self._settle()


_dropped: Final[set[Page]] = set()
"""Of every registry that this process had: what arrays of an earlier one use is still held."""


class Mapping(weakref.ref[mmap.mmap]):
    """A weak reference to a mapping, and the page it was the mapping of, once dropped."""

    __slots__ = ("page",)
    page: Page | None


_NEVER: Final = Mapping(mmap.mmap(-1, 1))
"""Of a page that is not mapped yet: the mapping has gone already."""


class Page:
    """A page as one process has it open and mapped.

    Parameters
    ----------
    block : Segment
        Its memory; the page owns it and closes it when it is unmapped.
    mode : {"r", "r+", "c"}
        How to map it; ``"lent"`` from when its owner released it while arrays of its own use it.
    mappings : Mappings
        Where it is kept from `drop` until its memory is gone.

    Attributes
    ----------
    hidden : bool
        Whether a child that is forked now may have none of its memory: in the child, that what
        is known of it must not be touched.
    """

    def __init__(self, block: Segment, mode: blocks.Mode, mappings: Mappings) -> None:
        self.block = block
        self.uuid = block.uuid
        self.mode: blocks.Mode | Literal["lent"] = mode
        self.sent_mode: blocks.Mode = mode
        self.hidden = False
        self.address = 0
        if block.size_bytes < _format.TRAILER.size:
            block.close()
            raise HeaderMismatchError("the block attached is not a page of memshare_jupyter")
        self._state_at = block.size_bytes + _format.STATE_AT
        self._held: mmap.mmap | None = None
        self._mapping = _NEVER
        self._mappings = mappings
        self._bytes: weakref.ref[np.ndarray[Any, Any]] | None = None
        mappings.made.add(self)  # first: a child may be forked with the traceback of what follows
        try:
            self._held = blocks.map_block(block, mode=mode)
            self.address = np.frombuffer(self._held, np.uint8).__array_interface__["data"][0]
            self._settle, self._mapping = mappings.watch(self._held)
        except BaseException:
            self._held = None
            block.close()
            raise

    @property
    def mapped(self) -> bool:
        """Whether the memory is still mapped."""
        return self._mapping() is not None

    @property
    def inherited(self) -> bool:
        """Whether a forked child has it mapped, if its parent had."""
        return self.mapped and not self.hidden

    @property
    def in_use(self) -> bool:
        """Whether it is held, or arrays are on it; else it is mapped because somebody keeps it."""
        return self._held is not None or (self._bytes is not None and self._bytes() is not None)

    @property
    def mapping(self) -> mmap.mmap | None:
        """The memory, which stays mapped as long as this is kept; None when it is not mapped."""
        return self._mapping()

    @property
    def state(self) -> int:
        """One of the states of `_format`; `RELEASED` when it is not mapped any more."""
        mapping = self._mapping()
        return _format.RELEASED if mapping is None else mapping[self._state_at]

    def mark(self, state: int) -> None:
        """Tell every process that has the page mapped; its maker only."""
        mapping = self._mapping()
        if mapping is not None:
            mapping[self._state_at] = state

    @property
    def edition(self) -> int:
        """How many values the page had before this one; -1 when it is not mapped any more."""
        mapping = self._mapping()
        return -1 if mapping is None else _format.edition_of(mapping)

    def fits(self, plan: Plan) -> bool:
        """Say whether a value takes exactly the room of this page."""
        return _format.page_bytes(plan) == self.block.size_bytes

    def refill(self, plan: Plan) -> None:
        """Write another value into its maker's page, which nobody else has or can attach.

        Memory that is there already is written five to ten times as fast as new memory. A child
        that is forked before `show` gets none of it. After an error the page has no value.
        """
        mapping = self._mapping()
        assert mapping is not None  # noqa: S101 -- callers hold it
        end = _format.tail(plan, self.uuid, self.edition + 1)
        self.hidden = True  # first: of what may be hidden, a child knows that it has it not
        blocks.hide(mapping)
        mapping[self._state_at] = _format.FILLING
        blocks.populate(mapping)
        blocks.copy_into(mapping, plan.layout)
        mapping[plan.size_bytes : self._state_at] = end[: self._state_at - plan.size_bytes]
        rest = end[self._state_at + 1 - plan.size_bytes :]
        mapping[self._state_at + 1 :] = rest
        mapping[self._state_at] = _format.ACTIVE  # last: now it is a value

    def show(self) -> None:
        """Let forked children have it, before a table does; a `refill` hides it from them."""
        mapping = self._mapping()
        if self.hidden and mapping is not None:
            blocks.show(mapping)
            self.hidden = False

    def holds(self, plan: Plan) -> bool:
        """Say whether a value is the one of this page, as it is mapped here."""
        mapping = self._mapping()
        if mapping is None:
            return False
        page = memoryview(mapping)
        return plan.stands_in(_format.descriptor_of(page, self.uuid), page, self.address)

    def hold(self) -> mmap.mmap | None:
        """Keep the mapping even while no array uses it; None when it is gone already."""
        self._held = self._mapping()
        return self._held

    def close(self) -> None:
        """Close the block; once or more often."""
        self.block.close()

    def drop(self) -> None:
        """Let the mapping end with its last array; at once when there is none."""
        self._mapping.page = self  # not before: so a page that was lost on its way just ends
        held, self._held = self._held, None  # before the call, at which an interrupt can come
        try:
            if held is not None:
                self._mappings.dropped.add(self)
        finally:
            del held  # or the interrupt's traceback would keep it

    def abandon(self, others: Container[int]) -> bool:
        """Unmap it in a forked child, which does not have the thread that was at it.

        If that thread's arrays are on it, they are so for ever. What was being written is not
        inherited, but before Python 3.13 its mapping has a descriptor, which would keep the memory.

        Parameters
        ----------
        others : container of int
            Where other pages are mapped.

        Returns
        -------
        bool
            Whether that thread was just unmapping it, so that perhaps a descriptor is left, too.
        """
        mapping, self._held = self._held or self._mapping(), None
        if mapping is None and self.block.fd < 0:
            return False  # what has ended altogether
        self.close()
        if mapping is None:
            return self.address not in others and blocks.unmap(self.uuid, self.address)
        try:
            mapping.close()
        except BufferError:
            if self.block.backend == "memfd" and sys.version_info < (3, 13):
                blocks.close_all(self.uuid)
        return False

    def value(self, name: PageName, rebuild: Callable[..., Any]) -> Any:
        """Build the value on the mapped memory: a `View`, or the `Elements` of a list.

        Runs code of others, where the value was pickled: not for a turn. The caller holds the
        mapping.

        Raises
        ------
        HeaderMismatchError
            The block is no page of this version, or its descriptor is damaged.
        """
        mapping = self._mapping()
        assert mapping is not None  # noqa: S101 -- callers hold it
        memory = self.memory(mapping)
        page = memoryview(memory.data)
        make = self._maker(memory, name, rebuild)
        descriptor = _format.descriptor_of(page, self.uuid)
        to_write = self.mode == "r+"
        made = build(descriptor, page, make, trusted=self.block.ours, to_write=to_write)
        if isinstance(made, Elements):
            made.by_reference(rebuild, *name, self.uuid, self.edition, self.sent_mode)
        return made

    def array(self, name: PageName, rebuild: Callable[..., Any], form: tuple[Any, ...]) -> View:
        """Build an array of a given dtype, shape, strides and offset on the mapped memory."""
        mapping = self._mapping()
        assert mapping is not None  # noqa: S101 -- callers hold it
        return self._maker(self.memory(mapping), name, rebuild)(*form)

    def memory(self, mapping: mmap.mmap) -> np.ndarray[Any, Any]:
        """Return the array of all bytes, on which all others are built: with it, it is in use."""
        memory = self._bytes() if self._bytes is not None else None
        if memory is None:
            memory = np.frombuffer(mapping, np.uint8)
            self._bytes = weakref.ref(memory)
        return memory

    def _maker(
        self, memory: np.ndarray[Any, Any], name: PageName, rebuild: Callable[..., Any]
    ) -> Callable[..., View]:
        source = Source(*name, self.uuid, self.edition, self.sent_mode, self.address, rebuild)
        return partial(_view, memory, source)


def _view(
    memory: np.ndarray[Any, Any],
    source: Source,
    dtype: Any,
    shape: Any,
    strides: Any,
    offset: Any,
) -> View:
    # No closure: in a traceback, a function's frame would keep it, and so the mapping.
    view = np.ndarray.__new__(View, shape, dtype, memory, offset, strides)
    view._source = source
    return view
