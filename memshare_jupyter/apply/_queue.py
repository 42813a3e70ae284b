"""The caller's side of the queue: it makes it, sees who claimed what, and can stop everybody."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Sequence

from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.worker import layout


class Queue:
    """The queue of one round of a call.

    Parameters
    ----------
    workers : int
        How many share the work.
    chunks : sequence of (start, stop)
        What is handed out, in this order.

    Attributes
    ----------
    address : core.blocks.Address
        Where workers find it.
    """

    def __init__(self, workers: int, chunks: Sequence[tuple[int, int]]) -> None:
        size_bytes = layout.control_bytes(workers)
        self._block = blocks.create(uuid.uuid4().bytes, size_bytes, *blocks.anonymous())
        # Never sealed: workers write to it, and its log grows.
        self._control = blocks.map_block(self._block, mode="r+")
        # Closing any descriptor of the block would let it go: only `close` does.
        fcntl.lockf(self._block.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        self._workers = workers
        self._chunks = chunks
        self.address = registry().address(self._block)

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
        return sum(stop - start for start, stop in self._chunks)

    def done(self) -> list[int]:
        """Return how many items each worker has done so far."""
        return [
            layout.COUNT.unpack_from(self._control, layout.count_at(worker))[0]
            for worker in range(self._workers)
        ]

    def claimed(self) -> list[list[range]]:
        """Return the ranges that each worker has claimed so far, in its order."""
        log_at = layout.control_bytes(self._workers)
        log = os.pread(self._block.fd, os.fstat(self._block.fd).st_size - log_at, log_at)
        claimed: list[list[range]] = [[] for _ in range(self._workers)]
        for (worker,), chunk in zip(layout.CLAIM.iter_unpack(log), self._chunks, strict=False):
            claimed[worker].append(range(*chunk))
        return claimed

    def close(self) -> None:
        """Let go of the queue."""
        self._control.close()
        self._block.close()
