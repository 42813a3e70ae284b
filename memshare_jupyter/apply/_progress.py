"""How many items of a call are done: an output in a notebook, a bar in a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from memshare_jupyter.apply._shown import Shown
from memshare_jupyter.core.blocks import Notice
from memshare_jupyter.engines.local import in_kernel

if TYPE_CHECKING:
    from memshare_jupyter.apply._run import Run

_TELL_S: Final = 1.0
"""A run that takes so long is told of to other processes."""


class Progress:
    """Shows how far a call is once it has taken some time, and keeps what shows it up to date.

    Items, not messages, are counted: the engines write how many they have done into shared memory.
    Where nobody would see it move, in a script whose output goes into a file, there is no bar.

    Parameters
    ----------
    run : Run
        The call.
    after_s : float or None
        Show it after so many seconds; None means never.
    """

    def __init__(self, run: Run, after_s: float | None) -> None:
        self._run = run
        self._at = None if after_s is None else run.began + after_s
        self._bar: Any = None
        self._notice: Notice | None = None
        self._tell_at = run.began + _TELL_S

    def update(self) -> None:
        """Show what is done by now."""
        done = self._run.progress  # asked also where it is not shown: so it notes when it started
        for shown in self._run.shown:
            shown.update()
        if time.time() >= self._tell_at:
            self._tell_at = time.time() + _TELL_S / 2
            self._notice = self._notice or Notice()
            self._notice.write(_about(self._run, done))
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif self._at is not None and time.time() >= self._at:
            self._at = None
            if in_kernel():
                self._run.shown.append(Shown(self._run))
            else:
                self._bar = _bar(self._run)

    def close(self) -> None:
        """Leave the bar as it is, full or not."""
        if self._notice is not None:
            self._notice.close()
        if self._bar is not None:
            self.update()
            self._bar.close()


def _about(run: Run, done: int) -> str:
    """Tell other processes of a run: what ``memshare top`` shows."""
    about = {"pid": os.getpid(), "title": run.title, "total": run.total, "done": done}
    rate, state = run.rate(), run.state
    return json.dumps({**about, "began": run.began, "rate": rate, "state": state})


def _bar(run: Run) -> Any:
    # Imported here, because most calls are over before they need one.
    from tqdm.std import tqdm  # noqa: PLC0415

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no thread: we come by often enough

    bar = Bar(
        total=run.total, unit="item", disable=not sys.stderr.isatty(),
        smoothing=0,  # the mean of all: it begins with a jump, which is no speed
    )  # fmt: skip
    since, before = run.started or (time.time(), run.progress)
    bar.start_t, bar.initial = since, before
    bar.n = before
    return bar
