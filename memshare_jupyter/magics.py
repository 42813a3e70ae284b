"""The magics: parse, call, display."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Iterator
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import MagicArgumentParser

from memshare_jupyter import cells
from memshare_jupyter._local import default_engines
from memshare_jupyter.apply import memapply, memlapply
from memshare_jupyter.core import doctor, process
from memshare_jupyter.core.api import (
    Namespace,
    register_variables,
    release_variables,
    release_views,
    retrieve_metadata,
    retrieve_views,
    snapshot,
)
from memshare_jupyter.core.memory import in_units
from memshare_jupyter.core.names import PageName, check_namespace, parse
from memshare_jupyter.display import PageTable, count
from memshare_jupyter.errors import (
    ClusterError,
    InvalidNameError,
    MemApplyError,
    MemshareError,
    PageNotFoundError,
)

_ITEM: Final = {"memapply": "v", "memlapply": "el"}


@magics_class
class MemshareMagics(Magics):
    """``%memshare``, ``%memapply`` and ``%memlapply``."""

    shell: InteractiveShell

    @no_var_expand
    @line_cell_magic
    def memshare(self, line: str, cell: str | None = None) -> Any:
        """Share arrays between kernels and engines; ``%memshare --help`` tells all."""
        parser = _memshare_parser()
        arguments = _parsed(parser, line or "list")
        if arguments is None:
            return None
        if cell is not None and arguments.command != "register":
            raise UsageError("of the subcommands only register takes a cell")
        with _usage_errors():
            return getattr(self, f"_{arguments.command}")(arguments, cell)

    @no_var_expand
    @line_cell_magic
    def memapply(self, line: str, cell: str | None = None) -> Any:
        """Apply a function to the rows or columns of a shared matrix on all engines."""
        return self._apply("memapply", line, cell)

    @no_var_expand
    @line_cell_magic
    def memlapply(self, line: str, cell: str | None = None) -> Any:
        """Apply a function to the elements of a shared list on all engines."""
        return self._apply("memlapply", line, cell)

    def _register(self, arguments: Any, cell: str | None) -> PageTable:
        namespace, names = check_namespace(arguments.namespace), arguments.names
        left: dict[str, Any] = {}
        if cell is None:
            if not names:
                raise UsageError("name the variables to register, or use %%memshare register")
            values = {name: self._user_value(name) for name in names}
            register_variables(namespace, values)
        else:
            cells.run(self.shell, cell, "nothing was registered")
            if names:
                values = {name: self._user_value(name) for name in names}
            else:
                assigned = cells.assigned_names(self.shell.transform_cell(cell))
                values = {n: self.shell.user_ns[n] for n in assigned if n in self.shell.user_ns}
                values, left = cells.shareable(values)
                if not values:
                    raise UsageError(
                        "the cell assigned no array; assign one, or name the variables to "
                        f"register: %%memshare register {namespace} X"
                    )
            register_variables(namespace, values)
        return _registered_table(namespace, values, left)

    def _attach(self, arguments: Any, _: str | None) -> PageTable:
        pages = [parse(text) for text in arguments.pages]
        views = {page: retrieve_views(page.namespace, page.variable) for page in pages}
        for page in pages:
            self.shell.user_ns[page.variable] = views[page][page.variable]
        return _table(pages, f"attached as {', '.join(page.variable for page in pages)}")

    def _detach(self, arguments: Any, _: str | None) -> PageTable:
        pages = [parse(text) for text in arguments.pages]
        for page in pages:
            if getattr(self.shell.user_ns.get(page.variable), "page", None) == str(page):
                del self.shell.user_ns[page.variable]
        in_use: list[str] = []
        for namespace, names in _by_namespace(pages).items():
            in_use += release_views(namespace, names)
        return PageTable([], _in_use(in_use) or f"detached {', '.join(map(str, pages))}")

    def _gc(self, arguments: Any, _: str | None) -> PageTable:
        names, in_use = process.registry().gc(arguments.namespace)
        return PageTable([], _in_use(in_use) or f"let go: {', '.join(names) or 'nothing'}")

    def _doctor(self, _arguments: Any, _: str | None) -> None:
        print(doctor.render(doctor.examine()))  # noqa: T201 -- a report is text

    def _release(self, arguments: Any, _: str | None) -> None:
        for namespace, names in _by_namespace(parse(text) for text in arguments.pages).items():
            release_variables(namespace, names)

    def _list(self, arguments: Any, _: str | None) -> PageTable:
        namespace = getattr(arguments, "namespace", None)
        pages = snapshot().pages
        if namespace is None:
            return PageTable(pages)
        inside = [page for page in pages if page.namespace == check_namespace(namespace)]
        return PageTable(inside, "" if inside else f"namespace {namespace!r} has no pages")

    def _apply(self, magic: str, line: str, cell: str | None) -> Any:
        arguments = _parsed(_apply_parser(magic), line)
        if arguments is None:
            return None
        with _usage_errors():
            if (arguments.fn is None) == (cell is None):
                raise UsageError(
                    f"say which function: %{magic} {arguments.X} --fn NAME, or its body in the "
                    f"cell: %%{magic} {arguments.X}"
                )
            X, namespace = self._items(arguments.X)
            variables = {name: self._variable(namespace, name) for name in arguments.vars}
            if cell is None:
                fun = self._user_value(arguments.fn)
            else:
                fun = cells.function(self.shell, cell, [arguments.item, *arguments.vars])
            options: dict[str, Any] = {"vars": variables, "max_cores": arguments.max_cores}
            if arguments.cluster is not None:
                options["cluster"] = self._user_value(arguments.cluster)
            if magic == "memapply":
                result = memapply(X, arguments.margin, fun, **options, batch=arguments.batch)
            else:
                result = memlapply(X, fun, **options)
        if arguments.o is None:
            return result
        self.shell.user_ns[arguments.o] = result
        return None

    def _items(self, text: str) -> tuple[Any, str | None]:
        """Find what to apply to: a notebook's variable, or a page."""
        if text in self.shell.user_ns:
            return self.shell.user_ns[text], None
        try:
            return text, parse(text).namespace
        except InvalidNameError:
            raise PageNotFoundError(
                f"no variable {text!r} in this notebook; a page is written namespace.variable"
            ) from None

    def _variable(self, namespace: str | None, name: str) -> Any:
        """Find a further argument: a page of X's namespace before a notebook's variable."""
        if namespace is not None:
            try:
                return Namespace(namespace)[name]
            except PageNotFoundError:
                if name not in self.shell.user_ns:
                    raise
        return self._user_value(name)

    def _user_value(self, name: str) -> Any:
        found = self.shell.user_ns.get(name, getattr(builtins, name, None))
        if found is None:
            raise UsageError(f"no variable {name!r} in this notebook; assign it first")
        return found


