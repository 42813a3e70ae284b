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
import copy
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterable
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
from memshare_jupyter.errors import MemshareError, NotEnoughMemoryError, RegistryBusyError


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
    forked : bool
        Of a page: a forked child has its open file, too, and lists it. The kernel does not tell
        the two apart, so it is never written anew.
    usable : bool
        False of what a forked child inherited from the owner, by whose mapping it could write:
        the child maps the page again before it gives out arrays.
    """

    __slots__ = ("entry", "forked", "kept", "lent", "page", "slot", "usable")

    def __init__(self, page: Page, entry: Entry, slot: int) -> None:
        self.page = page
        self.entry = entry
        self.slot = slot
        self.kept = False
        self.lent = False
        self.forked = False
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
    refilling : dict of Page to (Handle, weak reference)
        Its pages into which another value is being written, and on whose request.
    ended : bool
        Whether the process has another registry by now, or none: a handle that a call under way
        put here would be nobody's.
    """

    def __init__(self, directory: Path, rebuild: Callable[..., Any]) -> None:
        self.rebuild = rebuild
        self.pages: dict[PageName, Handle] = {}
        self.views: dict[tuple[bytes, str], Handle] = {}
        self.refilling: dict[Page, tuple[Handle, weakref.ref[Any]]] = {}
        self.names = NameLocks(directory)
        self.places = Places()
        self.ledger = Ledger(directory, _remove_file)
        self.reach = Reach(directory, self.ledger.mine.who.token)
        self.turn = Turn(self._begin, self._tidy, self._untidy, self.repair)
        self.mappings = Mappings(self.turn.settle)
        self.ended = False
        self._unsure = False  # an interrupt may have left ledger or tables half changed
        self._unlisted: Exception | None = None

    def publish(self, entry: Entry) -> int:
        """List an entry of this process; its slot.

        A view that cannot be listed is still a view: the kernel keeps its memory from being
        written anew, and the next turn tries to list it again. A page that nobody can see is an
        error.

        Raises
        ------
        NotEnoughMemoryError, RegistryCorruptError
            There is no room in the runtime directory, or no such directory.
        RegistryBusyError
            The registry was closed while the call was under way.
        """
        if self.ended:
            raise RegistryBusyError(
                f"{entry.name} came too late: the pages of this process were closed, as at exit "
                "or when the extension is unloaded, while the call was under way; call again"
            )
        try:
            if self._unlisted is not None:
                raise copy.copy(self._unlisted)
            return self.ledger.publish(entry)
        except (OSError, MemshareError) as error:
            if entry.kind == VIEW:
                self._unlisted = _bare(error)
                return self.ledger.note(entry)
            self._unsure = True  # a slot may have been written, and not its state
            if isinstance(error, OSError) and error.errno in blocks.FULL:
                raise self._no_room(entry, error) from error
            raise

    def _no_room(self, entry: Entry, error: OSError) -> NotEnoughMemoryError:
        return NotEnoughMemoryError(
            f"cannot list {entry.name}: the file system of the runtime directory "
            f"{self.ledger.directory} has no room for another {SLOT_BYTES} bytes "
            f"({error.strerror}); remove other files there, or release pages",
            size_bytes=SLOT_BYTES,
            free_bytes=0,
        )

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

    def withdraw_page(self, handle: Handle, *, released: bool = True) -> None:
        """Take a page of this process off the list; its arrays go on as a view.

        Without `released`, whoever has a view of it can still be found by its name.
        """
        if released:
            handle.page.mark(_format.RELEASED)
        if handle.lent:
            handle.page.mode = "lent"
            self.publish_view(handle.page, handle.entry)
        self.ledger.withdraw(handle.slot, handle.entry)

    def drop_page(self, name: PageName, *, released: bool = True) -> None:
        """End this process's ownership of a page."""
        handle = self.pages[name]
        try:
            self.withdraw_page(handle, released=released)
        finally:
            handle.page.drop()
            del self.pages[name]  # last, so that after an interrupt it can be released again

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

    def show_to(self, sessions: Iterable[Session | Reader]) -> None:
        """Let processes of other pid namespaces see this one: they serve a socket only then."""
        mine = self.ledger.mine.who.pid_namespace
        if self.ended or self.ledger.path is not None:
            return
        if any(s.who.pid_namespace != mine for s in sessions):
            with contextlib.suppress(OSError, MemshareError):
                self.ledger.relist()

    def begin_in_child(self) -> None:
        """Make what a forked child inherited its own."""
        self.ledger.abandon()
        self.reach = self.reach.in_child(self.ledger.mine.who.token)
        self.names.close()
        owned, self.pages = self.pages, {}
        views, self.views = self.views, {}
        lost, self.refilling = self.refilling, {}
        self._unsure, self._unlisted = False, None
        for handle in views.values():
            if handle.page.mapped:
                self._inherit(handle)
        for handle in owned.values():
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
                self._unlisted = _bare(error)  # the next turn tries again

    def _close_others_work(self, refilling: Iterable[Page]) -> None:
        for page in refilling:
            page.close_in_child()
        mine = {id(handle.page.block) for handle in self.views.values()}
        # A mapping may be gone and nobody told: by a thread that was just unmapping it.
        mine.update(id(page.block) for page in self.mappings.dropped if page.mapped)
        for opened in _opened.known():
            if id(opened) not in mine:
                opened.close()

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
        if not self.ledger.is_listed() and (locked := self._list_again()) is not None:
            return locked
        self._tidy()
        return None

    def _list_again(self) -> tuple[PageName, int] | None:
        """List everything, after the session file was removed, or could not be made.

        Somebody may have registered one of the names while nobody could see that it was taken.
        Such a page is given up: two pages of one name would be worse.
        """
        self._unlisted = None
        try:
            try:
                if (locked := self.names.try_lock(self.pages)) is not None:
                    return locked
                for session in self.ledger.look():
                    for name in [n for n in self.pages if _owns(session, n)]:
                        self._give_up(name, session)
                self.ledger.relist()
            finally:
                self.names.unlock()
        except (OSError, MemshareError) as error:
            self._unlisted = _bare(error)  # what needs no list goes on; the next turn tries again
        return None

    def _give_up(self, name: PageName, session: Reader) -> None:
        self.drop_page(name)
        warnings.warn(
            f"{name} is not a page of this process any more: the files in the runtime directory "
            f"were removed, and process {session.who.pid} registered that name meanwhile",
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


def let_go(error: BaseException | None) -> None:
    """Let what our own frames hold go, which the error's traceback would keep for long."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__", "").startswith("memshare_jupyter.core."):
                with contextlib.suppress(RuntimeError):  # it goes on
                    frame.clear()
        error = error.__cause__ or error.__context__


def _bare(error: Exception) -> Exception:
    """Return an error without its traceback, which would keep all frames up to the user's."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _owns(session: Session | Reader, name: PageName) -> bool:
    return any(entry.kind == PAGE for entry in session.table.named(name))


def _remove_file(entry: Entry) -> None:
    """Remove the file of a page that a dead session listed, if nobody holds it."""
    if entry.backend == "file":
        blocks.reclaim(entry.place, entry.uuid)
