"""How far a call is, in a notebook: an output that renews itself, and stays when all is over.

It is plain HTML and no widget, so a notebook that is opened again, or whose kernel was restarted,
shows what was last known.
"""

from __future__ import annotations

import html
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from memshare_jupyter.engines.local import take_output

if TYPE_CHECKING:
    from memshare_jupyter.apply._run import Run

_STEP_S: Final = 0.25
"""It is renewed at most so often: servers limit the rate of messages."""
_COLOURS: Final = {"failed": "var(--jp-error-color1,#d32f2f)"}


class Shown:
    """An output that shows a run.

    Parameters
    ----------
    run : Run
        What to show.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._text = ""
        self._next = 0.0
        output = take_output()  # that engines were started is old news then
        self._id = output or uuid.uuid4().hex
        self._display(update=output is not None)

    def update(self, *, at_once: bool = False) -> None:
        """Show what is known by now, unless that was done a moment ago."""
        if at_once or time.monotonic() >= self._next:
            self._display(update=True)

    def _display(self, *, update: bool) -> None:
        # Imported here: where this is shown there is one.
        from IPython.display import display, update_display  # noqa: PLC0415

        self._next = time.monotonic() + _STEP_S
        text = about(self._run)
        if text == self._text:
            return
        self._text = text
        show: Any = update_display if update else display
        show(_bundle(self._run, text), raw=True, display_id=self._id)


def about(run: Run) -> str:
    """Say in one line how far a run is, or how it ended."""
    done, total = run.progress, run.total
    took_s = (run.ended or time.time()) - run.began
    if run.state == "done":
        return f"{run.title}: done in {_span(took_s)}"
    if run.ended is not None:
        reason = f": {run.failure}" if run.failure else ""
        return f"{run.title}: {run.state} after {done:,} of {total:,}, {_span(took_s)}{reason}"
    parts = [f"{run.title}: {done:,} of {total:,}"]
    if run.state == "queued" and (ahead := run.ahead()) is not None:
        parts.append(f"queued behind {ahead.title}")
    elif (rate := run.rate()) is not None:
        parts += [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"]
        parts += [f"{_span((total - done) / rate)} left"]
    return ", ".join(parts)


def _bundle(run: Run, text: str) -> dict[str, str]:
    done, total = (1, 1) if run.state == "done" else (run.progress, max(1, run.total))
    colour = _COLOURS.get(run.state, "inherit")
    bar = (
        f'<progress value="{done}" max="{total}" aria-label="{html.escape(run.title)}" '
        'style="width:12em;vertical-align:middle;accent-color:var(--jp-brand-color1,auto)">'
        "</progress>"
    )
    return {
        "text/plain": text,
        "text/html": f'<div class="memshare-run" style="color:{colour}">{bar} '
        f"{html.escape(text)}</div>",
    }


def _span(seconds: float) -> str:
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    for unit, length_s, until in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < until:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
