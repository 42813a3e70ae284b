"""The first contact with an engine: whether it can take part in a call of this process.

What goes to an engine is bytes that name functions of this package, and never their code: code of
one version of Python crashes another, and that of one version of this package does not fit another.
With the first bytes for an engine goes a text that compares before it unpickles; it is written for
any version of Python 3, and what it finds is what the error tells the user.

What needs the caller's memory, as work on its queue does, is done on its host only: for that, host
and runtime directory are compared as well.
"""

from __future__ import annotations

import functools
import pickle
import socket
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import memshare_jupyter
from memshare_jupyter.core.ledger import runtime_directory
from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from ipyparallel import Client

    from memshare_jupyter.engines._choose import Engine

_FACTS: Final = """
import os, socket, sys

def facts(expected):
    found = {"Python": "%d.%d" % sys.version_info[:2], "host": socket.gethostname()}
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            found["boot"] = file.read().strip()
    except OSError:
        found["boot"] = found["host"]
    try:
        import memshare_jupyter
    except ImportError as error:
        found["memshare_jupyter"] = "none (%s)" % error
        return found
    found["memshare_jupyter"] = getattr(memshare_jupyter, "__version__", "unknown")
    compared = [key for key in found if key in expected and key != "host"]
    if "boot" in expected and all(found[key] == expected[key] for key in compared):
        from memshare_jupyter.core.ledger import runtime_directory
        directory = str(runtime_directory())
        found["runtime directory"] = directory
        try:
            if os.path.samefile(directory, expected["runtime directory"]):
                found["runtime directory"] = expected["runtime directory"]
        except OSError:
            pass
    return found

def met(expected, call):
    found = facts(expected)
    if any(found.get(key) != expected[key] for key in expected if key != "host"):
        return {"memshare differs": found}
    import pickle
    return pickle.loads(call)
"""
_MEET: Final = "exec(source) or met(expected, call)"

_known: weakref.WeakKeyDictionary[Client, dict[int, bool]] = weakref.WeakKeyDictionary()
"""The engines of each client that were compared, and whether their hosts were."""


class _Call:
    """A call of a function that is made by unpickling."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def request(
    engine: Engine, function: Callable[..., Any], arguments: tuple[Any, ...], *, here: bool
) -> tuple[Any, ...]:
    """Return a builtin, and its arguments, that make an engine call a function of this package.

    With `here`, only if it is on this host.
    """
    call = pickle.dumps(_Call(function, arguments))
    known = _known.get(engine.client, {})
    if engine.number in known and known[engine.number] >= here:
        return pickle.loads, call
    expected = _expected()
    if not here:
        expected = {key: expected[key] for key in ("Python", "memshare_jupyter")}
    return eval, _MEET, {"source": _FACTS, "expected": expected, "call": call}


def answer(engine: Engine, answered: Any, *, here: bool) -> Any:
    """Return what the function returned, which was asked for by a `request` with that `here`.

    Raises
    ------
    ClusterError
        It was not called, because the engine differs from this process.
    """
    if isinstance(answered, dict) and "memshare differs" in answered:
        raise _mismatch(engine.number, answered["memshare differs"])
    known = _known.setdefault(engine.client, {})
    known[engine.number] = here or known.get(engine.number, False)
    return answered


def _expected() -> dict[str, str]:
    return {
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "host": socket.gethostname(),
        "boot": _boot(),
        "memshare_jupyter": memshare_jupyter.__version__,
        "runtime directory": str(runtime_directory()),
    }


@functools.cache
def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return socket.gethostname()


_ADVICE: Final = {
    "Python": "start engines with the same Python",
    "memshare_jupyter": "install the same version of memshare_jupyter in the engines' environment",
    "boot": "try again: it was taken for one of this host, since it did not say where it is",
    "runtime directory": (
        "start engines with the same XDG_RUNTIME_DIR, of which the runtime directory follows"
    ),
}


def _mismatch(engine: int, found: dict[str, str]) -> ClusterError:
    expected = _expected()
    # The order is that of `expected`, and what cannot be asked after a difference is not one.
    which = [key for key in _ADVICE if key in found and found[key] != expected[key]]
    parts = []
    for key in which:
        shown = "host" if key == "boot" else key
        theirs, ours = (found[shown], expected[shown])
        if key == "boot" and theirs == ours:
            theirs, ours = f"{theirs} ({found[key]})", f"{ours} ({expected[key]})"
        parts.append(f"its {shown} is {theirs}, that of this process {ours}")
    return ClusterError(
        f"engine {engine} cannot take part: {'; '.join(parts)}; "
        f"{', and '.join(_ADVICE[key] for key in which)}",
        engine=engine,
        differs={key: (found[key], expected[key]) for key in which},
    )
