"""This process's one registry: when it is made, what a fork does to it, when it ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from pathlib import PurePath
from typing import Any, Final

from memshare_jupyter.core.blocks import Mode
from memshare_jupyter.core.ledger import runtime_directory
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry._registry import Registry
from memshare_jupyter.core.registry._turn import hold_while_forking

_NOTEBOOKS: Final = (".ipynb", ".md", ".qmd", ".Rmd", ".py")
"""A console's session has a name, too, which says nothing; that of a notebook is its file's."""

_registry: Registry | None = None
_making = threading.RLock()
"""Reentrant: a signal handler may come in while its own thread makes the registry. Then there are
two for a moment, of which one is forgotten before anything is in it."""


def registry() -> Registry:
    """Return this process's registry, which is made by the first call."""
    global _registry  # noqa: PLW0603 -- a process has one registry, as it has one pid
    if _registry is None or _registry.ended:
        made = Registry(runtime_directory(), attach_reference)
        made.label(what_this_is())
        with _making:
            # No call in here, so no signal handler comes in between.
            if _registry is None or _registry.ended:
                _registry = made
    return _registry


def what_this_is() -> str:
    """Return what lists call this process until it is told otherwise; "" if it is nothing special.

    A kernel is called by its notebook, if the server that started it said which that is: JupyterLab
    and Notebook by the environment, VS Code by a variable. An engine that merely got a view from
    somebody should not be a number among others.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return ""
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return "ipython"
    engine = getattr(kernel, "engine_id", None)
    if engine is not None:
        return f"engine {engine}"
    said = shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME", "")
    name = PurePath(str(said)).name
    return name if name.endswith(_NOTEBOOKS) else "kernel"


def close() -> None:
    """End all handles of this process and its session; what is called later begins anew."""
    global _registry  # noqa: PLW0603 -- a process has one registry, as it has one pid
    ended = _registry
    if ended is not None:
        ended.close()  # first, so that an interrupt leaves nothing that nobody can end
        with _making:
            if _registry is ended:
                _registry = None


def attach_reference(
    namespace: str, variable: str, uuid: bytes, edition: int, mode: Mode, *form: Any
) -> Any:
    """Rebuild a pickled view or list; this is the function that its pickle names."""
    return registry().attach_reference(PageName(namespace, variable), uuid, edition, mode, form)


def _before_fork() -> None:
    if _registry is not None:
        _registry.before_fork()


def _after_fork_in_parent() -> None:
    if _registry is not None:
        _registry.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _making  # noqa: PLW0603 -- another thread may have had it
    _making = threading.RLock()
    if _registry is not None:
        _registry.after_fork_in_child()


def _after_fork() -> None:
    if _registry is not None:
        _registry.turn.settle()


atexit.register(close)
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
hold_while_forking()
os.register_at_fork(after_in_parent=_after_fork, after_in_child=_after_fork)
