"""What `memshare top` shows: the runs of all kernels, cut to a window, in colour where there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from memshare_jupyter.core.blocks import notices
from memshare_jupyter.core.quantities import age, count
from memshare_jupyter.core.registry import PageInfo

_BAR: Final = 20
_COLOURS: Final = {
    "active": "32", "writable": "33", "draining": "31", "orphaned": "31",
    "running": "32", "queued": "33", "stopping": "31", "owner": "36", "kept": "2",
}  # fmt: skip
_WORD: Final = re.compile(rf"(?<![\w.-])({'|'.join(_COLOURS)})(?![\w.-])")


def runs_of(pages: Iterable[PageInfo]) -> list[dict[str, Any]]:
    """Return what the holders of pages say of their runs: who, what, how far, how fast.

    A run is told of when it has taken a second, and by processes of this pid namespace.
    """
    labels = {(h.pid, h.pid_namespace): h.label for page in pages for h in page.holders}
    found = []
    for (pid, space), label in labels.items():
        for text in notices(pid, space):
            try:
                run = json.loads(text)
            except ValueError:  # it is being written
                continue
            if isinstance(run, dict) and run.get("pid") == pid:  # and not its parent's
                found.append({"holder": label or "process", **run})
    return sorted(found, key=lambda run: run["began"])


def run_line(run: Mapping[str, Any]) -> str:
    """Write a run in a line.

    >>> run_line({"holder": "a.ipynb", "pid": 7, "title": "score over 40 columns", "total": 40,
    ...           "done": 10, "state": "running", "rate": 3.0, "began": 0})
    'a.ipynb (7)  score over 40 columns  #####---------------  10 of 40  3.0/s  10 s left  running'
    """
    done, total, rate = run["done"], run["total"], run["rate"]
    full = _BAR * done // max(1, total)
    parts = [
        f"{run['holder']} ({run['pid']})",
        run["title"],
        "#" * full + "-" * (_BAR - full),
        f"{done:,} of {total:,}",
        *([f"{rate:,.1f}/s", f"{age((total - done) / rate)} left"] if rate else []),
        run["state"],
    ]
    return "  ".join(parts)


def fitted(lines: Sequence[str], columns: int, rows: int, *, colour: bool) -> str:
    """Cut lines to a window, and paint them if it has colours; the first is the heading."""
    lines = list(lines)
    if len(lines) > rows - 1:
        more = len(lines) - (rows - 2)
        lines[rows - 2 :] = [f"... {count(more, 'line')} more; q ends this"]
    cut = [line if len(line) <= columns else f"{line[: columns - 1]}…" for line in lines]
    return "\n".join(_painted(cut) if colour else cut)


def _painted(lines: Sequence[str]) -> list[str]:
    first, *others = lines
    painted = [_WORD.sub(lambda m: f"\x1b[{_COLOURS[m[1]]}m{m[1]}\x1b[0m", one) for one in others]
    return [f"\x1b[1m{first}\x1b[0m", *painted]
