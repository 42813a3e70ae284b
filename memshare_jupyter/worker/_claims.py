"""A worker's side of the queue: it claims chunks of items, counts what is done, sees when to stop.

A worker claims the next chunk of a share by appending to the log (``O_APPEND``): the kernel makes
each append one step, and the claims of that share before the place where it landed are the
chunk's number. That is a fetch-and-add without a lock, for processes, in a few microseconds, and
a worker that is killed leaves nothing locked. One that has done its own share goes on with the one
of which most is left.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import numpy as np

from memshare_jupyter.core import blocks
from memshare_jupyter.worker._arena import Arena
from memshare_jupyter.worker._layout import (
    CLAIM,
    COUNT,
    ENDED,
    STOP,
    STOP_NOW,
    WORKING,
    Address,
    claims_in,
    control_bytes,
    count_at,
    failed_at,
    state_at,
    step_at,
)


class Claims:
    """The queue of a call as one of its workers has it.

    Parameters
    ----------
    arena : Arena
        Where the queue is open.
    address : Address
        The call's.
    worker : int
        The number of this worker, from 0.

    Raises
    ------
    SegmentGone
        The caller is dead, or has given up the call.

    Attributes
    ----------
    stop : memoryview of one byte
        `STOP` when the workers should stop before their next item, `STOP_NOW` for in this one.
    done : memoryview of one int
        How many items this worker has done, for the worker to count.
    step : memoryview of one int
        How many it does before it counts them; 0 for one.
    failed : memoryview of one int
        How many of those done failed, for the worker to count.
    """

    def __init__(self, arena: Arena, address: Address, worker: int) -> None:
        block, control = arena.queue(address)
        self._fd = block.fd
        self._log_at = control_bytes(address.workers)
        self.stop = memoryview(control)[:1]
        self.done = memoryview(control)[count_at(worker) :][: COUNT.size].cast("Q")
        self.step = memoryview(control)[step_at(worker) :][: COUNT.size].cast("Q")
        self.failed = memoryview(control)[failed_at(worker) :][: COUNT.size].cast("Q")
        self._state = memoryview(control)[state_at(worker) :][:1]
        self._shares = address.shares()
        self._worker = worker
        self._state[0] = WORKING

    def __iter__(self) -> Iterator[range]:
        """Claim chunks until there are no more, or the call is cancelled."""
        share = self._worker % len(self._shares)
        while not self.stop[0]:
            os.write(self._fd, CLAIM.pack(self._worker, share))
            length = os.lseek(self._fd, 0, os.SEEK_CUR) - self._log_at
            claimed = claims_in(os.pread(self._fd, length, self._log_at))[:, 1]
            number = int(np.count_nonzero(claimed == share)) - 1
            if number < len(self._shares[share]):
                yield range(*self._shares[share][number])
                continue
            counts = np.bincount(claimed, minlength=len(self._shares))
            left = [len(chunks) - count for chunks, count in zip(self._shares, counts, strict=True)]
            share = left.index(max(left))
            if left[share] <= 0:
                return

    def cancel(self) -> None:
        """Tell all workers, this one too, to stop before their next item."""
        if not self.stop[0]:
            self.stop[0] = STOP

    def stop_if_abandoned(self) -> None:
        """Have all workers stop at once if the caller is dead, or waits no longer."""
        with contextlib.suppress(OSError):  # what cannot be known is no reason to stop
            if not blocks.is_locked(self._fd):
                self.stop[0] = STOP_NOW

    def close(self) -> None:
        """Say that this worker is no longer in the call."""
        self._state[0] = ENDED
        self._state.release()
        self.stop.release()
        self.done.release()
        self.step.release()
        self.failed.release()
