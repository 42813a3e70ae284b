"""Endings: whoever keeps views for later hears of pages that end, and lets go of them.

The core keeps nothing itself, and does not know who does. What it calls may wait a moment, until
other processes have let go, too; so that is done when no turn goes on.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final

Hook = Callable[[frozenset[bytes]], None]
"""Told the uuids of pages that end, or are about to."""

_hooks: Final[list[Hook]] = []


def when_pages_end(hook: Hook) -> None:
    """Have a function called when pages of this process end, or end if nobody else has them.

    It is called in whatever thread ends them, may wait a moment, and raises nothing.
    """
    _hooks.append(hook)


def let_go_of_kept(uuids: frozenset[bytes]) -> None:
    """Have everybody who keeps views of pages for later let go of them."""
    for hook in _hooks:
        hook(uuids)


class Endings:
    """What has ended and nobody was told of."""

    def __init__(self) -> None:
        self._ended: deque[bytes] = deque()

    def append(self, uuid: bytes) -> None:
        """Add a page, in a turn."""
        if _hooks:
            self._ended.append(uuid)

    def tell(self) -> None:
        """Tell of them, after the turn."""
        ended = set()
        while self._ended:
            with contextlib.suppress(IndexError):  # another thread was quicker
                ended.add(self._ended.popleft())
        if ended:
            let_go_of_kept(frozenset(ended))
