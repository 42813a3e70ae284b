"""A bar that shows how many items of a call are done."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memshare_jupyter.apply._run import Run


class Progress:
    """Shows a bar in the notebook or terminal once a call has taken some time.

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
        self._begin = time.time()
        self._at = None if after_s is None else self._begin + after_s
        self._bar: Any = None

    def update(self) -> None:
        """Show what is done by now."""
        if self._at is None or time.time() < self._at:
            return
        if self._bar is None:
            self._bar = _bar(self._run.total)
            self._bar.start_t = self._begin  # so that the rate is that of the whole call
        self._bar.update(self._run.progress - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is, full or not."""
        if self._bar is not None:
            self.update()
            self._bar.close()


def _bar(items: int) -> Any:
    # Imported here, because most calls are over before they need one. Not tqdm's auto: that takes
    # a script for a notebook if anything has imported ipykernel.
    in_notebook = _in_kernel()
    if in_notebook:
        from tqdm.notebook import tqdm  # noqa: PLC0415
    else:
        from tqdm.std import tqdm  # noqa: PLC0415

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0  # no thread: we come by often enough

    return Bar(total=items, unit="item", disable=not in_notebook and not sys.stderr.isatty())


def _in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
