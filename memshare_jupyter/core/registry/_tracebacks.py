"""An error that is kept: without its traceback, whose frames have mappings."""

from __future__ import annotations

import copy


def alone(error: Exception) -> Exception:
    """Return an error without its traceback, whose frames keep what their callers have."""
    made = copy.copy(error)
    # A copy has none, but with tblib, which dask installs, it has all.
    made.__traceback__ = made.__context__ = made.__cause__ = None
    return made
