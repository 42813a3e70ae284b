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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, get_args

from memshare_jupyter.core import _descriptors, _proc, blocks
from memshare_jupyter.core.ledger import Entry, Reader, Session
from memshare_jupyter.core.names import PageName, page_name
from memshare_jupyter.core.registry import _claims as claims
from memshare_jupyter.core.registry import _format
from memshare_jupyter.core.registry._handles import Handle, Handles, let_go
from memshare_jupyter.core.registry._page import Page
from memshare_jupyter.core.registry._turn import PATIENCE_S, Turn, in_turn, in_turn_or_later
from memshare_jupyter.core.values import Elements
from memshare_jupyter.errors import LockTimeoutError, PageNotFoundError

_PATIENCE_S: Final = 0.1
"""How long a page may be listed and not there: its holders let go between a look and a grasp."""
_FOREIGN_PATIENCE_S: Final = 1.0
"""The same, if its holder has to see first that somebody of another namespace has come."""

Find = Callable[[list[Session | Reader]], list[claims.Claim]]


class Taken(NamedTuple):
    """A page that is mapped as long as this exists, and the handle on it."""

    name: PageName
    handle: Handle
    mapping: mmap.mmap
    was_kept: bool


@dataclass(frozen=True, slots=True)
class PageReference:
    """Pickles to a few hundred bytes; unpickling it attaches the page and gives its value.

    Views and lists of a page do that by themselves; frames and dicts, which are made of others'
    classes, do not.
    """

    rebuild: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return self.rebuild, self.arguments


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
        if mode not in get_args(blocks.Mode):
            raise ValueError(f"mode must be 'r', 'r+' or 'c', as in numpy.memmap, not {mode!r}")
        names = [page_name(namespace, variable) for variable in variables]
        taken: list[Taken] = []
        try:
            for name in names:
                taken.append(self._take(name, mode, _by_name(name), keep=hold))  # noqa: PERF401
            return self._build(taken, whole=whole)
        except BaseException as error:
            if hold:
                self._undo(taken)
            taken.clear()
            let_go(error)
            raise

    def _build(self, taken: list[Taken], *, whole: bool) -> dict[str, Any]:
        made = {}
        for one in taken:
            value = one.handle.page.value(one.name, self._handles.rebuild)
            if whole and isinstance(value, Elements):
                value = [value[i] for i in range(len(value))]
            made[one.name.variable] = value
        return made

    def refer(self, namespace: str, variable: str) -> tuple[Any, PageReference]:
        """Return the value of a page, as `attach` does, and what leads other processes to it.

        Raises
        ------
        PageNotFoundError
            No living process has such a page.
        """
        name = page_name(namespace, variable)
        taken = self._take(name, "r", _by_name(name), keep=False)
        page = taken.handle.page
        value = page.value(name, self._handles.rebuild)
        arguments = (*name, page.uuid, page.edition, "r")
        return value, PageReference(self._handles.rebuild, arguments)

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

        def find(sessions: list[Session | Reader]) -> list[claims.Claim]:
            return claims.claims_by_uuid(sessions, name, uuid)

        taken = self._take(name, mode, find, keep=False, named=False)
        page = taken.handle.page
        if page.edition != edition:
            raise claims.gone(name)
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
        views = self._handles.views.values()
        found = {name: [h for h in views if h.entry.name == name] for name in names}
        for name in names:
            if not found[name]:
                have = sorted(str(handle.entry.name) for handle in views)
                raise PageNotFoundError(
                    f"this process has no view of {name} (it has: {claims.listed(have)}); "
                    "attach it first",
                    name=str(name),
                )
        in_use = []
        for name, handles in found.items():
            for handle in handles:
                handle.kept = False
                handle.page.drop()
            if any(handle.page.mapped for handle in handles):
                in_use.append(str(name))
        return in_use

    def _take(
        self, name: PageName, mode: blocks.Mode, find: Find, *, keep: bool, named: bool = True
    ) -> Taken:
        """Attach the page that `find` leads to, or use this process's handle on it.

        What was released is found by reference only, not by its name (`named`).
        """
        begun, pause_s = time.monotonic(), 0.0005
        while True:
            found = self._look(name, mode, find, keep=keep)
            if isinstance(found, Taken):
                return found
            try:
                opened = _open(found, mode, named=named)
            except OSError as error:
                _descriptors.raise_if_run_out(error)
                raise
            if opened.block is not None:
                return self._map(name, mode, opened.block, opened.entry, keep=keep)
            waited_s = time.monotonic() - begun
            if opened.busy:
                _refuse_stopped(name, opened.entry, waited_s)
            elif waited_s > opened.patience_s:
                raise (
                    self._released(name)
                    if opened.gone is None
                    else PageNotFoundError(
                        f"{name} is listed, but no process that holds it lets it be opened: "
                        f"{opened.gone}",
                        name=str(name),
                    )
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.02)

    @in_turn
    def _look(
        self, name: PageName, mode: blocks.Mode, find: Find, *, keep: bool
    ) -> Taken | list[tuple[blocks.Address, Entry]]:
        """Return this process's own handle, or where the page can be opened (step 1)."""
        found = find(self._handles.sessions())
        for _, entry in found:
            handle = self._handles.views.get((entry.uuid, mode))
            if handle is not None and handle.usable:
                mapping = handle.page.hold()
                if mapping is not None:
                    return self._taken(name, handle, mapping, keep=keep)
            if mode == "r+" and not entry.writable:
                raise claims.read_only(name)
        self._handles.show_to(session for session, _ in found)
        return [(self._handles.address(session, entry), entry) for session, entry in found]

    @in_turn
    def _map(
        self, name: PageName, mode: blocks.Mode, block: blocks.Segment, entry: Entry, *, keep: bool
    ) -> Taken:
        """Map and publish what was opened (step 3), unless another thread was quicker."""
        other = self._handles.views.get((entry.uuid, mode))
        if other is not None and other.usable and (mapping := other.page.hold()) is not None:
            block.close()
            return self._taken(name, other, mapping, keep=keep)
        page = Page(block, mode, self._handles.mappings)
        mapping = page.hold()
        assert mapping is not None  # noqa: S101 -- mapped just now
        try:
            handle = self._handles.publish_view(page, entry)
        except BaseException:
            page.drop()
            raise
        return self._taken(name, handle, mapping, keep=keep)

    def _taken(self, name: PageName, handle: Handle, mapping: mmap.mmap, *, keep: bool) -> Taken:
        taken = Taken(name, handle, mapping, handle.kept)
        handle.kept = handle.kept or keep
        if not handle.kept:
            handle.page.drop()  # what is taken keeps it until there are arrays, or an error
        return taken

    @in_turn
    def _undo(self, taken: list[Taken]) -> None:
        for one in taken:
            if not one.was_kept:
                one.handle.kept = False
                one.handle.page.drop()

    @in_turn
    def _released(self, name: PageName) -> PageNotFoundError:
        return claims.not_found(self._handles.sessions(), name, released=True)


