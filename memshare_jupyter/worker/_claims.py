"""A worker's side of the queue: it claims chunks of items, counts what is done, sees when to stop.

A worker claims the next chunk by appending its number to the log (``O_APPEND``): the kernel
makes each append one step, and the place where it landed is the chunk's number. That is a
fetch-and-add without a lock, for processes, in about two microseconds, and a worker that is
killed leaves nothing locked.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

from memshare_jupyter.worker._arena import Arena
from memshare_jupyter.worker._layout import (
    CLAIM,
    COUNT,
    ENDED,
    STOP,
    STOP_NOW,
    WORKING,
    Address,
    control_bytes,
    count_at,
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
    """

    def __init__(self, arena: Arena, address: Address, worker: int) -> None:
        block, control = arena.queue(address)
        self._fd = block.fd
        self._log_at = control_bytes(address.workers)
        self.stop = memoryview(control)[:1]
        self.done = memoryview(control)[count_at(worker) :][: COUNT.size].cast("Q")
        self.step = memoryview(control)[step_at(worker) :][: COUNT.size].cast("Q")
        self._state = memoryview(control)[state_at(worker) :][:1]
        self._chunks = address.chunks()
        self._record = CLAIM.pack(worker)
        self._state[0] = WORKING

    def __iter__(self) -> Iterator[range]:
        """Claim chunks until there are no more, or the call is cancelled."""
        while not self.stop[0]:
            os.write(self._fd, self._record)
            number = (os.lseek(self._fd, 0, os.SEEK_CUR) - self._log_at) // CLAIM.size - 1
            if number >= len(self._chunks):
                return
            yield range(*self._chunks[number])

    def cancel(self) -> None:
        """Tell all workers, this one too, to stop before their next item."""
        if not self.stop[0]:
            self.stop[0] = STOP

    def stop_if_abandoned(self) -> None:
        """Have all workers stop at once if the caller is dead, or waits no longer."""
        try:
            # The caller's lock is exclusive; shared ones of other workers do not count.
            fcntl.lockf(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 1)
        except OSError:
            return
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1)
        self.stop[0] = STOP_NOW

    def close(self) -> None:
        """Say that this worker is no longer in the call."""
        self._state[0] = ENDED
        self._state.release()
        self.stop.release()
        self.done.release()
        self.step.release()
