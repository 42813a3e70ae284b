"""What a process holds: its pages and views, the lock over them, and how a claim ends.

The base of `owning` and `viewing`, which make up the `registry`. A page ends by three steps: mark
it released, withdraw its entry, unmap it. A view's entry is withdrawn after its memory is
unmapped, which is when the last array on it goes: at any moment, in any thread.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar

from memshare_jupyter.core import _descriptors
from memshare_jupyter.core.blocks import _block as segment
from memshare_jupyter.core.blocks._places import Places
from memshare_jupyter.core.ledger._ledger import Ledger, Session
from memshare_jupyter.core.ledger._namelock import NameLocks
from memshare_jupyter.core.ledger._runtime import runtime_directory
from memshare_jupyter.core.ledger._session import SessionFile
from memshare_jupyter.core.ledger._slot import VIEW, Entry
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import _page as pages
from memshare_jupyter.core.registry import _snapshot as snapshots
from memshare_jupyter.core.registry._page import Page
from memshare_jupyter.errors import MemshareError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Self = TypeVar("_Self", bound="Holdings")


def exclusive(
    method: Callable[Concatenate[_Self, _P], _R],
) -> Callable[Concatenate[_Self, _P], _R]:
    """Let one thread at a time into the methods of a registry, and leave the ledger right.

    Plain statements and not a context manager of ours: an interrupt between two of its steps
    could leave the lock taken for ever.
    """

    @functools.wraps(method)
    def change(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            with self._lock:
                try:
                    self._begin()
                    try:
                        return method(self, *args, **kwargs)
                    finally:
                        self._withdraw_unmapped()
                except MemshareError:
                    raise
                except BaseException:
                    self._unsure = True
                    self._repair()
                    raise
        except OSError as error:
            _descriptors.raise_if_run_out(error)
            raise
        finally:
            self._settle()

    return change


class Handle:
    """One claim of this process on one page, and the slot that lists it.

    ``kept`` says that the claim ends by `Registry.detach`, not with the last array; of a page, that
    arrays were made on the owner's own mapping.
    """

    __slots__ = ("entry", "kept", "page", "slot")

    def __init__(self, page: Page, entry: Entry, slot: int) -> None:
        self.page = page
        self.entry = entry
        self.slot = slot
        self.kept = False


class Holdings:
    """The pages and views of this process and their entries in the ledger.

    Parameters
    ----------
    rebuild : callable
        Module-level function that a pickled view names; it calls `attach_reference` of the registry
        of the process that unpickles.
    """

    def __init__(self, rebuild: Callable[..., Any]) -> None:
        self._rebuild = rebuild
        directory = runtime_directory()
        self._ledger = Ledger(SessionFile(directory))
        self._names = NameLocks(directory)
        self._places = Places(segment.reclaim)
        self._sweep(self._ledger.sessions())
        self._pages: dict[PageName, Handle] = {}
        self._views: dict[tuple[bytes, str], Handle] = {}
        # Not reentrant, and on purpose: an array may die, and so end its handle, at any moment,
        # also while this thread is in the middle of a change. See _settle.
        self._lock = threading.Lock()
        self._mappings = pages.Mappings(self._settle)
        self._snapshots = snapshots.Snapshots(self._was_released)
        self._closed = False
        self._unsure = False  # an interrupt may have left ledger or tables half changed

    @exclusive
    def snapshot(self) -> snapshots.Snapshot:
        """Return every page of this user on this host, and who holds it.

        Takes no handle. Dead processes' entries are gone at this look.
        """
        sessions = list(self._ledger.sessions())
        self._sweep(sessions)
        return self._snapshots.take(sessions, self._ledger.mine)

    def _sweep(self, sessions: Iterable[Session]) -> None:
        self._places.sweep(file for session in sessions for file in session.table.files())

    def _begin(self) -> None:
        """Begin a change: be listed, and let nothing be left over from the last."""
        self._ledger.file.assert_alive()
        if self._unsure:
            self._repair()
        self._withdraw_unmapped()

    def _settle(
        self, _: object = None, *, finalizing: Callable[[], bool] = sys.is_finalizing
    ) -> None:
        """Withdraw pages whose memory is gone, unless somebody is in the middle of a change.

        Runs when the last array on a page dies, in any thread and at any point. Whoever has
        the lock then settles it when letting go.
        """
        while self._mappings.gone and not finalizing() and not self._lock.locked():
            with self._lock:
                try:
                    self._withdraw_unmapped()
                except BaseException:
                    self._unsure = True
                    raise

    def _withdraw_unmapped(self) -> None:
        gone = self._mappings.gone
        while gone:
            page = gone[0].page
            if page is not None:
                handle = self._views.get((page.uuid, page.mode))
                if handle is not None and handle.page is page and not self._closed:
                    self._ledger.withdraw(handle.slot, handle.entry)
                    del self._views[page.uuid, page.mode]
                self._mappings.close(page)
            gone.popleft()  # last, so that an interrupt loses none

    def _repair(self) -> None:
        """List what is held and nothing else, after a failure or an interrupt anywhere."""
        if self._closed:
            return
        for handle in self._views.values():
            if not handle.kept:
                handle.page.drop()
        self._pages = {name: h for name, h in self._pages.items() if h.page.mapped}
        self._views = {key: h for key, h in self._views.items() if h.page.mapped}
        handles = (*self._pages.values(), *self._views.values())
        self._ledger.rewrite({handle.slot: handle.entry for handle in handles})
        self._unsure = False

    def _publish_view(self, page: Page, entry: Entry) -> Handle:
        view = entry._replace(kind=VIEW, fd=page.block.fd, since=time.time())
        stale = self._views.pop((page.uuid, page.mode), None)
        handle = Handle(page, view, self._ledger.publish(view))  # step 3
        self._views[page.uuid, page.mode] = handle
        if stale is not None:
            self._ledger.withdraw(stale.slot, stale.entry)
        return handle

    def _withdraw_page(self, handle: Handle) -> None:
        handle.page.mark(pages.RELEASED)
        if handle.kept:  # arrays of ours may still use it: then it goes on as a view
            handle.page.mode = "lent"
            self._publish_view(handle.page, handle.entry)
        self._ledger.withdraw(handle.slot, handle.entry)

    def _drop_page(self, name: PageName) -> None:
        handle = self._pages[name]
        try:
            self._withdraw_page(handle)
        finally:
            handle.page.drop()
            del self._pages[name]  # last, so that after an interrupt it can be released again

    def _was_released(self, session: Session, entry: Entry) -> bool:
        """Say whether a page whose owner is dead had been released before."""
        handle = self._views.get((entry.uuid, "r"))
        if handle is not None and handle.page.mapped:
            return handle.page.state == pages.RELEASED
        try:
            block = segment.attach(self._ledger.address(session, entry))
        except segment.SegmentGone:
            return True
        try:
            return pages.read_released(block)
        finally:
            block.close()
