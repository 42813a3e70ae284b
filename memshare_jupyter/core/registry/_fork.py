"""What a fork does to a registry: the child holds as views what it inherited.

What other threads of the parent were making or writing is nothing to the child, and nobody would
ever let it go here.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from memshare_jupyter.core import _opened, blocks
from memshare_jupyter.core.ledger import VIEW, as_view
from memshare_jupyter.core.registry._handle import Handle
from memshare_jupyter.core.registry._handles import Handles
from memshare_jupyter.core.registry._page import Page
from memshare_jupyter.core.registry._tracebacks import alone
from memshare_jupyter.errors import MemshareError


def begin_in_child(handles: Handles, *, whole: bool) -> None:
    """Make what a forked child inherited its own; `whole` unless it was just being changed."""
    slots, since = handles.ledger.abandon().slots, time.time()
    handles.reach = handles.reach.in_child(handles.ledger.mine.who.token)
    handles.names.close()
    owned, handles.pages = [*handles.pages.values(), *handles.ending], {}
    handles.ending = []
    views, handles.views = handles.views, {}
    lost, handles.refilling = handles.refilling, {}
    handles.begin_anew(whole=whole)
    for handle in views.values():
        # What the parent keeps for later, the child has no use for.
        if handle.page.inherited and handle.page.in_use:
            _inherit(handles, handle, slots.get(handle.slot) or handle.entry.pack(), since)
    for handle in owned:
        if not handle.page.inherited:
            continue  # an interrupt in the parent
        # The inherited mapping can be written through, and its open file is the parent's: the
        # child lists the page, and maps it anew when somebody asks for it.
        handle.usable = False
        if handle.lent:  # the child has the arrays on it, too: it counts until they end
            handle.page.mode = "lent"
        elif (handle.page.uuid, "r") in handles.views:
            handle.page.drop()
            continue
        else:
            handle.page.mode = "r"
            handle.held = True
        _inherit(handles, handle, slots.get(handle.slot) or handle.entry.pack(), since)
        if handle.lent:
            handle.page.drop()
    _close_others_work(handles, lost)
    if handles.views:
        try:
            handles.ledger.relist()
        except (OSError, MemshareError) as error:
            handles.unlisted = alone(error)  # the next turn tries again


def _close_others_work(handles: Handles, refilling: Collection[Page]) -> None:
    in_flight = _opened.in_flight()
    mine = {handle.page for handle in handles.views.values()}
    # A mapping may be gone and nobody told: by a thread that was just unmapping it.
    mine.update(page for page in handles.mappings.dropped if page.mapped)
    made = set(handles.mappings.made)
    others = {page.address for page in made if page.mapped}
    unmapped = [page.abandon(others) for page in made - mine]
    held = {id(page.block) for page in mine}
    for opened in _opened.known():
        if id(opened) not in held:
            opened.close()
    if in_flight or refilling or any(unmapped):
        keep = {page.uuid for page in mine}
        blocks.close_strays(keep, {page.uuid for page in refilling})


def _inherit(handles: Handles, handle: Handle, slot: bytes, since: float) -> None:
    """List a handle in the child, with everything else at once when all are known."""
    fd = handle.page.block.fd
    handle.entry = handle.entry._replace(kind=VIEW, fd=fd, since=since)
    handle.slot = len(handles.ledger.mine.table.slots)
    handles.ledger.mine.table.put(handle.slot, as_view(slot, fd, since), handle.entry)
    handles.views[handle.page.uuid, handle.page.mode] = handle
