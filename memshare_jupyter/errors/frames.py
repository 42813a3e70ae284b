"""Frames of ours in the traceback of an error: they let go of what they hold."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

_PACKAGE: Final = str(Path(__file__).parents[1]) + "/"


def clear_our_frames(error: BaseException) -> None:
    """Drop what our own functions hold, in an error and in those it came of.

    A notebook keeps the last traceback, and by the frames in it the views of a call. The frames
    of others, such as a generator of the user's, keep their variables for the debugger.
    """
    seen: set[int] = set()
    errors: list[BaseException | None] = [error]
    while errors:
        one = errors.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        errors += [one.__cause__, one.__context__]
        frames = one.__traceback__
        while frames is not None:
            if frames.tb_frame.f_code.co_filename.startswith(_PACKAGE):
                with contextlib.suppress(RuntimeError):  # it runs, and will clear itself
                    frames.tb_frame.clear()
            frames = frames.tb_next
