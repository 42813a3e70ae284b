"""Run: one call of memapply or memlapply while it goes on."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Final

_numbers: Final = itertools.count(1)
_lock: Final = threading.Lock()
_current: dict[int, Run] = {}


def current_runs() -> list[Run]:
    """Return the calls of this process that go on at this moment, the oldest first."""
    with _lock:
        return list(_current.values())


class Run(Future[Any]):
    """A call of `memapply` or `memlapply` on its way: what ``block=False`` returns.

    A `concurrent.futures.Future` that can be awaited, tells how far it is, and can be cancelled
    at any time. The call goes on in a thread of its own.

    Attributes
    ----------
    id : int
        Its number in this process, from 1.
    title : str
        What it does, for people.
    total : int
        How many items it has.
    engines : tuple of int
        Ids of the engines it was shared out to, and of those that replaced some that died.
    began : float
        When it began, in seconds since the epoch.
    started : tuple of (float, int) or None
        When items were first seen to be done, and how many: what came before was waiting.
    output : tuple of (engine, item, stream, text)
        What the function wrote to ``"stdout"`` and ``"stderr"``, once the call is over.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import memapply
    >>> run = memapply(np.eye(3), "rows", np.argmax, block=False)
    >>> [int(i) for i in run.result()], run.progress, run.total
    ([0, 1, 2], 3, 3)
    """

    def __init__(self, title: str, total: int, engines: Sequence[int]) -> None:
        super().__init__()
        self.id = next(_numbers)
        self.title = title
        self.total = total
        self.engines = tuple(engines)
        self.began = time.time()
        self.started: tuple[float, int] | None = None
        self.output: tuple[tuple[int, int, str, str], ...] = ()
        self.stopping = threading.Event()
        self._watching = threading.Lock()
        self._done_by_engine: Callable[[], list[int]] = lambda: [0] * len(self.engines)
        self.set_running_or_notify_cancel()

    def __repr__(self) -> str:
        if self.done():
            state = "cancelled" if self.cancelled() else "failed" if self.exception() else "done"
        elif self.stopping.is_set():
            state = "stopping"
        else:
            state = "queued" if self.ahead() else "running"
        return f"<Run {self.id}: {self.title}, {self.progress:,} of {self.total:,} items, {state}>"

    def __len__(self) -> int:
        return self.total

    def __bool__(self) -> bool:
        return True  # also a run of nothing is a run

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self).__await__()

    @property
    def progress(self) -> int:
        """How many items are done."""
        return sum(self.done_by_engine())

    def done_by_engine(self) -> list[int]:
        """Return how many items each of `engines` has done."""
        with self._watching:
            done = self._done_by_engine()
        if self.started is None and any(done):
            self.started = time.time(), sum(done)
        return done + [0] * (len(self.engines) - len(done))  # one that is to begin

    def ahead(self) -> Run | None:
        """Return the call that its engines do first, while it waits for one."""
        if self.progress:
            return None
        mine = {*self.engines}
        return next((r for r in current_runs() if r.id < self.id and mine & {*r.engines}), None)

    def cancel(self) -> bool:
        """Stop the engines before their next item, or in it if it takes long.

        The call ends with `concurrent.futures.CancelledError`, also where it is waited for.

        Returns
        -------
        bool
            False if it was over already.
        """
        if self.done():
            return False
        self.stopping.set()
        return True

    def cancelled(self) -> bool:
        """Say whether it was cancelled and is over."""
        return self.done() and isinstance(self.exception(), CancelledError)

    def watch(self, done_by_engine: Callable[[], list[int]]) -> None:
        """Say how to find out how many items each engine has done, from now on."""
        with self._watching:
            self._done_by_engine = done_by_engine

    def begin(self) -> None:
        """Put it on the list of current runs, until its `end`."""
        with _lock:
            _current[self.id] = self

    def end(self) -> None:
        """Take it off the list of current runs; how far it came stays to be read."""
        with _lock:
            _current.pop(self.id, None)
