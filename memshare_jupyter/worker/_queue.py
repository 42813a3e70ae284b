"""The work queue of one call: who takes which items, how far they are, whether to stop.

It is one block of shared memory that the caller makes and every worker opens::

    control   one cancel byte, then per worker the number of items done, a cache line each
    log       grows at the end: four bytes a claim, the number of the worker that made it

A worker claims the next chunk by appending its number to the log (``O_APPEND``): the kernel
makes each append one step, and the place where it landed is the chunk's number. That is a
fetch-and-add without a lock, for processes, in about two microseconds, and a worker that is
killed leaves nothing locked. The items of chunk *k* follow from *k* alone (`chunks`).

The block goes when the caller and its workers let go of it or die; it is no page of the ledger.
"""

from __future__ import annotations

import fcntl
import os
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from memshare_jupyter.core import blocks
from memshare_jupyter.core.ledger import runtime_directory
from memshare_jupyter.core.registry import registry

_LINE: Final = 64
_CLAIM: Final = struct.Struct("<I")
_COUNT: Final = struct.Struct("=Q")
_SHARE: Final = 6
"""A chunk is this fraction of a fair share of what is left. Larger chunks cost fewer claims,
smaller ones waste less time at the end when items differ in cost."""


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


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """What a worker needs in order to open a queue."""

    block: blocks.Address
    workers: int
    items: int
    ranges: tuple[tuple[int, int], ...]

    def chunks(self) -> Sequence[tuple[int, int]]:
        """Return what is handed out, in this order."""
        return self.ranges or chunks(self.items, self.workers)


class Queue:
    """A queue as its caller has it.

    Parameters
    ----------
    items, workers : int
        How many items there are to do, and by how many workers.
    ranges : sequence of (start, stop), optional
        Hand out these items instead, one range at a time.
    """

    def __init__(self, items: int, workers: int, ranges: Sequence[tuple[int, int]] = ()) -> None:
        self._block = blocks.create(uuid.uuid4().bytes, _LINE * (1 + workers), *blocks.anonymous())
        # Never sealed: workers write to it, and its log grows.
        self._control = blocks.map_block(self._block, mode="r+")
        where = registry().address(self._block)
        self.address = QueueAddress(where, workers, items, tuple(ranges))

    def cancel(self) -> None:
        """Tell the workers to stop before their next item."""
        self._control[0] = 1

    def done(self) -> list[int]:
        """Return how many items each worker has done so far."""
        return [
            _COUNT.unpack_from(self._control, _LINE * (1 + worker))[0]
            for worker in range(self.address.workers)
        ]

    def claimed(self) -> list[list[range]]:
        """Return the ranges that each worker has claimed so far, in its order."""
        log_at = _LINE * (1 + self.address.workers)
        log = os.pread(self._block.fd, os.fstat(self._block.fd).st_size - log_at, log_at)
        claimed: list[list[range]] = [[] for _ in range(self.address.workers)]
        for (worker,), chunk in zip(_CLAIM.iter_unpack(log), self.address.chunks(), strict=False):
            claimed[worker].append(range(*chunk))
        return claimed

    def close(self) -> None:
        """Let go of the queue."""
        self._control.close()
        self._block.close()


def open_block(where: blocks.Address) -> blocks.Segment:
    """Open a block of the caller's, in a worker, to write to it.

    Raises
    ------
    SegmentGone
        The caller is dead, or has given up the call.
    """
    # Seen from here: the caller may know the runtime directory by another path.
    if where.backend == "memfd":
        where = replace(where, place=str(runtime_directory()))
    return blocks.attach(where, writable=True)


class Claims:
    """A queue as one of its workers has it.

    Parameters
    ----------
    address : QueueAddress
        The queue.
    worker : int
        The number of this worker, from 0.

    Raises
    ------
    SegmentGone
        The caller is dead, or has given up the call.

    Attributes
    ----------
    stop : memoryview of one byte
        Not 0 when the workers should stop before their next item.
    done : memoryview of one int
        How many items this worker has done, for the worker to count.
    """

    def __init__(self, address: QueueAddress, worker: int) -> None:
        self._block = open_block(address.block)
        self._fd = self._block.fd
        fcntl.fcntl(self._fd, fcntl.F_SETFL, fcntl.fcntl(self._fd, fcntl.F_GETFL) | os.O_APPEND)
        self._log_at = _LINE * (1 + address.workers)
        control = blocks.map_block(self._block, mode="r+", size_bytes=self._log_at)
        self.stop = memoryview(control)[:1]
        self.done = memoryview(control)[_LINE * (1 + worker) :][: _COUNT.size].cast("Q")
        self._chunks = address.chunks()
        self._record = _CLAIM.pack(worker)

    def __iter__(self) -> Iterator[range]:
        """Claim chunks until there are no more, or the call is cancelled."""
        while not self.stop[0]:
            os.write(self._fd, self._record)
            number = (os.lseek(self._fd, 0, os.SEEK_CUR) - self._log_at) // _CLAIM.size - 1
            if number >= len(self._chunks):
                return
            yield range(*self._chunks[number])

    def cancel(self) -> None:
        """Tell all workers, this one too, to stop before their next item."""
        self.stop[0] = 1

    def close(self) -> None:
        """Let go of the queue."""
        self.stop.release()
        self.done.release()
        self._block.close()
