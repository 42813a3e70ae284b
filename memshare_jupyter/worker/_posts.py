"""Posts: a queue that grows while it is worked on, as a host's does in a call on several hosts.

What a host is to do is not known beforehand; it is *posted* range by range, to a block that grows.
A claim is a ticket then: the number of claims before it in the log is the number of the post that
it stands for, which may be still to come. A worker whose post has not come writes down what it
has, and waits for it.

So that the lead knows who died, each worker keeps a record lock on a byte of the queue, behind the
caller's.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from typing import Final

from memshare_jupyter.core import blocks
from memshare_jupyter.worker._arena import Arena
from memshare_jupyter.worker._claims import Claims
from memshare_jupyter.worker._layout import CLAIM, RANGE, Address

_PAUSE_S: Final = 0.0005
_LONGEST_PAUSE_S: Final = 0.01


def is_alive(fd: int, worker: int) -> bool:
    """Say whether a worker, of another process, has its lock on the queue."""
    return blocks.is_locked(fd, 1 + worker)


def posts_in(fd: int) -> list[range]:
    """Return all that was posted."""
    found = os.pread(fd, os.fstat(fd).st_size, 0)
    whole = len(found) - len(found) % RANGE.size
    return [range(*one) for one in RANGE.iter_unpack(found[:whole])]


class Posted(Claims):
    """The queue of a host as one of its workers has it."""

    def __init__(self, arena: Arena, address: Address, worker: int) -> None:
        fd = arena.queue(address)[0].fd
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 + worker)  # before it says it works
        super().__init__(arena, address, worker)
        self._posts = arena.posts(address)
        self._is_lead = address.queue.pid == os.getpid()

    def __iter__(self) -> Iterator[range]:
        """Claim what is posted until all is done; nothing, an empty range, while there is none."""
        while not self.stop[0]:
            os.write(self._fd, CLAIM.pack(self._worker, 0))
            ticket = (os.lseek(self._fd, 0, os.SEEK_CUR) - self._log_at) // CLAIM.size - 1
            pause_s = _PAUSE_S
            while (post := self._post(ticket)) is None:
                yield range(0)
                if self.stop[0]:
                    return
                time.sleep(pause_s)
                pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)
            yield post

    def _post(self, ticket: int) -> range | None:
        found = os.pread(self._posts.fd, RANGE.size, ticket * RANGE.size)
        return range(*RANGE.unpack(found)) if len(found) == RANGE.size else None

    def stop_if_abandoned(self) -> None:
        """Have all workers stop at once if the lead is dead; the lead itself knows better."""
        if not self._is_lead:  # whose locks would be its own
            super().stop_if_abandoned()
