"""The three magics of a shell, and how they get there and away again."""

from __future__ import annotations

import re
import sys
from argparse import Namespace as Arguments
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import display
from traitlets import Float, Integer, Unicode

from memshare_jupyter.core.names import check_namespace
from memshare_jupyter.core.registry import registry, what_this_is
from memshare_jupyter.display import near
from memshare_jupyter.magics import _cells as cells
from memshare_jupyter.magics import _grammar as grammar
from memshare_jupyter.magics._applying import Applying
from memshare_jupyter.magics._completion import Completer
from memshare_jupyter.magics._engines import Engines
from memshare_jupyter.magics._lines import HelpAsked, parse, split
from memshare_jupyter.magics._notebook import Notebook, usage_errors
from memshare_jupyter.magics._readonly import advice
from memshare_jupyter.magics._sharing import Sharing
from memshare_jupyter.panel import close_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
    from IPython.core.magic_arguments import MagicArgumentParser

_NAMES: Final = ("memshare", "memapply", "memlapply")
_REGISTER: Final = re.compile(r"%%memshare\s+(register\b.*)")
_FAILED: Final = "nothing was registered"


@magics_class
class MemshareMagics(Magics):
    """``%memshare``, ``%memapply`` and ``%memlapply``."""

    namespace = Unicode(
        "", help="Where pages are whose namespace is left out, as X for rna.X."
    ).tag(config=True)
    max_cores = Integer(
        None, allow_none=True, help="Use at most so many engines; --max-cores overrides it."
    ).tag(config=True)
    progress_after = Float(
        2.0, help="Show a bar after so many seconds; -1 for never. --progress-after overrides it."
    ).tag(config=True)

    shell: InteractiveShell

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell=shell)
        self.notebook = Notebook(shell, lambda: self.namespace)
        engines = Engines(self.notebook)
        self.engines = engines
        self._sharing = Sharing(self.notebook, engines)
        self._applying = Applying(shell, self.notebook, engines)
        self.completer = Completer(self.notebook)

    @no_var_expand
    @line_cell_magic
    def memshare(self, line: str, cell: str | None = None) -> Any:
        """Share arrays by name between kernels and engines.

        ``%memshare`` alone shows every page; ``%memshare --help`` tells what else there is.
        """
        arguments = self._command(line)
        if arguments is None:
            return None
        if cell is None:
            with usage_errors():
                found = self._sharing.run(arguments)
            return None if arguments.quiet else found
        self._check_cell(arguments)
        cells.run(self.shell, cell, _FAILED)
        return self._register_cell(arguments, cell)

    def advise(self, result: ExecutionResult) -> None:
        """Add to an error in writing to a view what can be done: when a cell has ended."""
        if said := advice(result.error_in_exec, self.shell.user_ns):
            print(said, file=sys.stderr)  # noqa: T201 -- where errors go

    async def memshare_awaiting(self, line: str, cell: str) -> None:
        """Do as ``%%memshare`` for a cell with ``await``, on the event loop that runs."""
        arguments = self._command(line)
        if arguments is not None:
            self._check_cell(arguments)
            await cells.run_awaiting(self.shell, cell, _FAILED)
            self._register_cell(arguments, cell)

    @no_var_expand
    @line_cell_magic
    def memapply(self, line: str, cell: str | None = None) -> Any:
        """Apply a function to the rows or columns of a shared matrix on all engines.

        ``%memapply --help`` tells more.
        """
        return self._apply("memapply", line, cell)

    @no_var_expand
    @line_cell_magic
    def memlapply(self, line: str, cell: str | None = None) -> Any:
        """Apply a function to the elements of a shared list on all engines.

        ``%memlapply --help`` tells more.
        """
        return self._apply("memlapply", line, cell)

    def _command(self, line: str) -> Any:
        """Read a line of ``%memshare``; None when it asked for help and has got it."""
        word, *words = split(line) or ["list"]
        if word in ("-h", "--help"):
            print(grammar.overview())  # noqa: T201 -- help is text
            return None
        if word not in grammar.commands():
            known = grammar.commands()
            hint = near(word, known) or f"; it has: {', '.join(known)}"
            raise UsageError(f"%memshare has no subcommand {word!r}{hint}")
        arguments = _parsed(grammar.commands()[word], words)
        if arguments is not None:
            arguments.command = word
            arguments.quiet = getattr(arguments, "quiet", False)
            if word == "register":
                self._settle_namespace(arguments)
        return arguments

    def _settle_namespace(self, arguments: Arguments) -> None:
        arguments.namespace = arguments.namespace or self.namespace
        if not arguments.namespace:
            raise UsageError(
                "say in which namespace: %memshare register NAMESPACE; one that is always meant "
                "is set by %config MemshareMagics.namespace = 'rna'"
            )
        with usage_errors():
            check_namespace(arguments.namespace)

    def _check_cell(self, arguments: Arguments) -> None:
        if arguments.command != "register":
            raise UsageError("of the subcommands only register takes a cell")

    def _register_cell(self, arguments: Arguments, cell: str) -> None:
        with usage_errors():
            table = self._sharing.register_cell(arguments, self.shell.transform_cell(cell))
        # Displayed, not returned: the cell's own last expression is its result, and Out's.
        if not arguments.quiet:
            display(table)

    def _apply(self, magic: str, line: str, cell: str | None) -> Any:
        words = split(line)
        if "--fn" in words and any(re.match(r"lambda\b", word) for word in words):
            raise UsageError(
                "--fn takes the name of a function; an expression goes into a cell: "
                f"%%{magic} {words[0]}, and below it the expression over {grammar.ITEM[magic]}"
            )
        arguments = _parsed(grammar.apply_parser(magic), words)
        if arguments is None:
            return None
        if arguments.max_cores is None:
            arguments.max_cores = self.max_cores
        after = (
            self.progress_after if arguments.progress_after is None else arguments.progress_after
        )
        arguments.progress_after = None if after < 0 or arguments.quiet else after
        with usage_errors():
            call = self._applying.call(magic, arguments, cell)
            try:
                result = call()
            except (TypeError, ValueError) as error:
                # What X, the function or vars should have been; the function's own are wrapped.
                # One of the user's code, such as a result that cannot be rebuilt, is not for us.
                if not _is_ours(error):
                    raise
                raise UsageError(str(error)) from error
        if arguments.o is None:
            return result
        self.shell.user_ns[arguments.o] = result
        return None

    def await_register(self, lines: list[str]) -> list[str]:
        """Let a registered cell have ``await``: an input transformer.

        A cell magic is a plain call, inside which the event loop of a kernel cannot run. The call
        of such a cell is awaited instead.
        """
        found = _REGISTER.match(lines[0]) if lines else None
        cell = "".join(lines[1:])
        if found is None or not cells.awaits(self.shell, cell):
            return lines
        magics = f"get_ipython().magics_manager.registry[{type(self).__name__!r}]"
        return [f"await {magics}.memshare_awaiting({found[1]!r}, {cell!r})\n"]


