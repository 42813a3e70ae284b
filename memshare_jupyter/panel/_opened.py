"""The panels of this process; to ask for them takes no widgets."""

from __future__ import annotations

import weakref
from typing import Any, Final

opened: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def close_all() -> None:
    """Close every panel of this process, as ``%unload_ext`` does."""
    for panel in list(opened):
        panel.close()
