"""The caller's side of the results: it makes their blocks, and reads what the workers left."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.engines import Lines
from memshare_jupyter.worker import Failure, layout, payload


class ResultsMemory:
    """The memory of results, which has those of one call after the other.

    Attributes
    ----------
    block : Segment
        The block.
    address : core.blocks.Address
        Where workers find it.
    """

    def __init__(self) -> None:
        self.block = blocks.create(uuid.uuid4().bytes, layout.HEAD_BYTES, *blocks.anonymous())
        self.address = registry().address(self.block)

    def clear(self) -> None:
        """Make it that of a call that has no results yet, and give back what these took."""
        os.ftruncate(self.block.fd, 0)
        os.ftruncate(self.block.fd, layout.HEAD_BYTES)

    def close(self) -> None:
        """Let go of it."""
        self.block.close()


class Results:
    """All results of a call, as its caller has them.

    Parameters
    ----------
    items : int
        How many there will be.
    area : (backend, place), optional
        They are to be one array, in a block of that kind.
    lines : Lines, optional
        Where their memory is kept between calls.

    Attributes
    ----------
    items : int
        How many there will be.
    area : Segment or None
        The block of that array.
    address, area_address : core.blocks.Address
        Where workers find the blocks.
    again : bool
        Whether their memory may be used again, because no worker is still at it.
    """

    def __init__(
        self,
        items: int,
        area: tuple[blocks.Backend, str] | None = None,
        lines: Lines | None = None,
    ) -> None:
        self.items = items
        self.again = False
        self._lines = lines
        self._memory = (lines and lines.borrow(ResultsMemory)) or ResultsMemory()
        self._block, self.address = self._memory.block, self._memory.address
        self.area: blocks.Segment | None = None
        try:
            if area is not None:
                self.area = blocks.create(uuid.uuid4().bytes, 1, *area)
        except BaseException:
            self._memory.close()
            raise
        self.area_address = None if self.area is None else registry().address(self.area)

    @property
    def block(self) -> blocks.Segment:
        """The block with the records."""
        return self._block

    def recorded(self, region: int) -> list[range]:
        """Return the items of which a worker left results."""
        return [items for _, ranges, _ in self._records([region]) for items in ranges]

    def put(
        self,
        results: list[Any],
        regions: int,
        unreadable: Callable[[int, int, Exception], Any] | None = None,
    ) -> None:
        """Put all results into their places in a list.

        Parameters
        ----------
        results : list
            The places.
        regions : int
            How many workers left results.
        unreadable : callable, optional
            Called as ``unreadable(region, index, error)`` for what to put in the place of a
            result that cannot be unpickled here. Without it that is an error.

        Raises
        ------
        Exception
            Whatever unpickling a result raises.
        """
        form = self.form
        for region in range(regions):
            replace = unreadable and partial(unreadable, region)
            for kind, ranges, place in layout.records(self._block.fd, region):
                found: Iterable[Iterable[Any]]
                if kind == layout.IN_AREA:
                    assert form is not None  # noqa: S101 -- it was declared before
                    found = [self._read_area(form, items) for items in ranges]
                elif kind == layout.PICKLED:
                    found = payload.load(os.pread(self._block.fd, *place))
                else:
                    found = _each(os.pread(self._block.fd, *place), ranges, replace)
                for items, some in zip(ranges, found, strict=True):
                    each = list(some)
                    if len(each) != len(items):
                        raise RuntimeError(f"{len(each)} results were left for {len(items)} items")
                    results[items.start : items.stop] = each

    @property
    def form(self) -> layout.Form | None:
        """The dtype and shape of an item's result in the area, once there is one."""
        return layout.form_in(self._block.fd)

    def complete(self, regions: int) -> layout.Form | None:
        """Return the form of the array in the area, if every result is there."""
        records = self._records(range(regions))
        inside = [ranges for kind, ranges, _ in records if kind == layout.IN_AREA]
        in_area = sum(sum(map(len, ranges)) for ranges in inside)
        return self.form if in_area == self.items else None

    def mapped(self, form: layout.Form) -> np.ndarray[Any, Any]:
        """Return the array in the area, which has it all; it can be written to.

        Its memory is this process's own and free when the array is gone.
        """
        dtype, shape = form
        size_bytes = self.items * layout.item_bytes(form)
        assert self.area is not None  # noqa: S101 -- asked for by whoever made it
        if size_bytes == 0:
            return np.empty((self.items, *shape), dtype)
        # Private, so that after a fork nobody writes to anybody else's.
        mapping = blocks.map_block(self.area, mode="c", size_bytes=size_bytes)
        return np.frombuffer(mapping, dtype).reshape((self.items, *shape))

    def take_area(self) -> blocks.Segment:
        """Return the block of the array, which the caller has to close."""
        assert self.area is not None  # noqa: S101 -- asked for by whoever made it
        area, self.area = self.area, None
        return area

    def close(self) -> None:
        """Let go of the blocks; arrays on the area stay valid."""
        if self.again and self._lines is not None:
            self._memory.clear()
            self._lines.keep(self._memory)
        else:
            self._memory.close()
        if self.area is not None:
            self.area.close()

    def bytes_of(self, items: range) -> bytes:
        """Return what the area has of some items."""
        assert self.form is not None  # noqa: S101 -- it was declared before
        return self._read_area(self.form, items).tobytes()

    def _read_area(self, form: layout.Form, items: range) -> np.ndarray[Any, Any]:
        dtype, shape = form
        some = np.empty((len(items), *shape), dtype)
        assert self.area is not None  # noqa: S101 -- asked for by whoever made it
        view = memoryview(some.reshape(-1).view(np.uint8).data)
        at = items.start * layout.item_bytes(form)
        while view:
            read = os.preadv(self.area.fd, [view], at)
            view, at = view[read:], at + read
        return some

    def _records(self, regions: Iterable[int]) -> Iterator[layout.Record]:
        return chain.from_iterable(layout.records(self._block.fd, region) for region in regions)


def _each(
    pickles: bytes, ranges: Sequence[range], replace: Callable[[int, Exception], Any] | None
) -> Iterator[list[Any]]:
    """Unpickle results one by one, so that one that fails is the only one."""
    following = payload.loads(pickles)
    for items in ranges:
        some = []
        for index in items:
            try:
                result = payload.load(next(following))
            except Exception as error:
                if replace is None:
                    raise
                result = replace(index, error)
            some.append(result.as_result() if isinstance(result, Failure) else result)
        yield some
