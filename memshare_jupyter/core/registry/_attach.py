"""The viewer's side of the registry: attach pages by name or reference, and detach them.

To attach a page:

1. find an entry of that name (its owner's, or any viewer's when the owner is dead) or uuid;
2. open the block through the process that published the entry, and map it;
3. publish the view;
4. if the owner is about to write another value into it, let go and begin again.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, get_args

from memshare_jupyter.core.blocks import _block as segment
from memshare_jupyter.core.ledger._ledger import Session
from memshare_jupyter.core.ledger._slot import Entry
from memshare_jupyter.core.names import PageName, page_name
from memshare_jupyter.core.registry import _claims as lookup
from memshare_jupyter.core.registry import _page as pages
from memshare_jupyter.core.registry._handles import Handle, Holdings, exclusive
from memshare_jupyter.core.registry._page import Page
from memshare_jupyter.core.registry._reference import Reference
from memshare_jupyter.errors import PageNotFoundError

_ATTEMPTS: Final = 12
_PATIENCE_S: Final = 5.0


class BeingRefilled(segment.SegmentGone):
    """The page has no value at this moment, but will have one."""


class Viewer(Holdings):
    """Takes and ends the views of this process."""

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

    @exclusive
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

    @exclusive
    def refer(self, namespace: str, variable: str) -> tuple[Any, Reference]:
        """Return the value of a page, as `attach` does, and what leads other processes to it.

        Raises
        ------
        PageNotFoundError
            No living process has such a page.
        """
        name = page_name(namespace, variable)
        find = partial(lookup.claims_by_name, self._ledger, name, self._was_released)
        with self._view(name, "r", find) as handle:
            place = (handle.page.uuid, handle.page.edition, "r")
            value = handle.page.value(name, self._rebuild)
            return value, Reference(self._rebuild, (*name, *place))

    @exclusive
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
                raise lookup.gone(self._ledger, name, uuid)
            if form:
                return handle.page.array(name, self._rebuild, form)
            return handle.page.value(name, self._rebuild)

    @exclusive
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

    @contextlib.contextmanager
    def _view(
        self, name: PageName, mode: segment.Mode, find: Callable[[], list[lookup.Claim]]
    ) -> Iterator[Handle]:
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
    ) -> Handle:
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
            patient = attempt < _ATTEMPTS or isinstance(gone, BeingRefilled)
            if time.monotonic() > deadline or not patient:
                break
            # Whoever had it let it go between our look and our grasp: look again.
            time.sleep(0.001 * min(attempt, _ATTEMPTS))
        raise PageNotFoundError(
            f"{name} is listed, but no process that holds it lets it be opened: {gone}",
            name=str(name),
        )

    def _attach(self, session: Session, entry: Entry, mode: segment.Mode = "r") -> Handle:
        address = self._ledger.address(session, entry)
        block = segment.attach(address, writable=mode == "r+")  # step 2
        page = Page(block, mode, self._mappings)
        try:
            handle = self._publish_view(page, entry)
            if page.state == pages.REFILLING:  # step 4
                raise BeingRefilled("its owner is writing another value into it")
        except BaseException:
            page.drop()
            raise
        return handle

    def _my_views(self, name: PageName) -> list[Handle]:
        return [handle for handle in self._views.values() if handle.entry.name == name]
