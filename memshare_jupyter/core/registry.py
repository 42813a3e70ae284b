"""Registry: register, attach, release, snapshot. The one door to shared memory.

To register a page:

1. lay out the value, make its block, fill it, map it, seal it;
2. lock its name;
3. look for another living owner of the name;
4. publish the page;
5. if this process had a page of that name: mark that one released, withdraw it, unmap it;
6. unlock the name.

To attach a page:

1. find an entry of that name (its owner's, or any viewer's when the owner is dead) or uuid;
2. open the block through the process that published the entry, and map it;
3. publish the view;
4. if the owner is about to write another value into it, let go and begin again.

To register a value of the same size again, while nobody else has the page: mark the page, look
once more for viewers, write the value into it, and publish it as in 4.

To release a page: mark it released, withdraw its entry, unmap it. A view's entry is withdrawn
after its memory is unmapped. A crash between any two steps ends the process's session, and with
it all its entries; the kernel takes back the memory that nobody else has mapped.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar, get_args

import numpy as np

from memshare_jupyter.core import lookup, memory, segment, values
from memshare_jupyter.core import page as pages
from memshare_jupyter.core import snapshot as snapshots
from memshare_jupyter.core._namelock import NameLocks
from memshare_jupyter.core.directories import runtime_directory
from memshare_jupyter.core.entry import PAGE, VIEW, Entry, summary_room
from memshare_jupyter.core.ledger import Ledger, Session
from memshare_jupyter.core.names import PageName, check_namespace, page_name
from memshare_jupyter.core.page import Page
from memshare_jupyter.core.session import SessionFile
from memshare_jupyter.core.sweeping import Places
from memshare_jupyter.core.view import View
from memshare_jupyter.errors import MemshareError, PageNotFoundError, UnsupportedValueError

_ATTEMPTS: Final = 12
_PATIENCE_S: Final = 5.0
_LEAST_REFILL_BYTES: Final = 1 << 20
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _exclusive(
    method: Callable[Concatenate[Registry, _P], _R],
) -> Callable[Concatenate[Registry, _P], _R]:
    """Let one thread at a time into the methods of a registry, and leave the ledger right.

    Plain statements and not a context manager of ours: an interrupt between two of its steps
    could leave the lock taken for ever.
    """

    @functools.wraps(method)
    def change(self: Registry, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
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
        finally:
            self._settle()

    return change


class _BeingRefilled(segment.SegmentGone):
    """The page has no value at this moment, but will have one."""


class _Handle:
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


class Registry:
    """The pages and views of this process, and sight of everybody else's.

    A process has one, see `process.registry`. All methods may be called from any thread. Those
    that take a mapping or several names do all or nothing.

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
        self._places = Places()
        self._places.sweep(self._ledger.sessions())
        self._pages: dict[PageName, _Handle] = {}
        self._views: dict[tuple[bytes, str], _Handle] = {}
        # Not reentrant, and on purpose: an array may die, and so end its handle, at any moment,
        # also while this thread is in the middle of a change. See _settle.
        self._lock = threading.Lock()
        self._mappings = pages.Mappings(self._settle)
        self._snapshots = snapshots.Snapshots(self._was_released)
        self._closed = False
        self._unsure = False  # an interrupt may have left ledger or tables half changed

    # --- pages ---------------------------------------------------------------------------

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

        Parameters
        ----------
        namespace : str
            Name of the sharing context.
        variables : mapping of str to value
            Values by variable name.
        writable : bool
            Let viewers write too.
        replace : bool
            Replace pages of this process that have one of the names.
        backend, directory : optional
            What the pages are made of, see `segment.choose`.

        Raises
        ------
        InvalidNameError, UnsupportedValueError
            A name or a value cannot be used. Nothing was registered.
        PageExistsError
            Another living process owns one of the names, or this one does and may not replace
            it. Nothing was registered.
        NotEnoughMemoryError
            The values would not fit into memory. Nothing was registered.
        LockTimeoutError
            Another process stopped in the middle of registering one of the names.
        RegistryCorruptError
            Others have a hand in the directory. Nothing was registered.
        """
        names = [page_name(namespace, variable) for variable in variables]
        plans = [_plan(name, value) for name, value in zip(names, variables.values(), strict=True)]
        self._register(
            names, plans, writable=writable, replace=replace, backend=backend, directory=directory
        )

    def register_file(
        self, namespace: str, variable: str, path: Path, *, writable: bool = False
    ) -> None:
        """Put the array of a ``.npy`` file into shared memory, without a copy of it in between.

        Raises
        ------
        FileNotFoundError, UnsupportedValueError
            There is no such file, or it is not one of an array of plain data.
        """
        self._register(
            [page_name(namespace, variable)], [values.Plan.file(path)], writable=writable
        )

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
        name = page_name(namespace, variable)
        self._register([name], [values.Plan.empty(shape, dtype, order)], writable=writable)
        return self._lend(name)

    @_exclusive
    def _lend(self, name: PageName) -> View:
        handle = self._pages[name]
        handle.kept = True
        view: View = handle.page.value(name, self._rebuild)
        return view

    def _register(
        self,
        names: list[PageName],
        plans: list[values.Plan],
        *,
        writable: bool,
        replace: bool = True,
        backend: str | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        chosen, place = segment.choose(backend, directory)
        for name in names:
            summary_room(name, place)
        made: list[Page] = []
        replaced: list[tuple[PageName, Page]] = []
        refilled: dict[PageName, Page] = {}
        try:
            if replace and any(name in self._pages for name in names):
                self._begin_refill(names, plans, refilled, writable, chosen, place)
            self._make(names, plans, made, refilled, writable=writable, backend=chosen, place=place)
            self._own(names, plans, made, replaced, writable=writable, replace=replace)
            refilled.clear()
        finally:
            if refilled:
                self._end_refill(refilled)
            for name, page in [*zip(names, made, strict=False), *replaced]:
                owned = self._pages.get(name)
                if owned is None or owned.page is not page:
                    page.drop()

    def _make(
        self,
        names: list[PageName],
        plans: list[values.Plan],
        made: list[Page],
        refilled: Mapping[PageName, Page],
        *,
        writable: bool,
        backend: segment.Backend,
        place: str,
    ) -> None:
        """Make or refill a page for each value; what there is when one fails is in `made`."""
        fresh = [plan for name, plan in zip(names, plans, strict=True) if name not in refilled]
        needed = sum(plan.size_bytes for plan in fresh)
        what = ", ".join(map(str, names))
        memory.require(what, needed, self.snapshot, place)
        self._places.use(place)
        try:
            for name, plan in zip(names, plans, strict=True):
                page = refilled.get(name) or pages.create(
                    plan, self._mappings, writable=writable, backend=backend, place=place
                )
                made.append(page)
        except OSError as error:
            memory.explain(error, what, needed, self.snapshot, place)
            raise
        for name, plan in zip(names, plans, strict=True):
            if name in refilled:
                refilled[name].refill(plan)  # last, since it is what cannot be undone

    @_exclusive
    def _begin_refill(
        self,
        names: list[PageName],
        plans: list[values.Plan],
        refilled: dict[PageName, Page],
        writable: bool,
        backend: str,
        place: str,
    ) -> None:
        """Mark the pages that can be written anew, being of the same size and nobody else's."""
        lookup.refuse_rivals(self._ledger, names)
        for name, plan in zip(names, plans, strict=True):
            handle = self._pages.get(name)
            if (
                handle is None
                or handle.kept  # arrays of ours are on it
                or plan.size_bytes < _LEAST_REFILL_BYTES
                or not (plan.layout.in_memory and handle.page.fits(plan))
                or (handle.entry.writable, handle.entry.backend, handle.entry.place)
                != (writable, backend, place)
                or self._is_viewed(handle)
            ):
                continue
            handle.page.mark(pages.REFILLING)
            refilled[name] = handle.page
            # A viewer lists itself and then looks at the state; we the other way round. So one
            # of us sees the other.
            if self._is_viewed(handle):
                del refilled[name]
                handle.page.mark(pages.ACTIVE)

    @_exclusive
    def _end_refill(self, refilled: dict[PageName, Page]) -> None:
        """After a failure: keep a page that was not written to; one that was is no value."""
        for name, page in refilled.items():
            handle = self._pages.get(name)
            if handle is not None and handle.page is page:
                if page.touched:
                    self._drop_page(name)
                else:
                    page.mark(pages.ACTIVE)

    def _is_viewed(self, handle: _Handle) -> bool:
        claims = sum(len(s.table.of(handle.entry.uuid)) for s in self._ledger.sessions())
        return claims > 1

    @_exclusive
    def _own(
        self,
        names: list[PageName],
        plans: list[values.Plan],
        made: list[Page],
        replaced: list[tuple[PageName, Page]],
        *,
        writable: bool,
        replace: bool,
    ) -> None:
        """List pages under their names; what they replace is added to `replaced`."""
        try:
            self._names.lock(names)  # step 2
            lookup.refuse_rivals(self._ledger, names, myself=not replace)
            handles = {
                name: self._publish_page(name, plan, page, writable=writable)
                for name, plan, page in zip(names, plans, made, strict=True)
            }
            old = [self._pages[name] for name in names if name in self._pages]
            replaced += [(handle.entry.name, handle.page) for handle in old]
            self._pages.update(handles)  # all at once; after a failure before this, none
            for handle in old:  # step 5
                if handle.page is self._pages[handle.entry.name].page:
                    self._ledger.withdraw(handle.slot, handle.entry)
                    handle.page.touched = False
                    handle.page.mark(pages.ACTIVE)
                else:
                    self._withdraw_page(handle)
        finally:
            self._names.unlock()

    @_exclusive
    def release(self, namespace: str, variables: Iterable[str]) -> None:
        """End this process's ownership; memory that nobody views is free at once.

        Raises
        ------
        PageNotFoundError
            There is no such page. Nothing was released.
        NotOwnerError
            Another process owns it. Nothing was released.
        """
        names = [page_name(namespace, variable) for variable in variables]
        missing = next((name for name in names if name not in self._pages), None)
        if missing is not None:
            raise lookup.not_mine(self._ledger, missing)
        for name in dict.fromkeys(names):
            self._drop_page(name)

    # --- views ---------------------------------------------------------------------------

    def attach(
        self, namespace: str, variable: str, *, hold: bool = True, mode: segment.Mode = "r"
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

    @_exclusive
    def attach_all(
        self,
        namespace: str,
        variables: Iterable[str],
        *,
        hold: bool = True,
        mode: segment.Mode = "r",
    ) -> dict[str, Any]:
        """Return the values of several pages, by variable: all, or none and an error.

        Parameters and errors are those of `attach`.
        """
        if mode not in get_args(segment.Mode):
            raise ValueError(f"mode must be 'r', 'r+' or 'c', as in numpy.memmap, not {mode!r}")
        names = [page_name(namespace, variable) for variable in variables]
        made: dict[str, Any] = {}
        handles = []
        try:
            for name in names:
                find = partial(lookup.claims_by_name, self._ledger, name, self._was_released)
                with self._view(name, mode, find) as handle:
                    made[name.variable] = handle.page.value(name, self._rebuild)
                    handles.append(handle)
        except BaseException:
            made.clear()  # or the traceback would keep them
            raise
        for handle in handles if hold else ():
            handle.kept = handle.page.hold()
        return made

    @_exclusive
    def attach_reference(
        self,
        name: PageName,
        uuid: bytes,
        edition: int,
        mode: segment.Mode,
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
        find = partial(lookup.claims_by_uuid, self._ledger, name, uuid)
        with self._view(name, mode, find) as handle:
            if handle.page.edition != edition:
                raise lookup.gone(name)
            if form:
                return handle.page.array(name, self._rebuild, form)
            return handle.page.value(name, self._rebuild)

    @_exclusive
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
        in_use = []
        found = {name: self._my_views(name) for name in names}
        for name in names:
            if not found[name]:
                have = sorted(str(handle.entry.name) for handle in self._views.values())
                raise PageNotFoundError(
                    f"this process has no view of {name} (it has: {lookup.listed(have)}); "
                    "attach it first",
                    name=str(name),
                )
        for name, handles in found.items():
            for handle in handles:
                handle.kept = False
                handle.page.drop()
            if any(handle.page.mapped for handle in handles):
                in_use.append(str(name))
        return in_use

    # --- looking -------------------------------------------------------------------------

    @_exclusive
    def pages(self) -> list[str]:
        """Return the pages this process owns, as ``namespace.variable``."""
        return sorted(map(str, self._pages))

    @_exclusive
    def views(self) -> list[str]:
        """Return the pages this process has views of, as ``namespace.variable``."""
        return sorted({str(handle.entry.name) for handle in self._views.values()})

    @_exclusive
    def snapshot(self) -> snapshots.Snapshot:
        """Return every page of this user on this host, and who holds it.

        Takes no handle. Dead processes' entries are gone at this look.
        """
        sessions = list(self._ledger.sessions())
        self._places.sweep(sessions)
        return self._snapshots.take(sessions, self._ledger.mine)

    @_exclusive
    def metadata(self, namespace: str, variable: str) -> snapshots.PageInfo:
        """Return what is known of the page that `attach` would give; takes no handle."""
        name = page_name(namespace, variable)
        claims = lookup.claims_by_name(self._ledger, name, self._was_released)
        sessions, mine = self._ledger.sessions(), self._ledger.mine
        page = self._snapshots.page(sessions, mine, claims[0][1].uuid)
        if page is None:  # its last holder ended between the two looks
            raise lookup.not_found(self._ledger, name)
        return page

    @property
    def serving(self) -> bool:
        """Whether other processes can reach this one's blocks over a socket, too."""
        return self._ledger.reach.serving

    @property
    def session_file(self) -> Path:
        """The file in which this process lists its handles."""
        return self._ledger.file.path

    def address(self, block: segment.Segment) -> segment.Address:
        """Return where other processes reach a block of this one that is no page."""
        mine = self._ledger.mine
        who = (mine.pid, mine.pid_namespace, block.fd, mine.token)
        return segment.Address(block.uuid, *who, block.backend, block.place)

    @_exclusive
    def label(self, label: str) -> None:
        """Set what lists call this process, such as ``"kernel"`` or ``"engine 0"``."""
        self._ledger.file.relabel(label)

    # --- ending --------------------------------------------------------------------------

    @_exclusive
    def gc(self, namespace: str | None = None) -> tuple[list[str], list[str]]:
        """Release all pages and detach all views of this process, or those of one namespace.

        Returns
        -------
        released, in_use : list of str
            Pages whose ownership or view ended; those of them that arrays here still use.
        """
        if namespace is not None:
            check_namespace(namespace)
        owned = [n for n in self._pages if namespace in (None, n.namespace)]
        views = [h for h in self._views.values() if namespace in (None, h.entry.name.namespace)]
        for name in owned:
            self._drop_page(name)
        for handle in views:
            handle.kept = False
            handle.page.drop()
        in_use = sorted({str(handle.entry.name) for handle in views if handle.page.mapped})
        names = sorted({*map(str, owned), *(str(handle.entry.name) for handle in views)})
        self._places.sweep(self._ledger.sessions())
        return names, in_use

    def close(self) -> None:
        """End all handles and the session, as the process is about to end.

        Arrays stay valid, but are no longer counted.
        """
        self.gc()
        self._end()

    @_exclusive
    def _end(self) -> None:
        self._closed = True
        self._ledger.look()  # which removes the files of the dead
        self._ledger.close()
        self._ledger.file.end()
        self._names.remove_if_last()

    # --- forking -------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let no change be half done in the child's copy of this registry."""
        self._lock.acquire()
        self._ledger.reach.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._ledger.reach.after_fork_in_parent()
        self._lock.release()
        self._settle()

    def after_fork_in_child(self) -> None:
        """Begin a session of the child's own: what it inherited, it holds as views."""
        self._lock = threading.Lock()
        parent, foreign = self._ledger.file, self._ledger.reach.foreign
        self._ledger.abandon()
        parent.abandon()
        self._names.close()
        self._ledger = Ledger(
            SessionFile(parent.directory, f"fork of {parent.pid}"), foreign=foreign
        )
        owned, self._pages = self._pages, {}
        views, self._views = self._views, {}
        with self._lock:
            for handle in views.values():
                if handle.page.mapped:
                    self._publish_view(handle.page, handle.entry).kept = handle.kept
            for handle in owned.values():
                if (handle.page.uuid, "r") not in self._views:
                    # The inherited mapping can be written through; the child's view must not.
                    self._attach(self._ledger.mine, handle.entry).kept = True
                if handle.kept:  # the child has the arrays on it, too: it counts until they end
                    handle.page.mode = "lent"
                    self._publish_view(handle.page, handle.entry)
                handle.page.drop()
        self._settle()

    # --- inside --------------------------------------------------------------------------

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

    def _publish_page(
        self, name: PageName, plan: values.Plan, page: Page, *, writable: bool
    ) -> _Handle:
        now = time.time()
        entry = Entry(
            *(PAGE, name, page.uuid, page.block.fd, plan.size_bytes, writable, now, now),
            *(self._ledger.mine.pid, self._ledger.mine.token),
            plan.summary.pack(summary_room(name, page.block.place)),
            *(page.block.backend, page.block.place),
        )
        return _Handle(page, entry, self._ledger.publish(entry))  # step 4

    def _withdraw_page(self, handle: _Handle) -> None:
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

    @contextlib.contextmanager
    def _view(
        self, name: PageName, mode: segment.Mode, find: Callable[[], list[lookup.Claim]]
    ) -> Iterator[_Handle]:
        """Attach the page that `find` leads to, or use this process's handle on it.

        The page stays mapped inside; afterwards only if the handle is kept or arrays use it.
        """
        handle = self._find_view(name, mode, find)
        try:
            yield handle
        finally:
            if not handle.kept:
                handle.page.drop()

    def _find_view(
        self, name: PageName, mode: segment.Mode, find: Callable[[], list[lookup.Claim]]
    ) -> _Handle:
        gone: Exception | None = None
        deadline = time.monotonic() + _PATIENCE_S
        for attempt in itertools.count():
            for session, entry in find():
                handle = self._views.get((entry.uuid, mode))
                if handle is not None and handle.page.hold():
                    return handle
                if mode == "r+" and not entry.writable:
                    raise lookup.read_only(name)
                try:
                    return self._attach(session, entry, mode)
                except segment.SegmentGone as error:
                    gone = error
            patient = attempt < _ATTEMPTS or isinstance(gone, _BeingRefilled)
            if time.monotonic() > deadline or not patient:
                break
            # Whoever had it let it go between our look and our grasp: look again.
            time.sleep(0.001 * min(attempt, _ATTEMPTS))
        raise PageNotFoundError(
            f"{name} is listed, but no process that holds it lets it be opened: {gone}",
            name=str(name),
        )

    def _attach(self, session: Session, entry: Entry, mode: segment.Mode = "r") -> _Handle:
        address = self._ledger.address(session, entry)
        block = segment.attach(address, writable=mode == "r+")  # step 2
        page = Page(block, mode, self._mappings)
        try:
            handle = self._publish_view(page, entry)
            if page.state == pages.REFILLING:  # step 4
                raise _BeingRefilled("its owner is writing another value into it")
        except BaseException:
            page.drop()
            raise
        return handle

    def _publish_view(self, page: Page, entry: Entry) -> _Handle:
        view = entry._replace(kind=VIEW, fd=page.block.fd, since=time.time())
        stale = self._views.pop((page.uuid, page.mode), None)
        handle = _Handle(page, view, self._ledger.publish(view))  # step 3
        self._views[page.uuid, page.mode] = handle
        if stale is not None:
            self._ledger.withdraw(stale.slot, stale.entry)
        return handle

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

    def _my_views(self, name: PageName) -> list[_Handle]:
        return [handle for handle in self._views.values() if handle.entry.name == name]


def _plan(name: PageName, value: Any) -> values.Plan:
    try:
        return values.Plan(value)
    except UnsupportedValueError as error:
        raise UnsupportedValueError(f"{name}: {error}", name=str(name)) from None
