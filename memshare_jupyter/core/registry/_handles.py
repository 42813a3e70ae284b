"""Handles: the pages and views of this process, and what the ledger says of them.

A page ends by three steps: mark it released, withdraw its entry, unmap it. A view's entry is
withdrawn after its memory is unmapped, which is when the last array on it goes: at any moment,
in any thread.

A page that is being refilled is in none of the tables by which others find pages here: whoever
registers its name meanwhile makes another one, and whoever releases it takes it off the list, so
that the refill ends as a page of its own.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, get_args

from memshare_jupyter.core import _opened, blocks
from memshare_jupyter.core.ledger import (
    VIEW,
    Entry,
    Ledger,
    NameLocks,
    Reader,
    Session,
    raise_if_unusable,
)
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import _format
from memshare_jupyter.core.registry._endings import Endings
from memshare_jupyter.core.registry._handle import Handle
from memshare_jupyter.core.registry._page import Mappings, Page
from memshare_jupyter.core.registry._tracebacks import alone
from memshare_jupyter.core.registry._turn import Turn
from memshare_jupyter.errors import MemshareError, RegistryBusyError

_MODES: Final = (*get_args(blocks.Mode), "lent")


class Handles:
    """The pages and views of this process, the ledger, and the turns to change them.

    Parameters
    ----------
    directory : Path
        The runtime directory.
    rebuild : callable
        Module-level function that a pickled view names.
    list_again : callable
        Lists everything anew when the session file is gone; the name that another process has
        locked or lists, too, and its pid, when that is to be tried again.

    Attributes
    ----------
    pages : dict of PageName to Handle
        What this process owns.
    views : dict of (uuid, mode) to Handle
        What it has attached, and what arrays of its own pages it still uses.
    ending : list of Handle
        Its pages that are not in the table any more, or will not be in a moment.
    refilling : dict of Page to (Handle, weak reference)
        Its pages into which another value is being written, and on whose request.
    endings : Endings
        The pages that have ended, until after the turn.
    unlisted : Exception or None
        Why the list could not be written.
    owes_look : bool
        Whether there was no descriptor to see that nobody else lists a page of this process.
    ended : bool
        Whether the process has another registry by now, or none.
    """

    def __init__(
        self,
        directory: Path,
        rebuild: Callable[..., Any],
        list_again: Callable[[Handles], tuple[PageName, int] | None],
    ) -> None:
        self.rebuild = rebuild
        self._list_again = list_again
        self.pages: dict[PageName, Handle] = {}
        self.views: dict[tuple[bytes, str], Handle] = {}
        self.ending: list[Handle] = []
        self.refilling: dict[Page, tuple[Handle, weakref.ref[Any]]] = {}
        self.names = NameLocks(directory)
        self.places = blocks.Places(blocks.reclaim)
        self.ledger = Ledger(directory, blocks.remove_leftovers)
        self.reach = blocks.Reach(directory, self.ledger.mine.who.token)
        self.endings = Endings()
        self.turn = Turn(self._begin, self._tidy, self._untidy, self.repair, self.endings.tell)
        self.mappings = Mappings(self.turn.settle)
        self.ended = False
        self._unsure = False  # an interrupt may have left ledger or tables half changed
        self.unlisted: Exception | None = None
        self.owes_look = False

    def begin_anew(self, *, whole: bool) -> None:
        """Forget what was amiss, in a forked child; `whole` unless it was just being changed."""
        self._unsure, self.unlisted, self.owes_look = not whole, None, False

    def refuse_late(self, name: PageName) -> None:
        """Raise `RegistryBusyError` if the registry was closed while the call was under way."""
        if self.ended:  # another registry of this process may have the name by now
            raise RegistryBusyError(
                f"{name} came too late: the pages of this process were closed, as at exit or when "
                "the extension is unloaded, while the call was under way; call again"
            )

    def publish(self, entries: list[Entry]) -> list[int]:
        """List pages of this process, all or none and an error; their slots.

        Raises
        ------
        NotEnoughMemoryError, RegistryCorruptError
            There is no room in the runtime directory, or no such directory: nobody would see them.
        RegistryBusyError
            The registry was closed while the call was under way.
        """
        for entry in entries:
            self.refuse_late(entry.name)
        try:
            if self.unlisted is not None:
                raise alone(self.unlisted)
            return self.ledger.publish(entries)
        except (OSError, MemshareError) as error:
            self._unsure = True  # slots may have been written, and not their state
            if isinstance(error, OSError):
                raise_if_unusable(error, self.ledger.directory)
            raise

    def publish_view(self, page: Page, entry: Entry) -> Handle:
        """List a view of this process; what was listed for that page and mode ends.

        One that cannot be listed is still a view: the kernel keeps its memory from being written
        anew, and the next turn tries to list it again.

        Raises
        ------
        RegistryBusyError
            The registry was closed while the call was under way.
        """
        self.refuse_late(entry.name)
        view = entry._replace(kind=VIEW, fd=page.block.fd, since=time.time())
        stale = self.views.pop((page.uuid, page.mode), None)
        handle = Handle(page, view, self._list(view))
        self.views[page.uuid, page.mode] = handle
        if stale is not None:
            self.ledger.withdraw(stale.slot, stale.entry)
            stale.page.drop()
        return handle

    def _list(self, view: Entry) -> int:
        if self.unlisted is None:
            try:
                return self.ledger.publish([view])[0]
            except (OSError, MemshareError) as error:
                self.unlisted = alone(error)
        return self.ledger.note(view)

    def drop_page(self, name: PageName, *, released: bool = True) -> None:
        """End this process's ownership of a page.

        Without `released`, whoever has a view of it can still be found by its name.
        """
        handle = self.pages[name]
        handle.released = released
        self.ending.append(handle)
        del self.pages[name]
        self.end_page(handle)

    def again(self, page: Page) -> Page:
        """Return a page opened and mapped once more, for a handle of its own."""
        who, block = self.ledger.mine.who, page.block
        place = block.place or str(self.ledger.directory)
        address = blocks.Address(
            page.uuid, who.pid, who.pid_namespace, block.fd, who.token, block.backend, place
        )
        return Page(blocks.attach(address), "r", self.mappings)

    def end_page(self, handle: Handle) -> None:
        """Take a page among those ending off the list; its arrays go on as a view."""
        try:
            if handle.released and not handle.adopted:
                handle.page.mark(_format.RELEASED)
            if handle.in_use:
                handle.page.mode = "lent"
                self.publish_view(handle.page, handle.entry)
            self.ledger.withdraw(handle.slot, handle.entry)
            self.endings.append(handle.page.uuid)
        except BaseException:
            self._unsure = True
            raise
        finally:
            handle.page.drop()
        self.ending.remove(handle)  # last: what was broken off is done by `repair`

    def list_as(self, handle: Handle, kind: int) -> None:
        """List a view as used (`VIEW`), or as kept for later (`KEPT`)."""
        if handle.entry.kind != kind:
            handle.entry = handle.entry._replace(kind=kind)
            self.ledger.replace(handle.slot, handle.entry)

    def views_of(self, name: PageName) -> list[Handle]:
        """Return the views of a name that this process uses, in all modes and of all its pages."""
        uuids = {entry.uuid for entry in self.ledger.mine.table.named(name)}
        keys = ((uuid, mode) for uuid in uuids for mode in _MODES)
        return [self.views[k] for k in keys if k in self.views and self.views[k].page.in_use]

    def refills_of(self, name: PageName) -> list[Handle]:
        """Return the pages of that name that are being refilled and are listed meanwhile."""
        return [
            handle
            for handle, _ in self.refilling.values()
            if handle.entry.name == name
            and self.ledger.mine.table.entry(handle.slot) is handle.entry
        ]

    def address(self, session: Session | Reader, entry: Entry) -> blocks.Address:
        """Return where the block of an entry is reached through the session that lists it."""
        who = session.who
        # Seen from here: another session may know the runtime directory by another path.
        place = entry.place or str(self.ledger.directory)
        return blocks.Address(
            entry.uuid, who.pid, who.pid_namespace, entry.fd, who.token, entry.backend, place
        )

    def sessions(self) -> list[Session | Reader]:
        """Return every living session, this process's first, up to date."""
        found = list(self.ledger.sessions())
        for session in found:
            self.reach.met(session.who.pid_namespace, session.who.user_namespace)
        if self.reach.needed() and self.be_listed():
            self.reach.serve()
        return found

    def sweep(self, sessions: Iterable[Session | Reader]) -> None:
        """Remove page files that dead processes had not listed yet, or no more."""
        self.places.sweep(file for session in sessions for file in session.table.files())

    def show_to(self, sessions: Iterable[Session | Reader]) -> None:
        """Let processes of other pid namespaces see this one: they serve a socket only then."""
        mine = self.ledger.mine.who.pid_namespace
        if any(session.who.pid_namespace != mine for session in sessions):
            self.be_listed()

    def be_listed(self) -> bool:
        """Have a session file although there may be nothing to list; say whether there is one.

        Pages are listed at the beginning of a turn or not at all: somebody may have their names.
        Nothing lies beside a session file but what is its process's: whoever looks when that has
        ended removes it.
        """
        if self.ledger.path is None and not (self.ended or self.pages):
            with contextlib.suppress(OSError, MemshareError):
                self.ledger.relist()
        return self.ledger.path is not None

    def _begin(self) -> tuple[PageName, int] | None:
        """Begin a turn: be listed, and let nothing be left over from the last."""
        if self._unsure:
            self.repair()
        try:
            if self.ledger.is_listed() and not self.owes_look:
                self.unlisted = None
                return None
            return self._list_again(self)
        except BaseException:
            self._unsure = True
            self.names.unlock()
            raise

    def _untidy(self) -> bool:
        return bool(self.mappings.gone) or _opened.lost()

    def _tidy(self) -> None:
        gone = self.mappings.gone
        while gone:
            ended = gone[0]
            page = ended.page
            if page is not None:
                handle = self.views.get((page.uuid, page.mode))
                if handle is not None and handle.page is page:
                    self.ledger.withdraw(handle.slot, handle.entry)
                    del self.views[page.uuid, page.mode]
                page.close()
                self.mappings.dropped.discard(page)
            gone.popleft()  # last, so that an interrupt loses none
            ended.page = None  # or each would keep the other until garbage is collected
        if _opened.lost():
            _opened.close_lost()
        for page, (handle, request) in list(self.refilling.items()):
            if request() is None:  # an interrupt broke off its end, too
                self.ledger.withdraw(handle.slot, handle.entry)
                page.drop()
                del self.refilling[page]

    def repair(self) -> None:
        """List what is held and nothing else, after a failure or an interrupt anywhere."""
        self._unsure = True
        self.names.unlock()
        for handle in self.views.values():
            if not handle.held:
                handle.page.drop()
        for handle in [h for h in self.ending if self.pages.get(h.entry.name) is not h]:
            self._finish(handle)
        self.ending = []
        self.pages = {name: h for name, h in self.pages.items() if h.page.mapped}
        self.views = {key: h for key, h in self.views.items() if h.page.mapped}
        listed = self.ledger.mine.table.entry
        done = {handle.page for handle in self.pages.values()}
        refilled = [
            handle
            for page, (handle, _) in self.refilling.items()
            if page not in done and listed(handle.slot) is handle.entry
        ]
        handles = (*self.pages.values(), *self.views.values(), *refilled)
        self.ledger.rewrite({handle.slot: handle.entry for handle in handles})
        for name, handle in list(self.pages.items()):
            if handle.page.state == _format.RELEASED:  # nobody could attach what is listed
                self.drop_page(name)
        self._unsure = False

    def _finish(self, handle: Handle) -> None:
        """End a page whose end was broken off; what it was listed as will be written anew."""
        page = handle.page
        if handle.released and not handle.adopted:
            page.mark(_format.RELEASED)
        if handle.in_use and page.mapped and (page.uuid, "lent") not in self.views:
            page.mode = "lent"
            view = handle.entry._replace(kind=VIEW, fd=page.block.fd, since=time.time())
            self.views[page.uuid, "lent"] = Handle(page, view, handle.slot)
        page.drop()
