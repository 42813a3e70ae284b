"""``%memshare``: a method for each subcommand, which calls its Python twin and shows the result."""

from __future__ import annotations

import gc
from argparse import Namespace as Arguments
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from IPython.core.error import UsageError

from memshare_jupyter.core import doctor
from memshare_jupyter.core.api import (
    adopt,
    register_variables,
    release_variables,
    retrieve_metadata,
    snapshot,
)
from memshare_jupyter.core.names import PageName, check_namespace, in_order
from memshare_jupyter.core.namespace import Namespace
from memshare_jupyter.core.quantities import count, in_units
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.views import view_list
from memshare_jupyter.display import PageTable, Table, details, near, registered
from memshare_jupyter.engines import (
    attach,
    attach_on_engine,
    bind,
    detach,
    detach_on_engine,
    memshare_gc,
    page_of,
)
from memshare_jupyter.magics import _cells as cells
from memshare_jupyter.magics._holding import holders_of
from memshare_jupyter.magics._hosts import hosts_table, paths_text

if TYPE_CHECKING:
    from memshare_jupyter.core.registry import PageInfo
    from memshare_jupyter.magics._engines import Engines
    from memshare_jupyter.magics._notebook import Notebook

_NUMBERS: Final = "iufc"
"""Kinds of dtype, as numpy writes them, that ``--dtype`` converts."""


