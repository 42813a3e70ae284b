"""Errors that end at the line of the user who can mend them, and not in our own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from opcode import opmap
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_RAISE: Final = opmap["RAISE_VARARGS"]
_PACKAGE: Final = __name__.partition(".")[0]


def is_told(error: BaseException) -> bool:
    """Say whether a ``raise`` of this package made an error, so that its message says it all.

    What Python raises by itself inside the package is no such error, but a fault.
    """
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    if frames is None:
        return False
    frame = frames.tb_frame
    room = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return room == _PACKAGE and frame.f_code.co_code[frames.tb_lasti] == _RAISE


def pointing(function: Callable[P, R]) -> Callable[P, R]:
    """Let what this package tells point at its caller's line: the traceback has none of its own.

    Examples
    --------
    >>> @pointing
    ... def checked(number):
    ...     return 1 / number
    >>> checked(0)
    Traceback (most recent call last):
    ZeroDivisionError: division by zero
    """

    @functools.wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        __tracebackhide__ = True  # IPython's: no line of the user's
        try:
            return function(*arguments, **named)
        except Exception as error:
            if not is_told(error):
                raise
            raise error.with_traceback(None) from error.__cause__  # the message says it all

    return call
