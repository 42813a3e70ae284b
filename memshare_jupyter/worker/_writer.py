"""A worker's side of the results: it leaves there what the function returned.

What is left in time is not lost with the worker: see `_layout` for how that is ensured.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import what_is_lost
from memshare_jupyter.worker import _payload as payload
from memshare_jupyter.worker._arena import Arena, open_block
from memshare_jupyter.worker._layout import (
    EACH,
    HEAD_BYTES,
    IN_AREA,
    LENGTH,
    PICKLED,
    RANGE,
    RECORD,
    REGION_BYTES,
    Address,
    Form,
    form_in,
    item_bytes,
    region_at,
)

_FLUSH_BYTES: Final = 8 << 20
_FLUSH_S: Final = 0.05
"""So much work is lost with a worker that is killed. A record takes a tenth of a millisecond."""

_NUMBERS: Final = (int, float, complex, np.generic)

_Some = tuple[int, Any]
"""The first of some items that follow each other, and their results."""


class NotPicklable(Exception):  # noqa: N818 -- not raised to users; says which result it is
    """The result of an item cannot be sent to another process."""

    def __init__(self, index: int, result: Any, error: Exception) -> None:
        super().__init__(index, result, error)
        self.index = index
        self.error = TypeError(f"the result, a {type(result).__name__}, cannot be pickled: {error}")
        self.error.__cause__ = error


class Writer:
    """The results of one worker.

    Parameters
    ----------
    arena : Arena
        Where the results are open.
    address : Address
        The call's.
    region : int
        The number of this worker, which no other worker of the call has or had.
    substitute : callable, optional
        Called as ``substitute(index, error)`` for what to send instead of a result that cannot
        be pickled. Without it that is an error.
    """

    def __init__(
        self,
        arena: Arena,
        address: Address,
        region: int,
        substitute: Callable[[int, Exception], Any] | None = None,
    ) -> None:
        self._substitute = substitute
        self._block = arena.results(address)
        self._area = None if address.area is None else open_block(address.area)
        self._items = address.items
        self._at = region_at(region)
        self._end = self._at + REGION_BYTES
        self._form: Form | None = None
        self._pending: list[_Some] = []
        self._pending_bytes = 0
        self._flushed = time.monotonic()

    def begin(self, start: int) -> list[Any]:
        """Return a list to append the results of the items from `start` on to."""
        results: list[Any] = []
        self._pending.append((start, results))
        return results

    def add(self, start: int, results: Sequence[Any] | np.ndarray[Any, Any]) -> None:
        """Keep the results of a batch of items, the first of which is `start`."""
        self._pending.append((start, results))
        self._pending_bytes += getattr(results, "nbytes", 0)
        if self._pending_bytes > _FLUSH_BYTES:
            self.flush()

    def flush_if_due(self) -> None:
        """Write down what was added, if it would be a pity to lose it."""
        if time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write down what was added.

        Raises
        ------
        NotPicklable
            One of the results cannot be sent.
        """
        pending = [some for some in self._pending if len(some[1])]
        self._pending, self._pending_bytes = [], 0
        self._flushed = time.monotonic()
        if self._area is not None:
            inside = [some for some in pending if self._wrote_to_area(*some)]
            if inside:
                self._record(IN_AREA, inside, b"")
            pending = [some for some in pending if not any(some is one for one in inside)]
        together: list[tuple[_Some, Any]] = []
        apart: list[_Some] = []
        for some in pending:
            compact = payload.together(some[1])
            if compact is None:
                apart.append(some)
            else:
                together.append((some, compact))
        if together:
            pickled = payload.dumps([compact for _, compact in together])
            self._record(PICKLED, [some for some, _ in together], pickled)
        if apart:
            self._write_each(apart)

    def close(self) -> None:
        """Let go of the array."""
        if self._area is not None:
            self._area.close()

    def _write_each(self, pending: Sequence[_Some]) -> None:
        each, done = payload.Each(), list[_Some]()
        for start, results in pending:
            for index, result in enumerate(results, start):
                try:
                    each.add(result)
                except Exception as error:
                    refused = NotPicklable(index, result, error)
                    if self._substitute is None:
                        done.append((start, results[: index - start]))
                        self._record(EACH, [some for some in done if len(some[1])], each.payload)
                        raise refused from error
                    each.add(self._substitute(index, refused.error))
            done.append((start, results))
        self._record(EACH, done, each.payload)

    def _record(self, kind: int, what: Sequence[_Some], payload: bytes) -> None:
        ranges = b"".join(RANGE.pack(start, start + len(results)) for start, results in what)
        end = self._at + RECORD.size + len(ranges) + len(payload)
        if end > self._end:
            raise MemoryError(f"the results of one engine take more than {REGION_BYTES >> 30} GB")
        blocks.write_at(self._block, ranges + payload, self._at + RECORD.size)
        header = RECORD.pack(kind, len(what), len(payload))
        blocks.write_at(self._block, header, self._at)
        self._at = end

    def _wrote_to_area(self, start: int, results: Sequence[Any] | np.ndarray[Any, Any]) -> bool:
        if not _keeps_its_meaning(results):
            return False
        try:
            some = np.ascontiguousarray(results)
        except ValueError:  # of several shapes
            return False
        form = (some.dtype, some.shape[1:])
        if self._form is None:
            self._form = _declared(self._block.fd, form, self._require)
        if form != self._form:
            return False
        assert self._area is not None  # noqa: S101 -- asked before
        data = memoryview(some.reshape(-1).view(np.uint8).data)
        blocks.write_at(self._area, data, start * item_bytes(form))
        return True

    def _require(self, form: Form) -> None:
        place = "" if self._area is None else self._area.place
        needed = self._items * item_bytes(form)
        held = lambda: registry().snapshot().held  # noqa: E731 -- asked for when there is none
        blocks.require("the array of the results", needed, held, place)


def at_once(result: Any) -> int:
    """Return after how many such results it is time to write them down."""
    # Other objects do not say how large they are; so the next one that is asked about may differ.
    return max(1, _FLUSH_BYTES // max(1, getattr(result, "nbytes", _FLUSH_BYTES >> 10)))


def _keeps_its_meaning(results: Any) -> bool:
    """Say whether results lose nothing, as a mask, when they are numbers in an array.

    Others are sent as they are; whoever asked for the array will say what would be lost.
    """
    if isinstance(results, list | tuple):
        kinds = {type(result) for result in results}
        if any(issubclass(kind, list | tuple) for kind in kinds):
            return all(map(_keeps_its_meaning, results))
        if all(issubclass(kind, _NUMBERS) or kind is np.ndarray for kind in kinds):
            return True
        return all(what_is_lost(result) is None for result in results)
    return what_is_lost(results) is None


def _declared(fd: int, mine: Form, require: Callable[[Form], None]) -> Form | None:
    """Return the form that all workers use: `mine`, unless another was here before."""
    fcntl.lockf(fd, fcntl.LOCK_EX, 1)  # the system takes it from a worker that dies
    try:
        form = form_in(fd)
        text = pickle.dumps(mine)
        if form is None and not mine[0].hasobject and len(text) <= HEAD_BYTES - LENGTH.size:
            require(mine)
            os.pwrite(fd, text, LENGTH.size)
            os.pwrite(fd, LENGTH.pack(len(text)), 0)
            form = mine
        return form
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN, 1)
