"""The owner's side of the registry: register, fill, replace and release pages.

To register a page:

1. lay out the value, make its block, fill it, map it, seal it;
2. lock its name;
3. look for another living owner of the name;
4. publish the page;
5. if this process had a page of that name: mark that one released, withdraw it, unmap it;
6. unlock the name.

To register a value of the same size again, while nobody else has the page: mark the page, look
once more for viewers, write the value into it, and publish it as in 4.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from memshare_jupyter.core import _descriptors
from memshare_jupyter.core.blocks import _block as segment
from memshare_jupyter.core.blocks import _room as memory
from memshare_jupyter.core.blocks import reserved
from memshare_jupyter.core.ledger._slot import PAGE, Entry, summary_room
from memshare_jupyter.core.names import PageName, page_name
from memshare_jupyter.core.registry import _claims as lookup
from memshare_jupyter.core.registry import _page as pages
from memshare_jupyter.core.registry._handles import Handle, Holdings, exclusive
from memshare_jupyter.core.registry._page import Page
from memshare_jupyter.core.values import _values as values
from memshare_jupyter.core.values._view import View
from memshare_jupyter.errors import UnsupportedValueError

_LEAST_REFILL_BYTES: Final = 1 << 20


class Owner(Holdings):
    """Makes and ends the pages of this process."""

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

    def adopt(
        self,
        namespace: str,
        variable: str,
        block: segment.Segment,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        """Register an array, in C order, that a block of this process holds from its first byte.

        The block is the page's from now on, and nobody can write to it any more.

        Raises
        ------
        InvalidNameError, PageExistsError
            As `register` does.
        """
        name = page_name(namespace, variable)
        summary_room(name, block.place)
        plan = values.Plan.empty(shape, dtype, "C")
        page = pages.adopt(block, plan, self._mappings)
        replaced: list[tuple[PageName, Page]] = []
        try:
            self._own([name], [plan], [page], replaced, writable=False, replace=True)
        finally:
            self._drop_unowned([(name, page), *replaced])

    @exclusive
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

    @exclusive
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
        except OSError as error:
            _descriptors.raise_if_run_out(error)
            raise
        finally:
            if refilled:
                self._end_refill(refilled)
            self._drop_unowned([*zip(names, made, strict=False), *replaced])

    def _drop_unowned(self, made: list[tuple[PageName, Page]]) -> None:
        for name, page in made:
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
        self._places.use(place)
        runtime = self._ledger.file.directory
        try:
            with reserved(what, needed, self._held, place, runtime=runtime) as filled:
                for name, plan in zip(names, plans, strict=True):
                    page = refilled.get(name) or pages.create(
                        *(plan, self._mappings, filled),
                        writable=writable, backend=backend, place=place,
                    )  # fmt: skip
                    made.append(page)
        except OSError as error:
            memory.explain(error, what, needed, self._held, place)
            raise
        for name, plan in zip(names, plans, strict=True):
            if name in refilled:
                refilled[name].refill(plan)  # last, since it is what cannot be undone

    def _held(self) -> str:
        return self.snapshot().held

    @exclusive
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

    @exclusive
    def _end_refill(self, refilled: dict[PageName, Page]) -> None:
        """After a failure: keep a page that was not written to; one that was is no value."""
        for name, page in refilled.items():
            handle = self._pages.get(name)
            if handle is not None and handle.page is page:
                if page.touched:
                    self._drop_page(name)
                else:
                    page.mark(pages.ACTIVE)

    def _is_viewed(self, handle: Handle) -> bool:
        claims = sum(len(s.table.of(handle.entry.uuid)) for s in self._ledger.sessions())
        return claims > 1

    @exclusive
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

    def _publish_page(
        self, name: PageName, plan: values.Plan, page: Page, *, writable: bool
    ) -> Handle:
        now = time.time()
        entry = Entry(
            *(PAGE, name, page.uuid, page.block.fd, plan.size_bytes, writable, now, now),
            *(self._ledger.mine.pid, self._ledger.mine.token),
            plan.summary.pack(summary_room(name, page.block.place)),
            *(page.block.backend, page.block.place),
        )
        return Handle(page, entry, self._ledger.publish(entry))  # step 4


def _plan(name: PageName, value: Any) -> values.Plan:
    try:
        return values.Plan(value)
    except UnsupportedValueError as error:
        raise UnsupportedValueError(f"{name}: {error}", name=str(name)) from None
