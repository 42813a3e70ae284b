"""One line while engines start: what is being done, then how long it took.

In a notebook it is ordinary output, for good news is not red; what shows how far a call of the same
cell is takes its place. Elsewhere it goes to standard error: a script's output stays its own.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_left: tuple[int, str] | None = None
"""The cell in which the last line stands, and the id of its output."""


@contextmanager
def starting(what: str, *, quiet: bool) -> Iterator[None]:
    """Say what is being done, and how it ended."""
    say = _silence if quiet else _output() if in_kernel() else _standard_error
    begin = time.monotonic()
    say(f"{what} ... ", "")
    try:
        yield
    except BaseException:
        say(f"{what} ... ", "failed\n")
        raise
    say(f"{what} ... ", f"{time.monotonic() - begin:.1f} s\n")


def in_kernel() -> bool:
    """Say whether outputs can be renewed: in a notebook, and not in a terminal or a script."""
    return hasattr(_shell(), "kernel")


def take_output() -> str | None:
    """Return the id of this cell's line about a start, for somebody who renews it; once."""
    global _left
    (cell, output), _left = _left or (None, None), None
    return output if cell is not None and cell == _shell().execution_count else None


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _silence(_what: str, _end: str) -> None:
    pass


def _standard_error(what: str, end: str) -> None:
    sys.stderr.write(end or what)
    sys.stderr.flush()


def _output() -> Callable[[str, str], None]:
    global _left  # noqa: PLW0603 -- as above
    # Imported here: where this is shown there is one.
    from IPython.display import display, update_display  # noqa: PLC0415

    output = uuid.uuid4().hex
    _left = _shell().execution_count, output

    def say(what: str, end: str) -> None:
        show: Any = update_display if end else display
        show({"text/plain": (what + end).strip()}, raw=True, display_id=output)

    return say
