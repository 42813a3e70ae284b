"""``%memapply`` and ``%memlapply``: from the words of a line to a call."""

from __future__ import annotations

from argparse import Namespace as Arguments
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from memshare_jupyter.apply import FORMS, memapply, memlapply
from memshare_jupyter.core.names import parse
from memshare_jupyter.errors import InvalidNameError
from memshare_jupyter.magics import _cells as cells

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from memshare_jupyter.magics._engines import Engines
    from memshare_jupyter.magics._notebook import Notebook


class Applying:
    """The applies of a notebook.

    Parameters
    ----------
    shell : InteractiveShell
        Compiles cells.
    notebook : Notebook
        Where names are looked up.
    engines : Engines
        Those that ``--targets`` chooses from.
    """

    def __init__(self, shell: InteractiveShell, notebook: Notebook, engines: Engines) -> None:
        self._shell = shell
        self._notebook = notebook
        self._engines = engines

    def call(self, magic: str, arguments: Arguments, cell: str | None) -> Callable[[], Any]:
        """Look up all that a line names; return the call, of which only the function can fail."""
        if arguments.o is not None and not arguments.o.isidentifier():
            raise UsageError(f"-o {arguments.o}: {arguments.o!r} is no Python name")
        X = self._notebook.items(arguments.X)
        options: dict[str, Any] = {
            **self._notebook.arguments(X, arguments.vars),
            "max_cores": arguments.max_cores,
            "out": _form(arguments.out),
            "on_error": arguments.on_error,
            "block": arguments.block,
            "seed": arguments.seed,
            "hands": arguments.hands,
            "progress_after": arguments.progress_after,
            "quiet": arguments.quiet,
        }
        fun = self._function(magic, arguments, cell)
        options["cluster"] = self._engines.cluster(
            arguments.cluster, arguments.targets, arguments.max_cores, quiet=arguments.quiet
        )
        return partial(self._run, magic, X, fun, arguments, options)

    @staticmethod
    def _run(
        magic: str, X: Any, fun: Callable[..., Any], arguments: Arguments, options: dict[str, Any]
    ) -> Any:
        if magic == "memlapply":
            return memlapply(X, fun, **options)
        return memapply(X, arguments.margin, fun, batch=arguments.batch, **options)

    def _function(self, magic: str, arguments: Arguments, cell: str | None) -> Callable[..., Any]:
        if (arguments.fn is None) == (cell is None):
            raise UsageError(
                f"say which function: %{magic} {arguments.X} --fn NAME, or its body in the "
                f"cell: %%{magic} {arguments.X}"
            )
        if cell is None:
            return self._notebook.function(arguments.fn)
        rng = [] if arguments.seed is None else ["rng"]
        names = [self._notebook.parameter(name) for name in arguments.vars]
        return cells.function(self._shell, cell, [arguments.item, *names, *rng])


def _form(text: str) -> str:
    """Check what is to become of the results."""
    if text not in FORMS:
        try:
            parse(text)
        except InvalidNameError as error:
            raise UsageError(
                f"--out takes list, array, series, frame or a page such as rna.{text}; to store "
                f"the results in the notebook: -o {text}"
            ) from error
    return text
