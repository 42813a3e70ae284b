"""Views that are kept: mapped although nobody uses them, so that the next use need not map them.

Whoever has the mapping of a view keeps it. While it is not used, lists say so (`KEPT`), it is not
among the views of this process, and its memory is still its owner's: whoever keeps it lets it
go when the owner does, see `_endings`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

from memshare_jupyter.core.ledger import KEPT, VIEW
from memshare_jupyter.core.registry import _format
from memshare_jupyter.core.registry._handles import Handles
from memshare_jupyter.core.registry._turn import Turn, in_turn


class Keeper:
    """Gives out what keeps views of this process."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    @property
    def turn(self) -> Turn:
        """What the methods take."""
        return self._handles.turn

    @in_turn
    def keep(self, uuid: bytes) -> mmap.mmap | None:
        """Return what keeps this process's read-only view of a page, as long as there is that.

        None if there is no such view, or the page has ended.
        """
        handle = self._handles.views.get((uuid, "r"))
        if handle is None or not handle.usable or handle.page.state != _format.ACTIVE:
            return None
        return handle.page.mapping

    @in_turn
    def rest(self, uuids: Iterable[bytes], *, look: bool = False) -> list[bytes]:
        """List views as kept if they are not used now; return those whose pages have ended.

        Owners say in the page that they release it. That one has died is only seen by a `look` at
        all processes.
        """
        handles = self._handles
        living = {session.who.token for session in handles.sessions()} if look else None
        ended = []
        for uuid in uuids:
            handle = handles.views.get((uuid, "r"))
            if handle is None or not handle.page.mapped:
                ended.append(uuid)
                continue
            handles.list_as(handle, VIEW if handle.page.in_use else KEPT)
            lives = living is None or handle.entry.owner_token in living
            if handle.page.state != _format.ACTIVE or not lives:
                ended.append(uuid)
        return ended