def _is_ours(error: BaseException) -> bool:
    """Say whether this package raised an error itself."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1]).partition(".")[0] == __name__.partition(".")[0]


def _parsed(parser: MagicArgumentParser, words: Sequence[str]) -> Any:
    """Read the words of a line; print the help that they ask for, and return None."""
    try:
        return parse(parser, words)
    except HelpAsked as help_asked:
        print(help_asked)  # noqa: T201 -- help is text
        return None


def load(shell: InteractiveShell) -> None:
    """Add the magics to a shell and let lists call this process after it."""
    _remove(shell)
    magics = MemshareMagics(shell)
    shell.register_magics(magics)
    # Before the transformer that makes a call of a cell magic.
    shell.input_transformer_manager.line_transforms.insert(0, magics.await_register)
    shell.Completer.custom_matchers.append(magics.completer.matcher)
    shell.events.register("post_run_cell", magics.advise)
    registry().label(what_this_is())


def unload(shell: InteractiveShell) -> None:
    """Remove the magics from a shell and end every handle of this process.

    A local cluster that a line of the extension started ends.
    Views that variables of the notebook still use end with those variables. Panels are closed.
    """
    magics = _remove(shell)
    close_all()
    if magics is not None:
        magics.engines.end()
    registry().gc()


def _remove(shell: InteractiveShell) -> MemshareMagics | None:
    manager = shell.magics_manager
    magics: Any = manager.registry.pop(MemshareMagics.__name__, None)
    if magics is None:
        return None
    for kind in ("line", "cell"):
        for name in _NAMES:
            manager.magics[kind].pop(name, None)
    shell.configurables.remove(magics)
    shell.input_transformer_manager.line_transforms.remove(magics.await_register)
    shell.Completer.custom_matchers.remove(magics.completer.matcher)
    shell.events.unregister("post_run_cell", magics.advise)
    return magics  # type: ignore[no-any-return]
