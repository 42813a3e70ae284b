"""Where workers put what a function returns, so that nothing is lost with the worker.

One block of shared memory, which the caller makes and every worker writes to::

    head      the form of the array, if the results are to be one: its dtype and an item's shape
    regions   one of 256 GB for each worker, nearly all of it a hole: records, one after another

A record is a header, the ranges of the items it has results of, and these results. The header is
written last, so of a worker that is killed every finished record can be read, and no other.

If the results are to be one array there is a second block, the *area*, in which every item has
its place. Who has the first result writes down the form; whatever is of that form goes straight
to its place, and the rest into records.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import struct
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import cloudpickle
import numpy as np

from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.worker._queue import open_block

_HEAD_BYTES: Final = 4096
_REGION_BYTES: Final = 1 << 38
_RECORD: Final = struct.Struct("<QQQ")  # kind, number of ranges, length of the payload
_RANGE: Final = struct.Struct("<QQ")
_LENGTH: Final = struct.Struct("<Q")
_FLUSH_BYTES: Final = 8 << 20
_FLUSH_S: Final = 0.05
"""So much work is lost with a worker that is killed. A record takes a tenth of a millisecond."""

_IN_AREA: Final = 1
_PICKLED: Final = 2

Form = tuple[np.dtype[Any], tuple[int, ...]]
_Some = tuple[int, Any]
"""The first of some items that follow each other, and their results."""

_Record = tuple[int, list[range], tuple[int, int]]
"""Kind, items, and (length, offset) of the payload."""


@dataclass(frozen=True, slots=True)
class ResultsAddress:
    """What a worker needs in order to leave results."""

    block: blocks.Address
    area: blocks.Address | None
    items: int


class NotPicklable(Exception):  # noqa: N818 -- not raised to users; says which result it is
    """The result of an item cannot be sent to another process."""

    def __init__(self, index: int, result: Any, error: Exception) -> None:
        super().__init__(index, result, error)
        self.index = index
        self.error = TypeError(f"the result, a {type(result).__name__}, cannot be pickled: {error}")
        self.error.__cause__ = error


class Results:
    """All results of a call, as its caller has them.

    Parameters
    ----------
    items : int
        How many there will be.
    area : (backend, place), optional
        They are to be one array, in a block of that kind.
    """

    def __init__(self, items: int, area: tuple[blocks.Backend, str] | None = None) -> None:
        self._items = items
        self._block = blocks.create(uuid.uuid4().bytes, _HEAD_BYTES, *blocks.anonymous())
        self.area: blocks.Segment | None = None
        try:
            if area is not None:
                self.area = blocks.create(uuid.uuid4().bytes, 1, *area)
        except BaseException:
            self._block.close()
            raise
        address = registry().address
        area_at = None if self.area is None else address(self.area)
        self.address = ResultsAddress(address(self._block), area_at, items)

    def recorded(self, region: int) -> list[range]:
        """Return the items of which a worker left results."""
        return [items for _, ranges, _ in self._records(region) for items in ranges]

    def put(self, results: list[Any], regions: int) -> None:
        """Put all results into their places in a list.

        Raises
        ------
        Exception
            Whatever unpickling a result raises.
        """
        form = self.form
        for kind, ranges, place in self._all_records(regions):
            if kind == _IN_AREA:
                assert form is not None  # noqa: S101 -- it was declared before
                found = [self._read_area(form, items) for items in ranges]
            else:
                found = pickle.loads(os.pread(self._block.fd, *place))  # noqa: S301 -- our engines'
            for items, some in zip(ranges, found, strict=True):
                results[items.start : items.stop] = some

    @property
    def form(self) -> Form | None:
        """The dtype and shape of an item's result in the area, once there is one."""
        return _form(self._block.fd)

    def complete(self, regions: int) -> Form | None:
        """Return the form of the array in the area, if every result is there."""
        records = self._all_records(regions)
        in_area = sum(sum(map(len, ranges)) for kind, ranges, _ in records if kind == _IN_AREA)
        return self.form if in_area == self._items else None

    def mapped(self, form: Form) -> np.ndarray[Any, Any]:
        """Return the array in the area, which has it all; it can be written to.

        Its memory is this process's own and free when the array is gone.
        """
        dtype, shape = form
        size_bytes = self._items * _item_bytes(form)
        assert self.area is not None  # noqa: S101 -- asked for by whoever made it
        if size_bytes == 0:
            return np.empty((self._items, *shape), dtype)
        # Private, so that after a fork nobody writes to anybody else's.
        mapping = blocks.map_block(self.area, mode="c", size_bytes=size_bytes)
        return np.frombuffer(mapping, dtype).reshape((self._items, *shape))

    def take_area(self) -> blocks.Segment:
        """Return the block of the array, which the caller has to close."""
        assert self.area is not None  # noqa: S101 -- asked for by whoever made it
        area, self.area = self.area, None
        return area

    def close(self) -> None:
        """Let go of the blocks; arrays on the area stay valid."""
        self._block.close()
        if self.area is not None:
            self.area.close()

    def _read_area(self, form: Form, items: range) -> np.ndarray[Any, Any]:
        dtype, shape = form
        some = np.empty((len(items), *shape), dtype)
        assert self.area is not None  # noqa: S101 -- asked for by whoever made it
        view = memoryview(some.reshape(-1).view(np.uint8).data)
        at = items.start * _item_bytes(form)
        while view:
            read = os.preadv(self.area.fd, [view], at)
            view, at = view[read:], at + read
        return some

    def _all_records(self, regions: int) -> Iterator[_Record]:
        return chain.from_iterable(map(self._records, range(regions)))

    def _records(self, region: int) -> Iterator[_Record]:
        at = _HEAD_BYTES + region * _REGION_BYTES
        while len(header := os.pread(self._block.fd, _RECORD.size, at)) == _RECORD.size:
            kind, count, length = _RECORD.unpack(header)
            if not kind:
                break
            at += _RECORD.size
            ranges = os.pread(self._block.fd, count * _RANGE.size, at)
            at += len(ranges)
            yield kind, [range(*r) for r in _RANGE.iter_unpack(ranges)], (length, at)
            at += length