class Sharing:
    """The subcommands.

    Parameters
    ----------
    notebook : Notebook
        Where names are looked up, and put.
    engines : Engines
        Those that ``--engines`` chooses from.
    """

    def __init__(self, notebook: Notebook, engines: Engines) -> None:
        self._notebook = notebook
        self._engines = engines

    def run(self, arguments: Arguments) -> Any:
        """Run the subcommand of a line; return what is to be shown."""
        return getattr(self, f"_{arguments.command}")(arguments)

    def _list(self, arguments: Arguments) -> Table:
        """Show pages, or hosts."""
        if arguments.hosts:
            return hosts_table(self._engines.hosts())
        pages = snapshot().pages
        if arguments.mine:
            pages = tuple(page for page in pages if any(h.here for h in page.holders))
        if (namespace := arguments.namespace) is not None:
            spaces = {page.namespace for page in pages}
            pages = tuple(p for p in pages if p.namespace == check_namespace(namespace))
            if not pages:
                return PageTable(
                    (), f"namespace {namespace!r} has no pages{near(namespace, spaces)}"
                )
        elif arguments.mine and not pages:
            return PageTable((), "this process owns no page and has no view of any")
        return PageTable(pages)

    def _info(self, arguments: Arguments) -> Table:
        """Show all about pages."""
        return details([_metadata(page) for page in self._notebook.pages(arguments.pages)])

    def _register(self, arguments: Arguments) -> Table:
        """Register variables of the notebook."""
        if not arguments.names:
            space = arguments.namespace
            meant = (
                f"; {space} stands for the namespace here"
                if space in self._notebook.names()
                else ""
            )
            raise UsageError(
                f"name the variables to register, as in %memshare register {space} X, or use "
                f"%%memshare register {space}{meant}"
            )
        return self._registered(arguments, self._named(arguments.names), {})

    def register_cell(self, arguments: Arguments, cell: str) -> Table:
        """Register what a cell that has just been run assigned, or the names given."""
        if arguments.names:
            return self._registered(arguments, self._named(arguments.names), {})
        variables = self._notebook.variables
        assigned = cells.assigned_names(cell)
        found = {name: variables[name] for name in assigned if name in variables}
        values, left = cells.shareable(found)
        if not values:
            raise UsageError(
                "the cell assigned no array; assign one, or name the variables to register: "
                f"%%memshare register {arguments.namespace} X"
            )
        return self._registered(arguments, values, left)

    def _named(self, names: list[str]) -> dict[str, Any]:
        return {name: self._notebook.variable(name) for name in names}

    def _registered(
        self, arguments: Arguments, values: dict[str, Any], left: dict[str, Any]
    ) -> Table:
        namespace = arguments.namespace
        values = {
            name: _converted(name, value, arguments.order, arguments.dtype)
            for name, value in values.items()
        }
        register_variables(namespace, values, writable=arguments.writable)
        if arguments.replace:
            for name in values:
                view = Namespace(namespace)[name]
                bind(name, PageName(namespace, name), view, self._notebook.variables)
        return self._costs([_metadata(PageName(namespace, name)) for name in values], left)

    def _attach(self, arguments: Arguments) -> Table:
        """Put views into the notebook, or into the engines."""
        names = _names(self._notebook.pages(arguments.pages), arguments.name)
        if arguments.engines is None:
            attach(names, self._notebook.variables, arguments.mode)
            where = "here"
        else:
            for page in names.values():
                _metadata(page)  # its error comes before a cluster is started
            self._engines.bring(arguments.engines, names.values(), quiet=arguments.quiet)
            on = self._engines.on_each(
                *(arguments.engines, attach_on_engine, names, arguments.mode),
                every=True,
                quiet=arguments.quiet,
            )
            where = f"on {on}"
        note = f"{', '.join(names)} {'is a view' if len(names) == 1 else 'are views'} {where} now"
        return PageTable([_metadata(page) for page in names.values()], note)

    def _detach(self, arguments: Arguments) -> Table:
        """End views, here or on the engines."""
        pages = self._notebook.pages(arguments.pages)
        what = ", ".join(map(str, pages))
        if arguments.engines is not None:
            on = self._engines.on_each(
                *(arguments.engines, detach_on_engine, pages),
                every=False,
                quiet=arguments.quiet,
            )
            return Table([], f"detached {what} on {on}")
        in_use = detach(pages, self._notebook.variables)
        return Table([], self._in_use(in_use) or f"detached {what}")

    def _release(self, arguments: Arguments) -> Table:
        """End this process's ownership."""
        for text in arguments.pages:
            if "." not in text and any(page.namespace == text for page in snapshot().pages):
                raise UsageError(
                    f"{text} is a namespace; to let go of all that this process has in it: "
                    f"%memshare gc {text}"
                )
        pages = self._notebook.pages(arguments.pages)
        uuids = {page: _metadata(page).uuid for page in pages}
        _in_each_namespace(release_variables, pages)
        left = {page.uuid: page for page in snapshot().pages}
        return Table([], "\n".join(_released(p, left.get(uuid)) for p, uuid in uuids.items()))

    def _adopt(self, arguments: Arguments) -> PageTable:
        """Become the owner of orphaned pages."""
        pages = self._notebook.pages(arguments.pages)
        _in_each_namespace(adopt, pages)
        note = f"this process owns {', '.join(map(str, pages))} now"
        return PageTable([_metadata(page) for page in pages], note)

    def _gc(self, arguments: Arguments) -> Table:
        """Let go of all, here and on the engines; or say what that would be."""
        cluster = self._engines.present() if arguments.engines else None
        found = memshare_gc(arguments.namespace, cluster, dry_run=arguments.dry_run)
        done = "would let go" if arguments.dry_run else "let go"
        notes = [
            f"{done} {where}: {', '.join(names)}" for where, names in found.items() if names
        ] or [f"{done}: nothing"]
        if not arguments.dry_run:
            notes.append(self._in_use(set(found["here"]) & set(view_list())))
        return Table([], "\n".join(filter(None, notes)))

    def _select(self, arguments: Arguments) -> Any:
        """Select columns by mutual information, on the engines."""
        # Imported here, because scipy takes its time, and few lines need it.
        from memshare_jupyter.information import select_features  # noqa: PLC0415

        X, y = (
            str(found) if isinstance(found, PageName) else found
            for found in (self._notebook.items(arguments.X), self._notebook.items(arguments.y))
        )
        k = 50 if arguments.alpha is None and arguments.k is None else arguments.k
        cluster = self._engines.cluster(None, None, None, quiet=arguments.quiet)
        where = {"cluster": cluster} if cluster is not None or isinstance(X, str) else {}
        try:
            return select_features(
                *(X, y),
                k=k,
                alpha=arguments.alpha,
                method=arguments.method,
                y_discrete=not arguments.continuous,
                **where,
            )
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from error

    def _panel(self, arguments: Arguments) -> Any:
        """Show the live panel."""
        # Imported here, because widgets take their time, and few lines need them.
        from memshare_jupyter.panel import Panel  # noqa: PLC0415

        return Panel(arguments.namespace)

    def _doctor(self, _: Arguments) -> None:
        """Print what the doctor says."""
        print(doctor.render(doctor.examine()))  # noqa: T201 -- a report is text
        if between := paths_text(self._engines.paths()):
            print(between)  # noqa: T201

    def _cluster(self, arguments: Arguments) -> Table:
        """Start, stop or choose engines."""
        if arguments.n is not None and arguments.action != "start":
            raise UsageError("a number of engines goes with start: %memshare cluster start 4")
        match arguments.action:
            case "start":
                note = self._engines.start(arguments.n, quiet=arguments.quiet)
            case "stop":
                note = self._engines.stop()
            case "status":
                note = self._engines.status()
            case name:
                note = self._engines.adopt(name)
        return Table([], note)

    def _in_use(self, pages: Iterable[str]) -> str:
        """Say which pages arrays here still use, and what holds those arrays."""
        pages = list(pages)
        if not pages:
            return ""
        gc.collect()  # errors of before lie in cycles, and their tracebacks hold what they saw
        left = sorted({*pages} & {*view_list()}, key=in_order)
        if not left:
            return f"detached {', '.join(pages)}"
        places, names = registry().mapped(left), self._notebook.names()
        held = ", ".join(holders_of(places, names, self._notebook.variables))
        by = f", held by {held}" if held else ""
        return f"arrays still use {', '.join(left)}{by}; the views end with them"

    def _costs(self, pages: list[PageInfo], left: dict[str, Any]) -> Table:
        """Return a table of pages just registered, with what they save."""
        engines = self._engines.count()
        total_bytes = sum(page.size_bytes for page in pages)
        once, copied = in_units(total_bytes), in_units(total_bytes * (1 + engines))
        with_engines = f"this process and {count(engines, 'engine')}"
        notes = [f"{once} shared once; with a copy each, {with_engines} would take {copied}"]
        variables = self._notebook.variables
        own = [name for page in pages if (name := page.variable) in variables]
        twice = [name for name in own if page_of(name, variables[name]) is None]
        if twice:
            kept = "is a second copy" if len(twice) == 1 else "are second copies"
            notes.append(
                f"{', '.join(twice)} here {kept}; with --replace only what is shared remains"
            )
        if left:
            kinds = ", ".join(f"{name} ({type(value).__name__})" for name, value in left.items())
            notes.append(f"left alone: {kinds}; to share such values too, name them in the line")
        return registered(pages, 1 + engines, "\n".join(notes))


