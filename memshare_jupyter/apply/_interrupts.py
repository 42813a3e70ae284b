"""Interrupts that come at the wrong moment are raised a moment later."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without 10 µs of enumerations
import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, Final

_SIGINT: Final = int(signal.SIGINT)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C, or a notebook's stop button, wait until the end of the block.

    For blocks that make something and then say who has to end it: a message that is on its way,
    or memory, would otherwise be nobody's if the interrupt came between the two.
    """
    before = _signal.getsignal(_SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # it is not raised here
        return
    came: list[Any] = []
    _signal.signal(_SIGINT, lambda *which: came.append(which))
    try:
        yield
    finally:
        _signal.signal(_SIGINT, before)
        if came:
            before(*came[0])


def close(call: contextlib.ExitStack) -> None:
    """Do what is to be done at the end of a call, however often the user interrupts that.

    Where it begins and ends it can still be interrupted; what is left is done then. Callers have
    the stack in a ``with`` statement, too, for an interrupt before the first line of this.
    """
    came: KeyboardInterrupt | None = None
    while True:
        try:
            with uninterrupted():
                call.close()
            break
        except KeyboardInterrupt as error:
            came = error
    if came is not None:
        raise came
