"""Replicas: copies of pages of other hosts, and pages of this one that others copy.

A replica is a view whose page's owner is on another host: a copy of the whole block, trailer and
all, under the page's own uuid. So a reference leads to it, and so does the name, as to any page
whose owner is out of sight; and it is free when the last process of this host lets it go.

To make one:

1. reserve room, make the block, fill it with the page's bytes;
2. in a turn, map its end, seal it, publish it as a view that is kept.

While others copy a page, whoever serves it has it open (`pin`), so it is not refilled.
"""

from __future__ import annotations

import contextlib
import mmap
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from memshare_jupyter.core import blocks
from memshare_jupyter.core.ledger import PAGE, Entry, raise_if_unusable
from memshare_jupyter.core.registry import _claims as claims
from memshare_jupyter.core.registry import _format
from memshare_jupyter.core.registry._attach import Viewer
from memshare_jupyter.core.registry._handle import Handle
from memshare_jupyter.core.registry._handles import Handles
from memshare_jupyter.core.registry._opening import Wanted, Way, open_page
from memshare_jupyter.core.registry._page import Page
from memshare_jupyter.core.registry._snapshot import Snapshot
from memshare_jupyter.core.registry._tracebacks import alone
from memshare_jupyter.core.registry._turn import Turn, in_turn, in_turn_or_later
from memshare_jupyter.core.values import Reference


class Original(NamedTuple):
    """A page of this host, as other hosts need to know it.

    Attributes
    ----------
    entry : Entry
        What is listed of it.
    edition : int
        Which of its values it has.
    size_bytes : int
        How large the whole block is.
    """

    entry: Entry
    edition: int
    size_bytes: int


class _Made(NamedTuple):
    handle: Handle
    end: mmap.mmap
    state_at: int


class Replicas:
    """Makes, keeps and ends what this process has of pages of other hosts."""

    def __init__(self, handles: Handles, viewer: Viewer, look: Callable[[], Snapshot]) -> None:
        self._handles = handles
        self._viewer = viewer
        self._look = look
        self._made: dict[bytes, _Made] = {}

    @property
    def turn(self) -> Turn:
        """What the methods take."""
        return self._handles.turn

    def pin(self, wanted: Reference) -> tuple[Original, blocks.Segment]:
        """Open a page for others to copy it; whoever closes the block lets it go.

        Raises
        ------
        PageNotFoundError
            Nobody of this host has that value any more.
        """
        page = Wanted(wanted.name, wanted.uuid)
        opened = open_page(self._ways(page), "r", page)
        if opened.block is None or _format.edition_in(opened.block) != wanted.edition:
            if opened.block is not None:
                opened.block.close()
            raise claims.gone(wanted.name, wanted.uuid)
        original = Original(opened.entry, wanted.edition, opened.block.size_bytes)
        return original, opened.block

    @in_turn
    def _ways(self, page: Wanted) -> list[Way]:
        handles = self._handles
        found = page.find(handles.sessions())
        return [Way(handles.address(session, entry), entry, True) for session, entry in found]

    def keep(self, wanted: Reference) -> bool:
        """See to it that a page can be reached on this host; say whether it can.

        If its owner is on this host, that is so anyway. A replica of another process is viewed, so
        that it stays.

        Raises
        ------
        PageNotFoundError
            It has another value than the one that is wanted.
        """
        found = self._state(wanted)
        if found == "replica":
            taken = self._viewer.take(Wanted(wanted.name, wanted.uuid), "r", hold=True)
            if taken.handle.page.edition != wanted.edition:
                raise claims.gone(wanted.name, wanted.uuid)
        return found != "nowhere"

    def view(self, wanted: Reference) -> object:
        """Return what keeps a page on this host as long as it exists; raises as `attach` does."""
        return self._viewer.take(Wanted(wanted.name, wanted.uuid), "r", hold=False)

    @in_turn
    def _state(self, wanted: Reference) -> str:
        sessions = self._handles.sessions()
        living = {session.who.token for session in sessions}
        entries = [entry for session in sessions for entry in session.table.of(wanted.uuid)]
        if any(entry.kind == PAGE or entry.owner_token in living for entry in entries):
            return "page"
        return "replica" if entries else "nowhere"

    @contextlib.contextmanager
    def making(
        self, original: Original
    ) -> Iterator[tuple[blocks.Segment, Callable[[int], None], Callable[[], None]]]:
        """Make the block of a replica (step 1); nothing of it is left unless it was published.

        Yields the block, what is to be told how many bytes were filled, and what publishes it.

        Raises
        ------
        NotEnoughMemoryError
            There is too little memory on this host, and nothing was taken.
        """
        entry, size_bytes = original.entry, original.size_bytes
        what, (backend, place) = str(entry.name), blocks.choose()
        self._handles.places.use(place)
        runtime = self._handles.ledger.directory
        block: blocks.Segment | None = None
        published = False

        def publish() -> None:
            nonlocal published
            assert block is not None  # noqa: S101 -- made before it is yielded
            self._publish(block, entry)
            published = True

        try:
            with blocks.reserved(what, size_bytes, self._held, place, runtime=runtime) as filled:
                block = blocks.create(entry.uuid, size_bytes, backend, place)
                yield block, filled, publish
        except OSError as error:
            blocks.explain(error, what, size_bytes, self._held, place)
            raise
        finally:
            if block is not None and not published:
                block.close()

    def _held(self) -> str:
        return self._look().held

    @in_turn
    def _publish(self, block: blocks.Segment, entry: Entry) -> None:
        """Map, seal and list it (step 2)."""
        handles = self._handles
        end, state_at = _format.mark_of(block)
        block.seal(writable=False)
        page = Page(block, "r", handles.mappings)
        # Times of other hosts mean nothing here.
        created = max(time.time(), claims.newest(handles.sessions(), entry.name) + 1e-6)
        here = entry._replace(
            writable=False, created=created, backend=block.backend, place=block.place
        )
        try:
            handle = handles.publish_view(page, here)
        except BaseException:
            page.drop()
            raise
        if handles.unlisted is not None:  # other views go on unseen, but nobody would find this one
            page.drop()
            if isinstance(handles.unlisted, OSError):
                raise_if_unusable(handles.unlisted, handles.ledger.directory)
            raise alone(handles.unlisted)
        handle.held = True
        self._made[entry.uuid] = _Made(handle, end, state_at)

    @in_turn_or_later(lambda: None)
    def drop(self, uuid: bytes) -> None:
        """Let go of what this process keeps of a page; its name leads nowhere then."""
        made = self._made.pop(uuid, None)
        if made is not None:
            made.end[made.state_at] = _format.RELEASED
        handle = self._handles.views.get((uuid, "r"))
        if handle is not None:
            handle.held = False
            handle.page.drop()

    @in_turn
    def is_over(self, block: blocks.Segment) -> bool:
        """Say whether a pinned page was released or replaced, or nobody lists it any more."""
        if _format.state_in(block) == _format.RELEASED:
            return True
        return not any(session.table.of(block.uuid) for session in self._handles.sessions())
