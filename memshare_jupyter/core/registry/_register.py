"""Register, fill, replace and release pages.

To register a page:

1. lay out the value, make its block, fill it;
2. in a turn, lock its name;
3. look for another living owner of the name;
4. map the block, seal it, publish the page, and look for another owner once more;
5. if this process had a page of that name: mark that one released, withdraw it, unmap it;
6. unlock the name.

To register a value of the same size again: if the kernel says that nobody else has the page,
take it out of the tables, write the value into it, and go on with step 2.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memshare_jupyter.core import _descriptors, blocks
from memshare_jupyter.core.ledger import about_room
from memshare_jupyter.core.names import PageName, page_name
from memshare_jupyter.core.registry import _claims as claims
from memshare_jupyter.core.registry import _format
from memshare_jupyter.core.registry._endings import let_go_of_kept
from memshare_jupyter.core.registry._handle import Handle
from memshare_jupyter.core.registry._handles import Handles
from memshare_jupyter.core.registry._request import Request, plan_of
from memshare_jupyter.core.registry._snapshot import Snapshot
from memshare_jupyter.core.registry._turn import Turn, in_turn, in_turn_or_later, pauses, wait_for
from memshare_jupyter.core.values import Plan, View
from memshare_jupyter.errors.frames import clear_our_frames


class Owner:
    """Makes and ends the pages of this process."""

    def __init__(self, handles: Handles, look: Callable[[], Snapshot]) -> None:
        self._handles = handles
        self._look = look

    @property
    def turn(self) -> Turn:
        """What the methods take."""
        return self._handles.turn

    def register(
        self,
        namespace: str,
        variables: Mapping[str, Any],
        *,
        writable: bool = False,
        replace: bool = True,
        backend: str | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        """Put values into shared memory; this process owns the pages.

        Registering a name again replaces its page: views taken before keep the old values.
        Parameters and errors are those of `register_variables`; with `replace` off, a page of
        this process that has one of the names is an error, too.
        """
        names = [page_name(namespace, variable) for variable in variables]
        requests = [
            Request(name, plan_of(name, value), writable)
            for name, value in zip(names, variables.values(), strict=True)
        ]
        self._register(requests, replace=replace, backend=backend, directory=directory)

    def register_file(
        self, namespace: str, variable: str, path: Path, *, writable: bool = False
    ) -> None:
        """Put the array of a ``.npy`` file into shared memory, without a copy of it in between.

        Raises
        ------
        FileNotFoundError, UnsupportedValueError
            There is no such file, or it is not one of an array of plain data.
        """
        name = page_name(namespace, variable)
        self._register([Request(name, Plan.file(path), writable)])

    def empty(
        self,
        namespace: str,
        variable: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        order: Literal["C", "F"],
        *,
        writable: bool = False,
    ) -> View:
        """Register an array of zeros and return it, for this process to fill in place.

        The array can be written to, also when others cannot; it stays valid after the page was
        released.
        """
        plan = Plan.empty(shape, dtype, order)
        request = Request(page_name(namespace, variable), plan, writable, lend=True)
        self._register([request])
        assert request.lent is not None  # noqa: S101 -- as asked for
        return request.lent

    def adopt_block(
        self,
        namespace: str,
        variable: str,
        block: blocks.Segment,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        """Register an array, in C order, that a block of this process holds from its first byte.

        The block is the page's from now on, also after an error, and nobody can write to it any
        more.

        Raises
        ------
        InvalidNameError, PageExistsError
            As `register` does.
        """
        request = Request(page_name(namespace, variable), Plan.empty(shape, dtype, "C"))
        request.block = block
        with self._finished([request]):
            about_room(request.name, block.place)
            block.grow(_format.page_bytes(request.plan))
            end = _format.tail(request.plan, block.uuid, 0)
            blocks.write_at(block, end, request.plan.size_bytes)
            self._own([request], replace=True)

    @in_turn_or_later(lambda: None)
    def release(self, namespace: str, variables: Iterable[str]) -> None:
        """End this process's ownership; memory that nobody views is free at once.

        Raises
        ------
        PageNotFoundError
            There is no such page. Nothing was released.
        NotOwnerError
            Another process owns it. Nothing was released.
        """
        handles = self._handles
        names = [page_name(namespace, variable) for variable in variables]
        for name in names:
            if name not in handles.pages and not handles.refills_of(name):
                raise claims.not_mine(handles.sessions(), name)
        for name in dict.fromkeys(names):
            if name in handles.pages:
                handles.drop_page(name)
            for handle in handles.refills_of(name):
                handles.ledger.withdraw(handle.slot, handle.entry)

    def _register(
        self,
        requests: list[Request],
        *,
        replace: bool = True,
        backend: str | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        chosen, place = blocks.choose(backend, directory)
        for request in requests:
            about_room(request.name, place)
        with self._finished(requests):
            if replace and (kept := self._begin_refills(requests, chosen, place)):
                let_go_of_kept(kept)
                self._begin_refills(requests, chosen, place)
            self._fill(requests, chosen, place)
            for request in requests:
                if request.refilled is not None:  # last, since it is what cannot be undone
                    request.refilled.page.refill(request.plan)
            self._own(requests, replace=replace)

    @contextlib.contextmanager
    def _finished(self, requests: list[Request]) -> Iterator[None]:
        """Let go of what no table has in the end: after an error, and of pages replaced."""
        try:
            try:
                yield
            except BaseException as error:
                for request in requests:
                    request.lent = None
                clear_our_frames(error)
                raise
        except OSError as error:
            _descriptors.raise_if_run_out(error)
            raise
        finally:
            for request in requests:
                if request.block is not None:
                    request.block.close()
            if any(request.page or request.refilled for request in requests):
                self._end_unowned(requests)

    def _fill(self, requests: list[Request], backend: blocks.Backend, place: str) -> None:
        """Make and fill the blocks of new pages (step 1)."""
        fresh = [request for request in requests if request.refilled is None]
        if not fresh:
            return
        what = ", ".join(str(request.name) for request in fresh)
        needed = sum(_format.page_bytes(request.plan) for request in fresh)
        self._handles.places.use(place)
        runtime = self._handles.ledger.directory
        try:
            with blocks.reserved(what, needed, self._held, place, runtime=runtime) as filled:
                for request in fresh:
                    plan, number = request.plan, os.urandom(16)
                    contents = _format.Contents(plan, _format.tail(plan, number, 0))
                    request.block = blocks.create(number, contents.size_bytes, backend, place)
                    _descriptors.keep_spare(2 * request.block.fd)  # its mapping may take another
                    blocks.fill(request.block, contents, filled)
        except OSError as error:
            blocks.explain(error, what, needed, self._held, place)
            raise

    def _held(self) -> str:
        return self._look().held

    @in_turn
    def _begin_refills(
        self, requests: list[Request], backend: blocks.Backend, place: str
    ) -> frozenset[bytes]:
        """Take pages that can be written anew out of the table; return those that others have."""
        handles, others = self._handles, []
        for request in requests:
            handle = handles.pages.get(request.name)
            if handle is None or not request.fits(handle, backend, place):
                continue
            # Known before it is done, so that an interrupt leaves nobody waiting for a lock.
            request.refilled, request.edition = handle, handle.page.edition
            handles.refilling[handle.page] = (handle, weakref.ref(request))
            if handle.page.block.try_alone():
                del handles.pages[request.name]
            else:
                del handles.refilling[handle.page]
                request.refilled = None
                others.append(handle.page.uuid)
        return frozenset(others)

    def _own(self, requests: list[Request], *, replace: bool) -> None:
        """List pages under their names (steps 2 to 6)."""
        waits = pauses()
        while (locked := self._try_own(requests, replace=replace)) is not None:
            wait_for(locked, waits)

    @in_turn
    def _try_own(self, requests: list[Request], *, replace: bool) -> tuple[PageName, int] | None:
        """List pages under their names, unless another process has one of these locked."""
        handles = self._handles
        names = [request.name for request in requests]
        for name in names:
            handles.refuse_late(name)
        try:
            if (locked := handles.names.try_lock(names)) is not None:  # step 2
                return locked
            sessions = claims.of_names(handles.sessions(), names)
            claims.refuse_rivals(sessions, names, myself=not replace)  # step 3
            made = self._publish(requests, sessions)
            try:
                for request in (request for request in requests if request.lend):
                    request.lend_from(made[request.name], handles.rebuild)
                claims.refuse_late_rivals(handles.sessions(), names)
            except BaseException as error:
                for handle in made.values():
                    handles.ledger.withdraw(handle.slot, handle.entry)
                if isinstance(error, claims.Rival):
                    return error.found
                raise
            old = [handles.pages[name] for name in made if name in handles.pages]
            old_refills = [handle for name in made for handle in handles.refills_of(name)]
            handles.ending.extend(old)  # which means nothing as long as they are in the table
            handles.pages.update(made)  # all at once; after a failure before this, none
            for handle in old:  # step 5
                handles.end_page(handle)
            for handle in old_refills:
                handles.ledger.withdraw(handle.slot, handle.entry)
            self._end(requests)
        finally:
            handles.names.unlock()
        return None

    def _publish(self, requests: list[Request], sessions: list[Any]) -> dict[PageName, Handle]:
        """Map, seal and list pages (step 4); the handles are in no table yet."""
        handles = self._handles
        pages = [request.mapped(handles.mappings) for request in requests]
        entries = [
            request.entry(page, handles.ledger.mine.who, claims.newest(sessions, request.name))
            for request, page in zip(requests, pages, strict=True)
        ]
        made = zip(pages, entries, handles.publish(entries), strict=True)
        return {entry.name: Handle(page, entry, slot) for page, entry, slot in made}

    def _end(self, requests: list[Request]) -> None:
        """Let go of what is not in the table: new pages, and refills that came to nothing."""
        handles = self._handles
        for request in requests:
            owned = handles.pages.get(request.name)
            if request.page is not None:
                if owned is None or owned.page is not request.page:
                    request.page.drop()
                request.page = None
            if request.refilled is not None:
                handle, page = request.refilled, request.refilled.page
                if owned is None or owned.page is not page:
                    listed = handles.ledger.mine.table.entry(handle.slot) is handle.entry
                    untouched = page.state == _format.ACTIVE and page.edition == request.edition
                    if owned is None and listed and untouched:
                        page.show()
                        handles.pages[request.name] = handle
                    else:
                        handles.ledger.withdraw(handle.slot, handle.entry)
                        page.drop()
                handles.refilling.pop(page, None)
                page.block.share()
                request.refilled = None

    _end_unowned = in_turn(_end)
