"""The thread that watches over a worker: it ends an item that nobody waits for any more.

A worker looks at the queue between two items. In an item that takes long it cannot, so a thread
of this process looks for it, twenty times a second: whether the caller wants it to end now, whether
there still is a caller, and whether results have waited long enough to be written down. It ends an
item by a signal to the worker's thread, and only while that is in this very call: nothing else that
the process does later can be hit, as it could by a signal from outside that comes late.

The thread is started by the first call of a process, and sleeps when there are no calls.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without 10 µs of enumerations
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, Final

from memshare_jupyter.worker._claims import Claims
from memshare_jupyter.worker._layout import STOP_NOW

_SIGINT: Final = int(signal.SIGINT)
_SIGTERM: Final = int(signal.SIGTERM)
_TICK_S: Final = 0.05
_LOOK_TICKS: Final = 4
"""After so many ticks the caller is looked for: a lock is asked for, which takes a microsecond."""
_AGAIN_TICKS: Final = 10
"""After so many ticks an item that swallowed its interrupt is interrupted again."""
_REST_TICKS: Final = 20
"""After so many ticks without a call the thread goes to sleep."""


class Watched:
    """A call as it is watched over.

    Attributes
    ----------
    due : bytearray of one byte
        Not 0 when it is time to write results down; the worker clears it.
    armed : bool
        Whether the worker is where it may be interrupted.
    """

    def __init__(self, claims: Claims, *, in_main: bool = False) -> None:
        self.due = bytearray(1)
        self.armed = False
        self._claims = claims
        self._in_main = in_main
        self._ticks = 0
        self._interrupted_at: int | None = None

    def arm(self) -> None:
        """Let items be interrupted from now on.

        Not before: an import of a module that ends half way leaves one that cannot be imported.
        """
        self.armed = self._in_main

    def look(self) -> None:
        """Look once: what the thread does in a tick."""
        self.due[0] = 1
        self._ticks += 1
        if self._ticks % _LOOK_TICKS == 0:
            self._claims.stop_if_abandoned()
        if self._claims.stop[0] != STOP_NOW:
            return
        if self._interrupted_at is not None:
            if self._ticks - self._interrupted_at < _AGAIN_TICKS:
                return
            self._interrupted_at, self.armed = None, True
        if self.armed:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def interrupted(self, *_: Any) -> None:
        """Handle SIGINT: end the item, if that is what the caller wants, and once."""
        if self.armed and self._claims.stop[0] == STOP_NOW:
            self.armed, self._interrupted_at = False, self._ticks
            raise KeyboardInterrupt


class _Watcher:
    """The thread, and what it watches over: one call, or an outer and inner ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._now: Watched | None = None
        threading.Thread(target=self._watch, name="memshare-watch", daemon=True).start()

    def turn_to(self, call: Watched | None) -> Watched | None:
        """Watch over this call from now on; return the one before."""
        with self._lock:
            before, self._now = self._now, call
            if not self._awake.is_set():
                self._awake.set()
        return before

    def _watch(self) -> None:
        pause = threading.Event()
        while self._awake.wait():
            resting = 0
            while resting < _REST_TICKS:
                pause.wait(_TICK_S)
                with self._lock:
                    resting = 0 if self._now else resting + 1
                    if self._now:
                        self._now.look()
            with self._lock:
                if self._now is None:
                    self._awake.clear()


_watcher: _Watcher | None = None


@contextlib.contextmanager
def watched(claims: Claims) -> Iterator[Watched]:
    """Watch over a call of this thread until the end of the block.

    SIGTERM ends the process meanwhile. What an engine does on it is to stop its event loop, which
    does not run before the call is over, and never in the processes of a pool that the function
    makes: it would wait for them for ever. They inherit what is set here, from their first moment.

    Outside the main thread, where no signals are handled, items are not interrupted.
    """
    global _watcher  # noqa: PLW0603 -- one process, one thread
    if _watcher is None:
        _watcher = _Watcher()
    in_main = threading.current_thread() is threading.main_thread()
    call = Watched(claims, in_main=in_main)
    before = {}
    if in_main:
        before[_SIGINT] = _signal.signal(_SIGINT, call.interrupted)
        before[_SIGTERM] = _signal.signal(_SIGTERM, _signal.SIG_DFL)
    watcher = _watcher
    outer = watcher.turn_to(call)
    try:
        yield call
    finally:
        call.armed = False
        watcher.turn_to(outer)
        for number, handler in before.items():
            if handler is not None:  # else it is not one of Python's
                _signal.signal(number, handler)


def _after_fork() -> None:
    """Forget the thread, which a forked child has not, and what the call does on an interrupt."""
    global _watcher  # noqa: PLW0603
    if _watcher is None:
        return
    in_call = _watcher._now is not None
    _watcher = None
    if in_call and threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
