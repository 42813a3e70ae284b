"""The caller's memory as an engine has it open: for one call, or from one to the next on a line."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable

from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.worker import _kept
from memshare_jupyter.worker._layout import Address, control_bytes


class Arena:
    """The queue and the results of a caller, opened once as long as they are the same.

    The caller makes new ones after a call in which it has not heard of everybody, and whenever
    two calls go on at one time.
    """

    def __init__(self) -> None:
        self._queue: tuple[blocks.Segment, mmap.mmap] | None = None
        self._results: blocks.Segment | None = None
        self._posts: blocks.Segment | None = None

    def queue(self, address: Address) -> tuple[blocks.Segment, mmap.mmap]:
        """Return the block of the queue, to append to, and its control.

        Raises
        ------
        SegmentGone
            The caller is dead, or has given up the call.
        """
        if self._queue is None or self._queue[0].uuid != address.queue.uuid:
            self._close_queue()
            block = open_block(address.queue)
            flags = fcntl.fcntl(block.fd, fcntl.F_GETFL)
            fcntl.fcntl(block.fd, fcntl.F_SETFL, flags | os.O_APPEND)
            size_bytes = control_bytes(address.workers)
            self._queue = block, blocks.map_block(block, mode="r+", size_bytes=size_bytes)
        return self._queue

    def results(self, address: Address) -> blocks.Segment:
        """Return the block of the results; raises as `queue`."""
        if self._results is None or self._results.uuid != address.results.uuid:
            self._close_results()
            self._results = open_block(address.results)
        return self._results

    def posts(self, address: Address) -> blocks.Segment:
        """Return the block of what is posted to the queue; raises as `queue`."""
        if self._posts is None:
            assert address.posts is not None  # noqa: S101 -- whoever asks has looked
            self._posts = open_block(address.posts)
        return self._posts

    def keep(self, pages: Iterable[bytes]) -> None:
        """Keep the views that this process has of pages, by uuid, until this is closed."""
        _kept.keep(pages, self)

    def close(self) -> None:
        """Let go of everything."""
        _kept.forget(self)
        self._close_queue()
        self._close_results()
        if self._posts is not None:
            self._posts.close()
            self._posts = None

    def _close_queue(self) -> None:
        if self._queue is not None:
            self._queue[0].close()
            self._queue = None

    def _close_results(self) -> None:
        if self._results is not None:
            self._results.close()
            self._results = None


def open_block(where: blocks.Address) -> blocks.Segment:
    """Open a block of the caller's, in a worker, to write to it.

    Raises
    ------
    SegmentGone
        The caller is dead, or has given up the call.
    """
    # Seen from here: the caller may know the runtime directory by another path.
    if where.backend == "memfd":
        where = where._replace(place=str(registry().directory))
    return blocks.attach(where, writable=True)
