"""A line: the caller's end of it, for one call at a time."""

from __future__ import annotations

import contextlib
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memshare_jupyter.worker import End


class Line:
    """A line to an engine.

    Attributes
    ----------
    end : End
        This end of it.
    number : int
        Of the call that it was used for last.
    """

    def __init__(self, end: End) -> None:
        self.end = end
        self.number = 0

    def send(self, kind: int, data: bytes) -> bool:
        """Send something to be answered; False if the engine is not there any more."""
        self.number += 1
        try:
            self.end.send(self.number, kind, data)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[int, bytes] | None:
        """Return kind and bytes of the answer to the last call, or None at the end of the line.

        Raises
        ------
        BlockingIOError
            It has not come yet.
        """
        while (packet := self.end.receive()) is not None:
            if packet[0] == self.number:
                return packet[1:]
        return None

    def wait(self, timeout_s: float) -> bool:
        """Wait for an answer, at most so long; False if the line has ended, and is closed now."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self.end.fd, select.POLLIN)
        while poll.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
            with contextlib.suppress(BlockingIOError):  # it is a packet of an earlier call
                if self.receive() is None:
                    self.end.close()
                    return False
                return True
        return True

    @property
    def idle(self) -> bool:
        """Whether the engine is there, and has said nothing."""
        try:
            self.receive()
        except BlockingIOError:
            return True
        return False
