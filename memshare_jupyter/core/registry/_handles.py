"""Handles: the pages and views of this process, and what the ledger says of them.

A page ends by three steps: mark it released, withdraw its entry, unmap it. A view's entry is
withdrawn after its memory is unmapped, which is when the last array on it goes: at any moment,
in any thread.

A page that is being refilled is in none of the tables by which others find pages here: whoever
registers its name meanwhile makes another one, and whoever releases it takes it off the list, so
that the refill ends as a page of its own.
"""

from __future__ import annotations

import copy
import time
import warnings
import weakref
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from memshare_jupyter.core import _opened, blocks
from memshare_jupyter.core.blocks._reach import Reach
from memshare_jupyter.core.blocks._sweeping import Places
from memshare_jupyter.core.ledger import (
    PAGE,
    SLOT_BYTES,
    VIEW,
    Entry,
    Ledger,
    NameLocks,
    Reader,
    Session,
)
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import _format
from memshare_jupyter.core.registry._page import Mappings, Page
from memshare_jupyter.core.registry._turn import Turn
from memshare_jupyter.errors import MemshareError, NotEnoughMemoryError


class Handle:
    """One claim of this process on one page, and the slot that lists it.

    Attributes
    ----------
    page : Page
        The memory.
    entry : Entry
        What the ledger says of it.
    slot : int
        Where it says so.
    kept : bool
        Of a view: it ends by `detach`, not with the last array.
    lent : bool
        Of a page: arrays were made on its owner's own mapping, so it is never written anew.
    released : bool
        Of a page that ends: whether its name leads nowhere from then on.
    usable : bool
        False of what a forked child inherited from the owner, by whose mapping it could write:
        the child maps the page again before it gives out arrays.
    """

    __slots__ = ("entry", "kept", "lent", "page", "released", "slot", "usable")

    def __init__(self, page: Page, entry: Entry, slot: int) -> None:
        self.page = page
        self.entry = entry
        self.slot = slot
        self.kept = False
        self.lent = False
        self.released = True
        self.usable = True