class _Opened(NamedTuple):
    """What came of opening a page: its block, or why there is none.

    `busy`: its owner is writing another value into it. `gone`: what the last holder's system said;
    None when there was one after another that its owner had released.
    """

    block: blocks.Segment | None
    entry: Entry
    busy: bool = False
    gone: str | None = None
    patience_s: float = _PATIENCE_S


def _open(found: list[tuple[blocks.Address, Entry]], mode: blocks.Mode, *, named: bool) -> _Opened:
    """Open a page through the first holder that lets us (step 2)."""
    patience_s = _PATIENCE_S
    gone = None
    for address, entry in found:
        if address.pid_namespace != _proc.pid_namespace():
            patience_s = _FOREIGN_PATIENCE_S
        try:
            block = blocks.attach(address, writable=mode == "r+")
        except blocks.BlockBusy:
            return _Opened(None, entry, busy=True)
        except blocks.SegmentGone as error:
            gone = str(error)  # the error itself would keep all frames up to the user's
            continue
        state = _format.state_in(block)
        if state != _format.FILLING and not (named and state == _format.RELEASED):
            return _Opened(block, entry)
        block.close()
    return _Opened(None, found[0][1], gone=gone, patience_s=patience_s)


def _by_name(name: PageName) -> Find:
    return lambda sessions: claims.claims_by_name(sessions, name)


def _refuse_stopped(name: PageName, entry: Entry, waited_s: float) -> None:
    """Raise when the owner of a page that is being written stands still for too long."""
    if waited_s > PATIENCE_S and _proc.is_stopped(entry.owner_pid):
        raise LockTimeoutError(
            f"cannot attach {name}: its owner, process {entry.owner_pid}, was stopped while it "
            "writes another value into it; resume or end that process",
            name=str(name),
            pid=entry.owner_pid,
        )