class Writer:
    """The results of one worker.

    Parameters
    ----------
    address : ResultsAddress
        Where they go.
    region : int
        The number of this worker, which no other worker of the call has or had.
    substitute : callable, optional
        Called as ``substitute(index, error)`` for what to send instead of a result that cannot
        be pickled. Without it that is an error.
    """

    def __init__(
        self,
        address: ResultsAddress,
        region: int,
        substitute: Callable[[int, Exception], Any] | None = None,
    ) -> None:
        self._substitute = substitute
        self._block = open_block(address.block)
        self._area = None if address.area is None else open_block(address.area)
        self._items = address.items
        self._at = _HEAD_BYTES + region * _REGION_BYTES
        self._end = self._at + _REGION_BYTES
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
                self._record(_IN_AREA, inside, b"")
            pending = [some for some in pending if not any(some is one for one in inside)]
        if not pending:
            return
        try:
            payload = cloudpickle.dumps([_compact(results) for _, results in pending], protocol=5)
        except Exception:  # noqa: BLE001 -- an object may refuse in any way it likes
            for start, results in pending:
                self._write_each(start, results)
        else:
            self._record(_PICKLED, pending, payload)

    def close(self) -> None:
        """Let go of the blocks."""
        self._block.close()
        if self._area is not None:
            self._area.close()

    def _write_each(self, start: int, results: Sequence[Any] | np.ndarray[Any, Any]) -> None:
        for index, result in enumerate(results, start):
            try:
                payload = cloudpickle.dumps([[result]], protocol=5)
            except Exception as error:
                refused = NotPicklable(index, result, error)
                if self._substitute is None:
                    raise refused from error
                instead = self._substitute(index, refused.error)
                payload = cloudpickle.dumps([[instead]], protocol=5)
            self._record(_PICKLED, [(index, [result])], payload)

    def _record(self, kind: int, what: Sequence[_Some], payload: bytes) -> None:
        ranges = b"".join(_RANGE.pack(start, start + len(results)) for start, results in what)
        end = self._at + _RECORD.size + len(ranges) + len(payload)
        if end > self._end:
            raise MemoryError(f"the results of one engine take more than {_REGION_BYTES >> 30} GB")
        blocks.write_at(self._block, ranges + payload, self._at + _RECORD.size)
        header = _RECORD.pack(kind, len(what), len(payload))
        blocks.write_at(self._block, header, self._at)
        self._at = end

    def _wrote_to_area(self, start: int, results: Sequence[Any] | np.ndarray[Any, Any]) -> bool:
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
        blocks.write_at(self._area, data, start * _item_bytes(form))
        return True

    def _require(self, form: Form) -> None:
        place = "" if self._area is None else self._area.place
        needed = self._items * _item_bytes(form)
        blocks.require(
            "the array of the results", needed, lambda: registry().snapshot().held, place
        )


def at_once(result: Any) -> int:
    """Return after how many such results it is time to write them down."""
    # Other objects do not say how large they are; so the next one that is asked about may differ.
    return max(1, _FLUSH_BYTES // max(1, getattr(result, "nbytes", _FLUSH_BYTES >> 10)))


def _compact(results: Sequence[Any] | np.ndarray[Any, Any]) -> Any:
    """Return what gives the same results when iterated over, and pickles a lot faster."""
    if isinstance(results, np.ndarray):
        return results
    kinds = {type(result) for result in results}
    kind = kinds.pop() if len(kinds) == 1 else object
    numbers = issubclass(kind, np.generic) and np.dtype(kind).kind in "biufc"
    return np.array(results) if numbers else results


def _item_bytes(form: Form) -> int:
    dtype, shape = form
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _form(fd: int) -> Form | None:
    head = os.pread(fd, _HEAD_BYTES, 0)
    (length,) = _LENGTH.unpack_from(head)
    if not length:
        return None
    form: Form = pickle.loads(head[_LENGTH.size : _LENGTH.size + length])  # noqa: S301 -- ours
    return form


def _declared(fd: int, mine: Form, require: Callable[[Form], None]) -> Form | None:
    """Return the form that all workers use: `mine`, unless another was here before."""
    fcntl.lockf(fd, fcntl.LOCK_EX, 1)  # the system takes it from a worker that dies
    try:
        form = _form(fd)
        text = pickle.dumps(mine)
        if form is None and not mine[0].hasobject and len(text) <= _HEAD_BYTES - _LENGTH.size:
            require(mine)
            os.pwrite(fd, text, _LENGTH.size)
            os.pwrite(fd, _LENGTH.pack(len(text)), 0)
            form = mine
        return form
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN, 1)
