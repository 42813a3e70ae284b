"""What a call's caller and its workers have in common: two or three blocks, and their layout.

The caller makes the blocks, and every worker opens them. They go when all of them let go of them or
die, and are no pages of the ledger.

The *queue* says who takes which items, how far they are, and whether to stop::

    control   one byte that says whether to stop, then for each worker a line of the cache: the
              number of items it has done, a byte that says whether it is in the call, how many
              items it does before it counts again, and how many failed and stand as failures
    log       grows at the end: a claim is the number of the worker that made it, and that of the
              share from which it takes the next chunk

Every worker has a share of the items that follow each other (`shares`), begins with its own, and
goes on with those of others. So from one call to the next it mostly sees the same memory, which
is mapped then. How many claims of a share come before one in the log is the number of the chunk
that is claimed, and the items of chunk *k* follow from share and *k* alone. The caller keeps a
record lock on the first byte for as long as it waits, which the system takes from it when it dies:
so workers know.

The *results* have what the function returned, so that nothing is lost with a worker::

    head      the form of the array, if the results are to be one: its dtype and an item's shape
    regions   one of 256 GB for each worker, nearly all of it a hole: records, one after another

A record is a header, the ranges of the items it has results of, and these results. The header is
written last, so of a worker that is killed every finished record can be read, and no other.

If the results are to be one array there is a third block, the *area*, in which every item has
its place. Who has the first result writes down the form; whatever is of that form goes straight
to its place, and the rest into records.
"""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from memshare_jupyter.core import blocks

LINE_BYTES: Final = 64
CLAIM: Final = struct.Struct("=HH")  # worker, share
COUNT: Final = struct.Struct("=Q")

STOP: Final = 1
"""Workers stop before their next item."""
STOP_NOW: Final = 2
"""They stop in the item they are at."""

WORKING: Final = 1
ENDED: Final = 2
"""What a worker says of itself; 0 as long as it has not begun."""

_SHARE: Final = 6
"""A chunk is this fraction of a fair share of what is left. Larger chunks cost fewer claims,
smaller ones waste less time at the end when items differ in cost."""

HEAD_BYTES: Final = 4096
REGION_BYTES: Final = 1 << 38
RECORD: Final = struct.Struct("<QQQ")  # kind, number of ranges, length of the payload
RANGE: Final = struct.Struct("<QQ")
LENGTH: Final = struct.Struct("<Q")
IN_AREA: Final = 1
PICKLED: Final = 2
EACH: Final = 3
"""What a record has: nothing, for its results are in the area; a pickle of all; or one of each."""

Form = tuple[np.dtype[Any], tuple[int, ...]]
Chunks = Sequence[tuple[int, int]]
Record = tuple[int, list[range], tuple[int, int]]
"""Kind, items, and (length, offset) of the payload."""


class Address(NamedTuple):
    """What a worker needs in order to take part in a call.

    Attributes
    ----------
    queue, results, area : core.blocks.Address
        The blocks; no area if the results are not to be one array.
    items, workers : int
        How many items the call has, and how many workers share them.
    ranges : tuple of (start, stop)
        What to hand out instead of all items, one range at a time; empty for all.
    posts : core.blocks.Address, optional
        The block in which what to hand out is said as the call goes on, see `_posts`.
    """

    queue: blocks.Address
    results: blocks.Address
    area: blocks.Address | None
    items: int
    workers: int
    ranges: tuple[tuple[int, int], ...] = ()
    posts: blocks.Address | None = None

    def shares(self) -> Sequence[Chunks]:
        """Return what is handed out: of each share its chunks, in this order."""
        return (self.ranges,) if self.ranges else shares(self.items, self.workers)


@functools.lru_cache(maxsize=64)
def shares(items: int, workers: int) -> Sequence[Chunks]:
    """Divide `items` into a share for each worker, and these into chunks.

    >>> [share[0] for share in shares(100, 2)], [share[-1] for share in shares(100, 2)]
    ([(0, 9), (50, 59)], [(49, 50), (99, 100)])
    """
    cuts = [items * worker // workers for worker in range(workers + 1)]
    return tuple(
        tuple((start + a, start + b) for a, b in chunks(stop - start, 1))
        for start, stop in itertools.pairwise(cuts)
    )


def claims_in(log: bytes) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return the claims in a log, one by one: worker and share."""
    whole = len(log) - len(log) % CLAIM.size  # a worker may be about to append
    return np.frombuffer(log[:whole], np.uint16).reshape(-1, 2)


def chunks(items: int, workers: int) -> list[tuple[int, int]]:
    """Divide `items` into ranges for guided self-scheduling: large ones first, then smaller.

    >>> chunks(100, 2)[:3], chunks(100, 2)[-1]
    ([(0, 9), (9, 17), (17, 24)], (99, 100))
    """
    ranges = []
    start = 0
    while start < items:
        stop = start + -(-(items - start) // (_SHARE * workers))
        ranges.append((start, stop))
        start = stop
    return ranges


def control_bytes(workers: int) -> int:
    """Return how long the control of a queue is, behind which its log begins."""
    return LINE_BYTES * (1 + workers)


def count_at(worker: int) -> int:
    """Return where in the control a worker counts the items it has done."""
    return LINE_BYTES * (1 + worker)


def step_at(worker: int) -> int:
    """Return where in the control a worker says how many items it does before it counts them."""
    return count_at(worker) + 2 * COUNT.size


def failed_at(worker: int) -> int:
    """Return where in the control a worker counts the items that failed, if it keeps going."""
    return count_at(worker) + 3 * COUNT.size


def state_at(worker: int) -> int:
    """Return where in the control a worker says whether it is in the call."""
    return count_at(worker) + COUNT.size


def region_at(region: int) -> int:
    """Return where a region of the results begins."""
    return HEAD_BYTES + region * REGION_BYTES


def item_bytes(form: Form) -> int:
    """Return how much of the area an item takes."""
    dtype, shape = form
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def form_in(fd: int) -> Form | None:
    """Read the form from the head of the results, once there is one."""
    head = os.pread(fd, HEAD_BYTES, 0)
    (length,) = LENGTH.unpack_from(head)
    if not length:
        return None
    form: Form = pickle.loads(head[LENGTH.size : LENGTH.size + length])  # noqa: S301 -- ours
    return form


def records(fd: int, region: int, at: int = 0) -> Iterator[Record]:
    """Read the finished records of a region of the results; their payloads stay where they are.

    Those from a place on; by default all.
    """
    at = at or region_at(region)
    while len(header := os.pread(fd, RECORD.size, at)) == RECORD.size:
        kind, count, length = RECORD.unpack(header)
        if not kind:
            break
        at += RECORD.size
        ranges = os.pread(fd, count * RANGE.size, at)
        at += len(ranges)
        yield kind, [range(*r) for r in RANGE.iter_unpack(ranges)], (length, at)
        at += length
