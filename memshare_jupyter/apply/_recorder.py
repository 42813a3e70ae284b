"""The recorder: what workers of other hosts left is written down here as if they were of this one.

So what reads results reads those of all hosts alike. Items that two hosts have done, because one
seemed to be lost, count once.
"""

from __future__ import annotations

import pickle
from typing import Any, Final

import numpy as np

from memshare_jupyter.apply._collect import Results
from memshare_jupyter.apply._foreman import Left
from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.worker import layout, payload

TO_DO: Final = 0
GIVEN: Final = 1
SUSPECT: Final = 2
GIVEN_UP: Final = 3
DONE: Final = 4
"""What an item is: to be given to a host, or given to one; what workers died at, and may not be
given to them with others, or not any more; or done."""


class Recorder:
    """Writes records of other hosts to the results of a call.

    Parameters
    ----------
    results : Results
        The call's.

    Attributes
    ----------
    states : ndarray of shape (n_items,)
        What each item is.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._end: dict[int, int] = {}
        self.states = np.zeros(results.items, np.uint8)

    def write(self, region: int, left: Left) -> list[range]:
        """Write down a record; return its items that were not done before."""
        new = [part for items in left.ranges for part in self._new(items)]
        if not new:
            return []
        if left.form is None:
            self._record(region, left.kind, left.ranges, left.payload)
        elif left.form == self._form(left.form):
            self._write_to_area(left, new)
            self._record(region, layout.IN_AREA, new, b"")
        else:  # of another kind than the first host's
            parts = payload.dumps(list(_parts(left)))
            self._record(region, layout.PICKLED, left.ranges, parts)
        for items in new:
            self.states[items.start : items.stop] = DONE
        return new

    def _new(self, items: range) -> list[range]:
        states = self.states[items.start : items.stop]
        return runs(states != DONE, items.start)

    def _form(self, form: layout.Form) -> layout.Form | None:
        found = self._results.form
        text = pickle.dumps(form)
        if found is None and len(text) <= layout.HEAD_BYTES - layout.LENGTH.size:
            self._require(form)
            blocks.write_at(self._results.block, layout.LENGTH.pack(len(text)) + text, 0)
            found = form
        return found

    def _require(self, form: layout.Form) -> None:
        needed = self._results.items * layout.item_bytes(form)
        assert self._results.area is not None  # noqa: S101 -- nothing else has a form
        place = self._results.area.place
        held = lambda: registry().snapshot().held  # noqa: E731 -- asked for when there is none
        blocks.require("the array of the results", needed, held, place)

    def _write_to_area(self, left: Left, new: list[range]) -> None:
        assert left.form is not None  # noqa: S101 -- asked before
        assert self._results.area is not None  # noqa: S101 -- nothing else has a form
        size = layout.item_bytes(left.form)
        at = 0
        for items in left.ranges:
            data = memoryview(left.payload)[at : at + len(items) * size]
            at += len(items) * size
            for some in new:
                if items.start <= some.start < items.stop:
                    part = data[(some.start - items.start) * size :][: len(some) * size]
                    blocks.write_at(self._results.area, part, some.start * size)

    def _record(self, region: int, kind: int, ranges: list[range], data: bytes) -> None:
        start = self._end.get(region) or layout.region_at(region)
        spans = b"".join(layout.RANGE.pack(r.start, r.stop) for r in ranges)
        header = layout.RECORD.pack(kind, len(ranges), len(data))
        blocks.write_at(self._results.block, header + spans + data, start)
        self._end[region] = start + layout.RECORD.size + len(spans) + len(data)


def _parts(left: Left) -> Any:
    """Yield what a record of an array has of each of its ranges."""
    assert left.form is not None  # noqa: S101 -- it is one of an array
    dtype, shape = left.form
    values = np.frombuffer(left.payload, dtype).reshape(-1, *shape)
    at = 0
    for items in left.ranges:
        yield values[at : at + len(items)].copy()
        at += len(items)


def runs(which: np.ndarray[Any, Any], start: int = 0) -> list[range]:
    """Return where an array of truth values is true.

    >>> runs(np.array([True, True, False, True]), 10)
    [range(10, 12), range(13, 14)]
    """
    edges = np.flatnonzero(np.diff(which, prepend=False, append=False)) + start
    return [range(a, b) for a, b in edges.reshape(-1, 2).tolist()]
