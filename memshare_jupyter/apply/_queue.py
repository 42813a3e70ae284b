"""The caller's side of the queue: it makes it, sees who claimed what, and can stop everybody."""

from __future__ import annotations

import fcntl
import mmap
import os
import uuid
from collections.abc import Callable, Sequence

from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.engines import Lines
from memshare_jupyter.worker import layout


class QueueMemory:
    """The memory of a queue for so many workers, which has one round after the other.

    Parameters
    ----------
    workers : int
        How many share the work.

    Attributes
    ----------
    block, control
        The block, and its control mapped.
    address : core.blocks.Address
        Where workers find it.
    """

    def __init__(self, workers: int) -> None:
        self._size_bytes = layout.control_bytes(workers)
        self.block = blocks.create(uuid.uuid4().bytes, self._size_bytes, *blocks.anonymous())
        # Never sealed: workers write to it, and its log grows.
        self.control = blocks.map_block(self.block, mode="r+")
        # Closing any descriptor of the block would let it go: only `close` does.
        fcntl.lockf(self.block.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        self.address = registry().address(self.block)

    def clear(self) -> None:
        """Make it that of a queue of which nothing is claimed."""
        self.control[:] = bytes(self._size_bytes)
        os.ftruncate(self.block.fd, self._size_bytes)

    def close(self) -> None:
        """Let go of it; workers that still have it know that nobody waits for them."""
        self.control.close()
        self.block.close()


class Queue:
    """The queue of one round of a call.

    Parameters
    ----------
    workers : int
        How many share the work.
    shares : sequence of sequences of (start, stop)
        What is handed out: of each share its chunks, in this order.
    lines : Lines or None
        Where its memory is kept between calls.

    Attributes
    ----------
    address : core.blocks.Address
        Where workers find it.
    """

    def __init__(
        self, workers: int, shares: Sequence[layout.Chunks], lines: Lines | None = None
    ) -> None:
        kept = None if lines is None else lines.borrow(QueueMemory, workers)
        self._memory = kept or QueueMemory(workers)
        self._memory.clear()
        self._block, self._control = self._memory.block, self._memory.control
        self._workers = workers
        self._shares = shares
        self._lines = lines
        self.address = self._memory.address

    @property
    def fd(self) -> int:
        """Its descriptor."""
        return self._block.fd

    @property
    def control(self) -> mmap.mmap:
        """What says how far the workers are, see `worker.layout`."""
        return self._control

    def cancel(self, *, at_once: bool = False) -> None:
        """Tell the workers to stop before their next item, or in the one they are at."""
        self._control[0] = layout.STOP_NOW if at_once else layout.STOP

    def working(self) -> list[int]:
        """Return the workers that are in the call at this moment."""
        return [
            worker
            for worker in range(self._workers)
            if self._control[layout.state_at(worker)] == layout.WORKING
        ]

    @property
    def items(self) -> int:
        """How many items there are to do."""
        return sum(stop - start for chunks in self._shares for start, stop in chunks)

    def done(self) -> list[int]:
        """Return how many items each worker has done so far."""
        return self._counts(layout.count_at)

    def failed(self) -> list[int]:
        """Return how many of those done failed, of a call that keeps going."""
        return self._counts(layout.failed_at)

    def steps(self) -> list[int]:
        """Return within how many items behind those that are done each worker is."""
        return [max(1, step) for step in self._counts(layout.step_at)]

    def _counts(self, at: Callable[[int], int]) -> list[int]:
        return [
            layout.COUNT.unpack_from(self._control, at(worker))[0]
            for worker in range(self._workers)
        ]

    def claimed(self) -> list[list[range]]:
        """Return the ranges that each worker has claimed so far, in its order."""
        log_at = layout.control_bytes(self._workers)
        log = os.pread(self._block.fd, os.fstat(self._block.fd).st_size - log_at, log_at)
        claimed: list[list[range]] = [[] for _ in range(self._workers)]
        left = [iter(chunks) for chunks in self._shares]
        for worker, share in layout.claims_in(log).tolist():
            if (chunk := next(left[share], None)) is not None:
                claimed[worker].append(range(*chunk))
        return claimed

    def close(self, *, again: bool = False) -> None:
        """Let go of the queue; its memory may be used again if no worker is still at it."""
        if again and self._lines is not None:
            self._lines.keep(self._memory, self._workers)
        else:
            self._memory.close()