def load(shell: InteractiveShell) -> None:
    """Add the magics to a shell and let lists call this process after it."""
    shell.register_magics(MemshareMagics)
    process.registry().label("kernel" if hasattr(shell, "kernel") else "ipython")


def unload(shell: InteractiveShell) -> None:
    """Remove the magics from a shell and end every handle of this process.

    Views that variables of the notebook still use end with those variables.
    """
    for kind in ("line", "cell"):
        for name in ("memshare", "memapply", "memlapply"):
            shell.magics_manager.magics[kind].pop(name, None)
    shell.magics_manager.registry.pop(MemshareMagics.__name__, None)
    process.registry().gc()


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn errors that the user can mend in the line typed into one line without a traceback."""
    try:
        yield
    except (MemApplyError, ClusterError):
        raise
    except MemshareError as error:
        raise UsageError(str(error)) from error


def _memshare_parser() -> MagicArgumentParser:
    parser = MagicArgumentParser("%memshare", description="Share arrays by name.", add_help=False)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, help_text: str) -> MagicArgumentParser:
        child: MagicArgumentParser = commands.add_parser(
            name, help=help_text, description=help_text, add_help=False
        )
        return child

    register = command("register", "put variables, or what the cell assigns, into shared memory")
    register.add_argument("namespace", help="name of the sharing context")
    register.add_argument("names", nargs="*", help="variables; by default what the cell assigns")
    attach = command("attach", "attach pages under their variables' names")
    attach.add_argument("pages", nargs="+", metavar="namespace.variable")
    detach = command("detach", "end this process's views of pages")
    detach.add_argument("pages", nargs="+", metavar="namespace.variable")
    collect = command("gc", "release and detach all that this process has")
    collect.add_argument("namespace", nargs="?", help="only this namespace")
    release = command("release", "end this process's ownership of pages")
    release.add_argument("pages", nargs="+", metavar="namespace.variable")
    table = command("list", "show every page and who holds it")
    table.add_argument("namespace", nargs="?", help="only this namespace")
    command("doctor", "say how memory is shared here and what is amiss")
    return parser


def _apply_parser(magic: str) -> MagicArgumentParser:
    what = "row or column of a matrix" if magic == "memapply" else "element of a list"
    parser = MagicArgumentParser(
        f"%{magic}", description=f"Apply a function to each {what}, on all engines.", add_help=False
    )
    parser.add_argument("X", help="a page, as namespace.variable, or a variable of the notebook")
    parser.add_argument("--fn", help="the function's name; in a cell magic the cell is its body")
    if magic == "memapply":
        parser.add_argument(
            *("--margin", "-m"), choices=["rows", "cols"], default="cols", help="default: cols"
        )
        parser.add_argument(
            "--batch",
            action="store_true",
            help="give the function a matrix of many at once; it returns one result for each",
        )
    parser.add_argument(
        "--vars", nargs="+", default=[], help="further arguments of the function, by name"
    )
    parser.add_argument("--cluster", help="variable with an ipyparallel client, view or cluster")
    parser.add_argument("--max-cores", type=int, help="use at most so many engines")
    parser.add_argument("--item", default=_ITEM[magic], help="what the cell calls the item")
    parser.add_argument("-o", metavar="NAME", help="store the results under this name")
    return parser


def _parsed(parser: MagicArgumentParser, line: str) -> Any:
    """Parse a line; on ``--help`` print what there is and return None."""
    words = line.split()
    if {"--help", "-h"} & set(words):
        actions = parser._subparsers._group_actions if parser._subparsers else []
        children = actions[0].choices if actions else {}
        chosen = children.get(words[0], parser) if isinstance(children, dict) else parser
        print(chosen.format_help())  # noqa: T201 -- help is text
        return None
    return parser.parse_argstring(line)


def _in_use(names: list[str]) -> str:
    return f"arrays still use {', '.join(names)}; the views end with them" if names else ""


def _by_namespace(pages: Any) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for page in pages:
        grouped.setdefault(page.namespace, []).append(page.variable)
    return grouped


def _table(pages: list[PageName], note: str) -> PageTable:
    return PageTable([retrieve_metadata(*page)[page.variable] for page in pages], note)


def _registered_table(namespace: str, values: dict[str, Any], left: dict[str, Any]) -> PageTable:
    table = _table([PageName(namespace, name) for name in values], "")
    total = sum(page.size_bytes for page in table.pages)
    engines = default_engines()
    note = (
        f"{in_units(total)} shared once; with a copy each, this kernel and "
        f"{count(engines, 'engine')} would take {in_units(total * (1 + engines))}"
    )
    if left:
        kinds = ", ".join(f"{name} ({type(value).__name__})" for name, value in left.items())
        note += f"\nleft alone: {kinds}; to share such values too, name them after the namespace"
    return PageTable(table.pages, note)