class Handles:
    """The pages and views of this process, the ledger, and the turns to change them.

    Parameters
    ----------
    directory : Path
        The runtime directory.
    rebuild : callable
        Module-level function that a pickled view names.

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
    """

    def __init__(self, directory: Path, rebuild: Callable[..., Any]) -> None:
        self.rebuild = rebuild
        self.pages: dict[PageName, Handle] = {}
        self.views: dict[tuple[bytes, str], Handle] = {}
        self.ending: list[Handle] = []
        self.refilling: dict[Page, tuple[Handle, weakref.ref[Any]]] = {}
        self.names = NameLocks(directory)
        self.places = Places()
        self.ledger = Ledger(directory, _remove_file)
        self.reach = Reach(directory, self.ledger.mine.who.token)
        self.turn = Turn(self._begin, self._tidy, self._untidy, self.repair)
        self.mappings = Mappings(self.turn.settle)
        self._unsure = False  # an interrupt may have left ledger or tables half changed
        self._unlisted: Exception | None = None

    def publish(self, entry: Entry) -> int:
        """List an entry of this process; its slot.

        Raises
        ------
        NotEnoughMemoryError, RegistryCorruptError
            There is no room in the runtime directory, or no such directory.
        """
        try:
            if self._unlisted is not None:
                raise copy.copy(self._unlisted)
            return self.ledger.publish(entry)
        except OSError as error:
            self._explain(error, entry.name)
            raise

    def try_lock(self, names: Collection[PageName]) -> tuple[PageName, int] | None:
        """Lock names, see `NameLocks`.

        Raises
        ------
        NotEnoughMemoryError, RegistryCorruptError
            There is no room in the runtime directory, or no such directory.
        """
        try:
            return self.names.try_lock(names)
        except OSError as error:
            self._explain(error, next(iter(names)))
            raise

    def _explain(self, error: OSError, name: PageName) -> None:
        if error.errno in blocks.FULL:
            raise NotEnoughMemoryError(
                f"cannot list {name}: the file system of the runtime directory "
                f"{self.ledger.directory} has no room for another {SLOT_BYTES} bytes "
                f"({error.strerror}); remove other files there, or release pages",
                size_bytes=SLOT_BYTES,
                free_bytes=0,
            ) from error

    def publish_view(self, page: Page, entry: Entry) -> Handle:
        """List a view of this process; what was listed for that page and mode ends."""
        view = entry._replace(kind=VIEW, fd=page.block.fd, since=time.time())
        stale = self.views.pop((page.uuid, page.mode), None)
        handle = Handle(page, view, self.publish(view))
        self.views[page.uuid, page.mode] = handle
        if stale is not None:
            self.ledger.withdraw(stale.slot, stale.entry)
            stale.page.drop()
        return handle

    def drop_page(self, name: PageName, *, released: bool = True) -> None:
        """End this process's ownership of a page.

        Without `released`, whoever has a view of it can still be found by its name.
        """
        handle = self.pages[name]
        handle.released = released
        self.ending.append(handle)
        del self.pages[name]
        self.end_page(handle)

    def end_page(self, handle: Handle) -> None:
        """Take a page among those ending off the list; its arrays go on as a view."""
        try:
            if handle.released:
                handle.page.mark(_format.RELEASED)
            if handle.lent:
                handle.page.mode = "lent"
                self.publish_view(handle.page, handle.entry)
            self.ledger.withdraw(handle.slot, handle.entry)
        except BaseException:
            self._unsure = True
            raise
        finally:
            handle.page.drop()
        self.ending.remove(handle)  # last: what was broken off is done by `repair`

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
        mine = self.ledger.mine.who
        for session in found:
            if (
                session.who.pid_namespace != mine.pid_namespace
                or session.who.user_namespace != mine.user_namespace
            ):
                self.reach.foreign = True
        self.reach.look()
        return found

    def begin_in_child(self, *, whole: bool = True) -> None:
        """Make what a forked child inherited its own; `whole` unless it was just being changed."""
        self.ledger.abandon()
        self.reach = self.reach.in_child(self.ledger.mine.who.token)
        self.names.close()
        owned, self.pages = [*self.pages.values(), *self.ending], {}
        self.ending = []
        views, self.views = self.views, {}
        lost, self.refilling = self.refilling, {}
        self._unsure, self._unlisted = not whole, None
        for handle in views.values():
            if handle.page.mapped:
                self._inherit(handle)
        for handle in owned:
            if not handle.page.mapped:
                continue  # an interrupt in the parent
            # The inherited mapping can be written through, and its open file is the parent's: the
            # child lists the page, and maps it anew when somebody asks for it.
            handle.usable = False
            if handle.lent:  # the child has the arrays on it, too: it counts until they end
                handle.page.mode = "lent"
            elif (handle.page.uuid, "r") in self.views:
                handle.page.drop()
                continue
            else:
                handle.page.mode = "r"
                handle.kept = True
            self._inherit(handle)
            if handle.lent:
                handle.page.drop()
        self._close_others_work(lost)
        if self.views:
            try:
                self.ledger.relist()
            except (OSError, MemshareError) as error:
                self._unlisted = _alone(error)  # the next turn tries again

    def _close_others_work(self, refilling: Collection[Page]) -> None:
        in_flight = _opened.in_flight()
        mine = {handle.page for handle in self.views.values()} | self.mappings.dropped
        for page in set(self.mappings.made) - mine:
            page.abandon()
        held: set[Any] = {page.block for page in mine}
        for opened in _opened.known():
            if opened not in held:
                opened.close()
        if in_flight or refilling:
            keep = {block.uuid for block in held}
            blocks.close_strays(keep, {page.uuid for page in refilling})

    def _inherit(self, handle: Handle) -> None:
        """List a handle in the child, with everything else at once when all are known."""
        view = handle.entry._replace(kind=VIEW, fd=handle.page.block.fd, since=time.time())
        handle.entry, handle.slot = view, len(self.ledger.mine.table.slots)
        self.ledger.mine.table.put(handle.slot, view.pack(), view)
        self.views[handle.page.uuid, handle.page.mode] = handle

    def _begin(self) -> tuple[PageName, int] | None:
        """Begin a turn: be listed, and let nothing be left over from the last."""
        if self._unsure:
            self.repair()
        try:
            if self.ledger.is_listed():
                self._unlisted = None
            elif (locked := self._list_again()) is not None:
                return locked
            self._tidy()
        except BaseException:
            self._unsure = True
            self.names.unlock()
            raise
        return None

    def _list_again(self) -> tuple[PageName, int] | None:
        """List everything, after the session file was removed, or could not be made.

        Somebody may have registered one of the names while nobody could see that it was taken.
        Such a page is given up: two pages of one name would be worse.
        """
        self._unlisted = None
        self.ledger.unlist()  # its descriptor may be the only one to be had
        try:
            if (locked := self.names.try_lock(self.pages)) is not None:
                return locked
            try:
                for session in self.ledger.look():
                    for name in [n for n in self.pages if _owns(session, n)]:
                        self._give_up(name, session)
                self.ledger.relist()
            finally:
                self.names.unlock()
        except (OSError, MemshareError) as error:
            self._unlisted = _alone(error)  # what needs no list goes on; the next turn tries again
        return None

    def _give_up(self, name: PageName, session: Reader) -> None:
        try:
            self.drop_page(name)
        finally:  # also when the arrays on it cannot be listed
            warnings.warn(
                f"{name} is not a page of this process any more: the files in the runtime "
                f"directory were removed, and process {session.who.pid} registered that name "
                "meanwhile",
                RuntimeWarning,
                stacklevel=2,
            )

    def _untidy(self) -> bool:
        return bool(self.mappings.gone) or _opened.lost()

    def _tidy(self) -> None:
        gone = self.mappings.gone
        while gone:
            page = gone[0].page
            if page is not None:
                handle = self.views.get((page.uuid, page.mode))
                if handle is not None and handle.page is page:
                    self.ledger.withdraw(handle.slot, handle.entry)
                    del self.views[page.uuid, page.mode]
                page.close()
                self.mappings.dropped.discard(page)
            gone.popleft()  # last, so that an interrupt loses none
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
            if not handle.kept:
                handle.page.drop()
        for handle in [h for h in self.ending if self.pages.get(h.entry.name) is not h]:
            self._finish(handle)
        self.ending = []
        self.pages = {name: h for name, h in self.pages.items() if h.page.mapped}
        self.views = {key: h for key, h in self.views.items() if h.page.mapped}
        handles = (*self.pages.values(), *self.views.values())
        self.ledger.rewrite({handle.slot: handle.entry for handle in handles})
        self._unsure = False

    def _finish(self, handle: Handle) -> None:
        """End a page whose end was broken off; what it was listed as will be written anew."""
        page = handle.page
        if handle.released:
            page.mark(_format.RELEASED)
        if handle.lent and page.mapped and (page.uuid, "lent") not in self.views:
            page.mode = "lent"
            view = handle.entry._replace(kind=VIEW, fd=page.block.fd, since=time.time())
            self.views[page.uuid, "lent"] = Handle(page, view, handle.slot)
        page.drop()


def _alone(error: Exception) -> Exception:
    """Return an error without its traceback, whose frames keep what their callers have."""
    return copy.copy(error)


def _owns(session: Session | Reader, name: PageName) -> bool:
    return any(entry.kind == PAGE for entry in session.table.named(name))


def _remove_file(entry: Entry) -> None:
    """Remove the file of a page that a dead session listed, if nobody holds it."""
    if entry.backend == "file":
        blocks.reclaim(entry.place, entry.uuid)
