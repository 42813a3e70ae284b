"""Stopping: the engines that are in a round leave it; what else they have to do is not touched."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Final

from memshare_jupyter.apply._interrupts import uninterrupted
from memshare_jupyter.apply._queue import Queue
from memshare_jupyter.engines import Engine, Messages
from memshare_jupyter.errors import ClusterError

GRACE_S: Final = 0.2
"""Engines stop by themselves before their next item; one that has not by then ends in this one."""

_GIVE_UP_S: Final = 0.25
_STEP_S: Final = 0.005
_ANSWER_S: Final = 0.1
"""So long takes the answer of an engine that has stopped, at most; it says what was printed."""


def stop(queue: Queue, messages: Messages, engines: Sequence[Engine]) -> None:
    """Stop the engines that work on a queue. A second interrupt of the user's hurries."""
    queue.cancel()
    with contextlib.suppress(KeyboardInterrupt):
        _wait_while_working(queue, messages, engines, GRACE_S)
    queue.cancel(at_once=True)
    with contextlib.suppress(KeyboardInterrupt):
        _wait_while_working(queue, messages, engines, _GIVE_UP_S)
    with uninterrupted():
        messages.give_up()


def working(queue: Queue, messages: Messages, engines: Sequence[Engine]) -> set[int]:
    """Return the workers that are in the call at this moment, and alive."""
    dead = [worker for worker, engine in enumerate(engines) if engine in messages.died]
    return {*queue.working()} - {*dead}


def _wait_while_working(
    queue: Queue, messages: Messages, engines: Sequence[Engine], seconds: float
) -> None:
    """Wait for the engines that are in an item; others have nothing to stop."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(ClusterError):
            messages.wait(_STEP_S)
        if not messages.pending or not working(queue, messages, engines):
            break
        time.sleep(_STEP_S)
    else:
        return
    with contextlib.suppress(ClusterError):
        messages.wait_for_all(_ANSWER_S)
