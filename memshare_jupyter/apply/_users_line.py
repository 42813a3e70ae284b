"""Where the user's own line is: warnings point at it, and not at what called us for it."""

from __future__ import annotations

import sys
from typing import Any, Final, NamedTuple

_NOT_THEIRS: Final = (__name__.partition(".")[0], "IPython")
"""Between the line of a magic and this package are frames of IPython."""


class UsersLine(NamedTuple):
    """A line, as `warnings.warn_explicit` takes it: with what it has warned of already."""

    filename: str
    lineno: int
    module: str
    registry: dict[Any, Any]


def users_line() -> UsersLine:
    """Return the innermost line that is neither ours nor IPython's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _module(frame.f_globals).partition(".")[0] in _NOT_THEIRS:
        frame = frame.f_back
    warned = frame.f_globals.setdefault("__warningregistry__", {})
    return UsersLine(frame.f_code.co_filename, frame.f_lineno, _module(frame.f_globals), warned)


def _module(variables: dict[str, Any]) -> str:
    return str(variables.get("__name__", ""))
