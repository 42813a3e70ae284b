"""Run: one call of memapply or memlapply while it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Final, NamedTuple

from memshare_jupyter.apply._shown import Shown
from memshare_jupyter.apply._stream import Stream
from memshare_jupyter.engines.local import in_kernel

_numbers: Final = itertools.count(1)
_lock: Final = threading.Lock()
_current: dict[int, Run] = {}
_last: Ended | None = None
_STOPPED: Final = (CancelledError, KeyboardInterrupt)
_PATIENCE_S: Final = 2.0
"""Who waits so long for a result is shown how far it is."""


class Ended(NamedTuple):
    """What is remembered of a call that is over, without its results."""

    id: int
    title: str
    total: int
    engines: tuple[int, ...]
    done: list[int]
    began: float
    ended: float
    state: str
    failure: str
    stream: Stream


def _say(error: BaseException, what: str) -> None:
    """Let an error that says that something was stopped be one line in a notebook."""
    line = f"{type(error).__name__}: {what}"
    error._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]


def current_runs() -> list[Run]:
    """Return the calls of this process that go on at this moment, the oldest first."""
    with _lock:
        return list(_current.values())


def last_run() -> Ended | None:
    """Return what is remembered of the call of this process that ended last."""
    return _last


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
    ended : float or None
        When it ended.
    stream : Stream
        Which engine did how many items when.
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
        self.ended: float | None = None
        self.idle = True  # whether all engines have been heard of
        self.shown: list[Shown] = []
        self.stream = Stream()
        self.output: tuple[tuple[int, int, str, str], ...] = ()
        self.stopping = threading.Event()
        self._watching = threading.Lock()
        self._done_by_engine: Callable[[], list[int]] = lambda: [0] * len(self.engines)
        self.set_running_or_notify_cancel()

    def __repr__(self) -> str:
        done = f"{self.progress:,} of {self.total:,} item{'s' * (self.total != 1)}"
        return f"<Run {self.id}: {self.title}, {done}, {self.state}>"

    def _ipython_display_(self) -> None:
        if not in_kernel():
            print(repr(self))  # noqa: T201 -- as a terminal shows any value
            return
        shown = Shown(self)
        if not self.done():
            self.shown.append(shown)

    @property
    def state(self) -> str:
        """``"queued"``, ``"running"``, ``"stopping"``, ``"done"``, ``"cancelled"``, ``"failed"``.

        It is queued while its engines do another call of this process first.
        """
        if not self.done():
            if self.stopping.is_set():
                return "stopping"
            return "running" if self.ahead() is None else "queued"
        error = self.exception()
        if error is None:
            return "done"
        return "cancelled" if isinstance(error, _STOPPED) else "failed"

    @property
    def failure(self) -> str:
        """The first line of the error it ended with; empty if there is none, or was cancelled."""
        if self.state != "failed":
            return ""
        return f"{self.exception()}".partition("\n")[0]

    def rate(self) -> float | None:
        """Return how many items are done in a second, leaving out the time in which it waited."""
        if self.started is None:
            return None
        since, before = self.started
        rate = (self.progress - before) / max(0.001, (self.ended or time.time()) - since)
        return rate or None

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
        others = [r for r in current_runs() if r is not self and mine & {*r.engines}]
        # Which of two calls comes first is for the engines to say; until then the older one does.
        begun = [r for r in others if r.started is not None]
        return next(iter([*begun, *(r for r in others if r.id < self.id)]), None)

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

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the results and return them; show how far it is to one who waits in a notebook.

        Raises
        ------
        TimeoutError
            `timeout` seconds have passed.
        """
        try:
            if not self.done() and not self.shown and in_kernel():
                patience_s = _PATIENCE_S if timeout is None else min(timeout, _PATIENCE_S)
                with contextlib.suppress(TimeoutError):
                    self.exception(patience_s)
                timeout = None if timeout is None else timeout - patience_s
                if not self.done():
                    self._ipython_display_()
            return super().result(timeout)
        except KeyboardInterrupt as interrupt:
            if not self.done():  # else it is the run's own
                goes_on = f"{self.title} goes on; cancel() of its run stops it"
                _say(interrupt, f"stopped waiting: {goes_on}")
            raise

    def set_result(self, result: Any) -> None:
        """Say that it is over."""
        self.ended = time.time()  # first: who waits for it goes on at once
        super().set_result(result)
        self._remember(self.ended)

    def set_exception(self, exception: BaseException | None) -> None:
        """Say that it is over, and why; a stop by the user is one line and no traceback."""
        self.ended = time.time()
        if isinstance(exception, _STOPPED):
            engines = "the engines are idle" if self.idle else "an engine goes on with its item"
            _say(exception, f"stopped {self.title} after {self.progress:,}; {engines}")
        super().set_exception(exception)
        self._remember(self.ended)

    def _remember(self, ended: float) -> None:
        global _last  # noqa: PLW0603 -- a process has one last call
        _last = Ended(
            *(self.id, self.title, self.total, self.engines, self.done_by_engine()),
            *(self.began, ended, self.state, self.failure, self.stream),
        )
        for shown in self.shown:
            shown.update(at_once=True)
        self.shown.clear()

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