def _metadata(page: PageName) -> PageInfo:
    return retrieve_metadata(*page)[page.variable]


def _in_each_namespace(act: Callable[[str, list[str]], None], pages: Sequence[PageName]) -> None:
    """Call a function of the registry for the pages of each namespace."""
    for namespace in dict.fromkeys(page.namespace for page in pages):
        act(namespace, [page.variable for page in pages if page.namespace == namespace])


def _names(pages: list[PageName], name: str | None) -> dict[str, PageName]:
    """Return the notebook's names for pages."""
    if name is not None and len(pages) != 1:
        raise UsageError("--as names one page; attach the others by a line of their own")
    names: dict[str, PageName] = {}
    for page in pages:
        chosen = name or page.variable
        if not chosen.isidentifier():
            raise UsageError(f"{chosen!r} is no Python name; say which it shall have: --as NAME")
        if chosen in names:
            raise UsageError(f"{names[chosen]} and {page} cannot both be {chosen}; use --as NAME")
        names[chosen] = page
    return names


def _converted(name: str, value: Any, order: Literal["C", "F"] | None, dtype: str | None) -> Any:
    if order is None and dtype is None:
        return value
    if not isinstance(value, np.ndarray):
        raise UsageError(
            f"--order and --dtype are for arrays; {name} is a {type(value).__name__}: convert it "
            "before, or register it by a line of its own"
        )
    try:
        wanted = np.dtype(dtype) if dtype and value.dtype.kind in _NUMBERS else value.dtype
    except TypeError as error:
        raise UsageError(f"{dtype!r} is no dtype of numpy; try float32") from error
    return np.asarray(value, dtype=wanted, order=order)


def _released(page: PageName, left: PageInfo | None) -> str:
    # An engine that merely keeps it lets go by itself.
    viewers = [] if left is None else [h for h in left.holders if h.role != "kept"]
    if not viewers:
        return f"released {page}; its memory is free"
    named = ", ".join(
        dict.fromkeys(f"{'this process' if h.here else h.label or h.pid}" for h in viewers)
    )
    return f"released {page}; its memory is free when the last view is gone ({named})"
