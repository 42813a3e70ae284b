"""Register an array once in shared memory; attach it by name in every kernel and engine.

What is public is in ``__init__.pyi``, each name once, and loaded when it is asked for: nothing that
needs ipyparallel, scipy or IPython comes before. Behind it is a room for each idea, and imports go
in one direction::

    errors <- core <- worker <- engines <- apply <- information <- magics
                ^---- display <- cli, panel, magics      panel also <- apply (its runs)
"""

from __future__ import annotations

import os
import threading
from types import FunctionType
from typing import TYPE_CHECKING, Any

import lazy_loader

from memshare_jupyter.errors.pointing import pointing
from memshare_jupyter.errors.spelling import counterpart, explained

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__version__ = "0.1.0"

_find, _, _named = lazy_loader.attach_stub(__name__, __file__)
_finding = threading.RLock()
"""Of the thread that loads something. A fork waits for it: Python takes the lock of a module that
another thread is loading into the child for good, and the child would wait for it for ever."""
__all__ = sorted([*_named, "__version__"])  # noqa: PLE0605 -- the stub has them one by one


@pointing
def __getattr__(name: str) -> Any:
    with _finding:
        try:
            found = _find(name)
        except AttributeError:
            if (ours := counterpart(name, _named)) in ("", name):
                raise
            text = f"{__name__} has no {name}; it is spelt {ours} here"
            raise AttributeError(text, name=name) from None
        if isinstance(found, FunctionType):
            found = explained(found, __name__)
        globals()[name] = found  # once, and no more by the import system
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Add the magics: what ``%load_ext memshare_jupyter`` calls."""
    from memshare_jupyter.magics import load  # noqa: PLC0415

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magics and end every handle of this process: ``%unload_ext memshare_jupyter``."""
    from memshare_jupyter.magics import unload  # noqa: PLC0415

    unload(shell)


def _let_go_in_child() -> None:
    if _finding._is_owned():  # type: ignore[attr-defined]
        _finding.release()
    else:  # an interrupt kept the parent from waiting
        _finding._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_finding.acquire,
        after_in_parent=_finding.release,
        after_in_child=_let_go_in_child,
    )
