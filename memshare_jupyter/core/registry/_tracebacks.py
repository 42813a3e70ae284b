"""What an error keeps alive: its traceback has our frames, and they have mappings."""

from __future__ import annotations

import contextlib
import copy
import traceback


def let_go(error: BaseException | None) -> None:
    """Let what our own frames hold go, which the error's traceback would keep for long."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__", "").startswith("memshare_jupyter.core."):
                with contextlib.suppress(RuntimeError):  # it goes on
                    frame.clear()
        error = error.__cause__ or error.__context__


def alone(error: Exception) -> Exception:
    """Return an error without its traceback, whose frames keep what their callers have."""
    return copy.copy(error)
