"""Attach pages by name or reference, and detach them.

To attach a page:

1. in a turn, find an entry of that name (its owner's, or any viewer's when the owner has ended)
   or uuid;
2. open the block through the process that published the entry: it may have to be waited for;
3. in a turn, map it, publish the view and hold the mapping;
4. build the value, which may run code of others.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterable
from typing import Any, Final, get_args

from memshare_jupyter.core import _descriptors, blocks, values
from memshare_jupyter.core.ledger import VIEW, Entry
from memshare_jupyter.core.names import PageName, page_name
from memshare_jupyter.core.registry import _claims as claims
from memshare_jupyter.core.registry import _format
from memshare_jupyter.core.registry._handle import Handle, Taken
from memshare_jupyter.core.registry._handles import Handles
from memshare_jupyter.core.registry._opening import Opening, Wanted, Way, open_page, refuse_stopped
from memshare_jupyter.core.registry._page import Page
from memshare_jupyter.core.registry._reference import PageReference
from memshare_jupyter.core.registry._turn import Turn, in_turn, in_turn_or_later
from memshare_jupyter.errors import PageNotFoundError, UnsupportedValueError
from memshare_jupyter.errors.frames import clear_our_frames

_MODES: Final = get_args(blocks.Mode)


class Viewer:
    """Takes and ends the views of this process."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    @property
    def turn(self) -> Turn:
        """What the methods take."""
        return self._handles.turn

    def attach(
        self, namespace: str, variable: str, *, hold: bool = True, mode: blocks.Mode = "r"
    ) -> Any:
        """Return the value of a page, built on shared memory without a copy.

        An array comes as a `View`, a list as the `Elements` that build its arrays on demand.

        Parameters
        ----------
        namespace, variable : str
            The page's name.
        hold : bool
            Keep the handle until `detach`. Otherwise it ends with the last array on the page.
        mode : {"r", "r+", "c"}
            Read only; read and write; or write to a private copy of what is written to.

        Raises
        ------
        PageNotFoundError
            No living process has such a page.
        ReadOnlyPageError
            Mode "r+", and the page was not registered as writable.
        HeaderMismatchError
            The page was written by another version of this package.
        """
        return self.attach_all(namespace, [variable], hold=hold, mode=mode)[variable]

    def attach_all(
        self,
        namespace: str,
        variables: Iterable[str],
        *,
        hold: bool = True,
        mode: blocks.Mode = "r",
        whole: bool = False,
    ) -> dict[str, Any]:
        """Return the values of several pages, by variable: all, or none and an error.

        Parameters and errors are those of `attach`. With `whole`, a list comes as a list.
        """
        if mode not in _MODES:
            raise ValueError(f"mode must be 'r', 'r+' or 'c', as in numpy.memmap, not {mode!r}")
        names = [page_name(namespace, variable) for variable in variables]
        taken: list[Taken] = []
        try:
            taken.extend(self.take(Wanted(name), mode, hold=hold) for name in names)
            return self._build(taken, whole=whole)
        except BaseException as error:
            if hold:
                self._undo(taken)
            taken.clear()
            clear_our_frames(error)
            raise

    def _build(self, taken: list[Taken], *, whole: bool) -> dict[str, Any]:
        made = {}
        for one in taken:
            value = one.handle.page.value(one.name, self._handles.rebuild)
            made[one.name.variable] = values.whole(value) if whole else value
        return made

    def refer(self, namespace: str, variable: str) -> tuple[Any, PageReference]:
        """Return the value of a page, as `attach` does, and what leads other processes to it.

        Raises
        ------
        PageNotFoundError
            No living process has such a page.
        """
        name = page_name(namespace, variable)
        own = self._own(name)
        if own is not None:
            page, reference, _mapping = own
            return page.value(name, self._handles.rebuild), reference
        taken = self.take(Wanted(name), "r", hold=False)
        page = taken.handle.page
        value = page.value(name, self._handles.rebuild)
        return value, self._reference(name, page)

    @in_turn
    def _own(self, name: PageName) -> tuple[Page, PageReference, mmap.mmap] | None:
        """Return what `refer` needs of an own page, for which it need not look or map it anew.

        Not of objects: on memory that can be written to they may not be built.
        """
        handle = self._handles.pages.get(name)
        if handle is None or handle.page.state != _format.ACTIVE:
            return None
        if values.unpack_about(handle.entry.about).kind != "array":
            return None
        if (mapping := handle.page.hold()) is None:
            return None
        reference = self._reference(name, handle.page)
        handle.lead_by(reference)
        return handle.page, reference, mapping

    def _reference(self, name: PageName, page: Page) -> PageReference:
        return PageReference(self._handles.rebuild, (*name, page.uuid, page.edition, "r"))

    def refer_to(self, value: object) -> tuple[Any, PageReference] | None:
        """Return what `refer` does for a value that was attached here, and is still the same.

        None for any other value, and for one whose page can be written to.
        """
        if not self._handles.views:
            return None
        try:
            plan = values.Plan.of(value)  # runs code of others, so not in a turn
        except UnsupportedValueError:
            return None  # whoever registers it will hear why
        found = self._standing(plan)
        if found is None:
            return None
        name, *page = found
        return self.attach_reference(*found), PageReference(self._handles.rebuild, (*name, *page))

    @in_turn
    def _standing(self, plan: values.Plan) -> tuple[PageName, bytes, int, blocks.Mode] | None:
        for handle in self._handles.views.values():
            page = handle.page
            if page.mode == "r" and not handle.entry.writable and page.holds(plan):
                return handle.entry.name, page.uuid, page.edition, "r"
        return None

    def attach_reference(
        self,
        name: PageName,
        uuid: bytes,
        edition: int,
        mode: blocks.Mode,
        form: tuple[Any, ...] = (),
    ) -> Any:
        """Return a page that is known by its uuid, or an array in it: what unpickling does.

        Parameters
        ----------
        name : PageName
            For messages.
        uuid, edition : bytes, int
            The page, and which of its values.
        mode : {"r", "r+"}
            As the view that was sent.
        form : tuple, optional
            dtype, shape, strides and offset of the array; the whole value by default.

        Raises
        ------
        PageNotFoundError
            The last holder of the page has let it go.
        """
        taken = self.take(Wanted(name, uuid), mode, hold=False)
        page = taken.handle.page
        if page.edition != edition:
            raise claims.gone(name, uuid)
        if form:
            return page.array(name, self._handles.rebuild, form)
        return page.value(name, self._handles.rebuild)

    @in_turn_or_later(list)
    def detach(self, namespace: str, variables: Iterable[str]) -> list[str]:
        """End this process's views.

        Returns
        -------
        list of str
            The pages whose memory arrays of this process still use; their handles end with the
            last such array.

        Raises
        ------
        PageNotFoundError
            This process has no view of that name. Nothing was detached.
        """
        names = list(dict.fromkeys(page_name(namespace, variable) for variable in variables))
        found = {name: self._handles.views_of(name) for name in names}
        for name in names:
            if not found[name]:
                used = [h for h in self._handles.views.values() if h.page.in_use]
                have = [str(handle.entry.name) for handle in used]
                raise PageNotFoundError(
                    f"this process has no view of {name} (it has: {claims.listed(have)}); "
                    "attach it first",
                    name=str(name),
                )
        in_use = []
        for name, handles in found.items():
            for handle in handles:
                handle.held = False
                handle.page.drop()
            if any(handle.page.in_use for handle in handles):
                in_use.append(str(name))
        return in_use

    def take(self, wanted: Wanted, mode: blocks.Mode, *, hold: bool) -> Taken:
        """Attach a page, or use this process's handle on it."""
        begun, pause_s = time.monotonic(), 0.0005
        while True:
            found = self._look(wanted, mode, hold=hold)
            if isinstance(found, Taken):
                return found
            try:
                opened = open_page(found, mode, wanted)
            except OSError as error:
                _descriptors.raise_if_run_out(error)
                raise
            if opened.block is not None:
                return self._map(wanted, mode, opened.block, opened.entry, hold=hold)
            waited_s = time.monotonic() - begun
            if opened.busy:
                refuse_stopped(wanted.name, opened.entry, waited_s)
            elif waited_s > opened.patience_s:
                raise self._unreachable(wanted, opened)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.02)

    @in_turn
    def _look(self, wanted: Wanted, mode: blocks.Mode, *, hold: bool) -> Taken | list[Way]:
        """Return the page, or where it can be opened, if that may have to be waited for (step 1).

        A view of that uuid needs no look. Nor does what an earlier look saw, if it leads to an
        active page through its owner: that lives, and marks a page released before it withdraws it.
        """
        handles = self._handles
        if wanted.uuid is not None and (taken := self._held(wanted, mode, wanted.uuid, hold=hold)):
            return taken
        seen = wanted.seen(handles.ledger.known())
        if seen is not None and (seen[1].uuid, mode) not in handles.views:
            session, entry = seen
            if mode != "r+" or entry.writable:
                block = blocks.attach_at_once(handles.address(session, entry), mode == "r+")
                if block is not None:
                    page = Page(block, mode, handles.mappings)
                    if page.state == _format.ACTIVE:
                        return self._publish(wanted.name, page, entry, hold=hold)
                    page.drop()
        sessions = handles.sessions()
        living = {session.who.token for session in sessions}
        found = wanted.find(sessions)
        for _, entry in found:
            if (taken := self._held(wanted, mode, entry.uuid, hold=hold)) is not None:
                return taken
        handles.show_to(session for session, _ in found)
        return [
            Way(handles.address(session, entry), entry, entry.owner_token in living)
            for session, entry in found
        ]

    def _held(self, wanted: Wanted, mode: blocks.Mode, uuid: bytes, *, hold: bool) -> Taken | None:
        """Return this process's own view of a page; a name leads to none that was released."""
        handle = self._handles.views.get((uuid, mode))
        if handle is None or not (handle.usable and wanted.admits(handle.page.state)):
            return None
        if (mapping := handle.page.hold()) is None:
            return None
        self._handles.list_as(handle, VIEW)
        return self._taken(wanted.name, handle, mapping, hold=hold)

    @in_turn
    def _map(
        self, wanted: Wanted, mode: blocks.Mode, block: blocks.Segment, entry: Entry, *, hold: bool
    ) -> Taken:
        """Map and publish what was opened (step 3), unless another thread was quicker."""
        if (taken := self._held(wanted, mode, entry.uuid, hold=hold)) is not None:
            block.close()
            return taken
        page = Page(block, mode, self._handles.mappings)
        return self._publish(wanted.name, page, entry, hold=hold)

    def _publish(self, name: PageName, page: Page, entry: Entry, *, hold: bool) -> Taken:
        mapping = page.hold()
        assert mapping is not None  # noqa: S101 -- mapped just now
        try:
            handle = self._handles.publish_view(page, entry)
        except BaseException:
            page.drop()
            raise
        return self._taken(name, handle, mapping, hold=hold)

    def _taken(self, name: PageName, handle: Handle, mapping: mmap.mmap, *, hold: bool) -> Taken:
        taken = Taken(name, handle, handle.page.memory(mapping), handle.held)
        handle.held = handle.held or hold
        if not handle.held:
            handle.page.drop()  # what is taken keeps it until there are arrays, or an error
        return taken

    @in_turn
    def _undo(self, taken: list[Taken]) -> None:
        for one in taken:
            if not one.was_held:
                one.handle.held = False
                one.handle.page.drop()

    @in_turn
    def _unreachable(self, wanted: Wanted, opened: Opening) -> PageNotFoundError:
        if opened.gone is None:
            return claims.not_found(self._handles.sessions(), wanted.name, released=True)
        return PageNotFoundError(
            f"{wanted.name} is listed, but no process that holds it lets it be opened: "
            f"{opened.gone}",
            name=str(wanted.name),
        )
