"""Modules that are being edited: not installed, and changed in the life of this process.

Of a module whose file is as old as this process, or older, an engine that imports it has what is
here: it goes by its name, with its state. What was saved since may be loaded here in one version
and on an engine in another.
"""

from __future__ import annotations

import functools
import importlib
import os
import site
import sys
import sysconfig
import time
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_MARGIN_S: Final = 2.0
"""Clocks of file systems are coarse, and the time of the start is one of ticks."""
_OWN: Final = __name__.partition(".")[0]


def was_edited(module: Any) -> bool:
    """Say whether a module's file may be another than when this process began."""
    file = getattr(module, "__file__", None)
    name = getattr(module, "__name__", None)
    if not isinstance(file, str) or not isinstance(name, str) or not isinstance(module, ModuleType):
        return False
    if sys.modules.get(name) is not module or not _may_be_edited(name, file):
        return False
    try:
        found = os.stat(file)
    except OSError:
        return True  # it was removed, and no engine can import it any more
    # The second is that of a file that was moved here, however old it is.
    return max(found.st_mtime, found.st_ctime) > _began()


@functools.cache
def _may_be_edited(name: str, file: str) -> bool:
    """Say whether a module is one that people edit: Python, and not installed."""
    if not file.endswith(".py") or name.partition(".")[0] in (_OWN, "__main__", "__mp_main__"):
        return False
    path = Path(os.path.abspath(file))
    return not any(map(path.is_relative_to, _installed()))


@functools.cache
def _installed() -> list[str]:
    places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [*filter(None, places), *site.getsitepackages(), site.getusersitepackages()]


@functools.cache
def _began() -> float:
    """Return when this process began, in seconds since the epoch; now, if that is not known."""
    try:
        with open("/proc/self/stat", "rb") as stat:  # field 22 of proc_pid_stat(5)
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
        since_boot = ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot - _MARGIN_S
    except (OSError, AttributeError, IndexError, ValueError):
        return time.time() - _MARGIN_S


_candidates: tuple[tuple[int, str], list[str]] = ((0, ""), [])
"""The names of modules that people edit, and as of how many modules and which last one."""


def edited_modules() -> tuple[tuple[str, int], ...]:
    """Return the modules that are edited, each with a number that changes when it is saved."""
    global _candidates  # noqa: PLW0603 -- one process, one set of modules
    state = len(sys.modules), next(reversed(sys.modules))
    if _candidates[0] != state:
        names = [name for name, module in [*sys.modules.items()] if _is_candidate(name, module)]
        _candidates = state, names
    modules = [(name, sys.modules.get(name)) for name in _candidates[1]]
    return tuple((name, _saved(module)) for name, module in modules if was_edited(module))


def _is_candidate(name: str, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and _may_be_edited(name, file)


def _saved(module: Any) -> int:
    try:
        return os.stat(module.__file__).st_mtime_ns
    except OSError:
        return 0


_imported_as: Final[dict[str, int]] = {}


def forget(edited: tuple[tuple[str, int], ...]) -> None:
    """Forget modules that were saved since this process imported them: the next import is anew."""
    for name, saved in edited:
        if _imported_as.get(name) != saved:
            _imported_as[name] = saved
            if sys.modules.pop(name, None) is not None:
                importlib.invalidate_caches()
