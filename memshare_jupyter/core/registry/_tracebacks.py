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
    made = copy.copy(error)
    # A copy has none, but with tblib, which dask installs, it has all.
    made.__traceback__ = made.__context__ = made.__cause__ = None
    return made
