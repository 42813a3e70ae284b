"""What this system gives us to share memory with, and what to do where it gives less."""

from __future__ import annotations

import os
import platform
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from memshare_jupyter.core import _directories, _proc
from memshare_jupyter.core.blocks import (
    _block as segment,
)
from memshare_jupyter.core.blocks import _filling
from memshare_jupyter.core.blocks import (
    _room as memory,
)
from memshare_jupyter.core.blocks._places import VARIABLE, page_directory
from memshare_jupyter.core.blocks._room import in_units
from memshare_jupyter.core.ledger._ledger import Seen, survey
from memshare_jupyter.core.ledger._runtime import make_directory, runtime_directory
from memshare_jupyter.core.registry._process import registry
from memshare_jupyter.errors import MemshareError

State = Literal["ok", "warn", "fail"]
_NAMESPACE: Final = "memshare doctor"
_LEAST_KERNEL: Final = (5, 1)
_FEW_FILES: Final = 4096
_LITTLE_ROOM: Final = 0.1
_PATIENCE_S: Final = 30.0
_ATTACH: Final = (
    "import sys; from memshare_jupyter.core.registry._process import registry;"
    " print(int(registry().attach(sys.argv[1], sys.argv[2]).sum()))"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What it is.
    state : {"ok", "warn", "fail"}
        ``warn``: it works, with less than there could be. ``fail``: something will not work.
    found : str
        How it is.
    advice : str
        What to do; empty when there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def examine() -> list[Check]:
    """Look at the system, and share a small array with a child process to see that it works.

    Begins this process's session if there is none yet. Takes about a second.
    """
    looks: tuple[Callable[[], Iterator[Check]], ...] = (
        *(_system, _runtime, _backend, _attach, _files, _open_files, _room, _huge_pages, _sessions),
    )
    checks: list[Check] = []
    for look in looks:
        try:
            checks += look()
        except (OSError, MemshareError) as error:
            checks.append(Check(look.__name__.strip("_").replace("_", " "), "fail", str(error)))
    return checks


def render(checks: list[Check]) -> str:
    """Return the checks as text, a line each and one more for each advice."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<4}  {check.name:<{width}}  {check.found}")
        if check.advice:
            lines.append(f"{'':<{6 + width}}  -> {check.advice}")
    return "\n".join(lines)


def _system() -> Iterator[Check]:
    found = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    if sys.platform != "linux":
        advice = "only Linux has memfds; pages are files here"
    elif tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < _LEAST_KERNEL:
        advice = "Linux before 5.1 cannot seal memory against writing; use a newer kernel"
    else:
        advice = ""
    yield Check("system", "warn" if advice else "ok", found, advice)


def _runtime() -> Iterator[Check]:
    directory = runtime_directory()
    make_directory(directory)
    kind = _directories.file_system(directory)
    mode = stat.S_IMODE(directory.stat().st_mode)
    advice = ""
    if kind in _directories.OVER_NETWORK:
        advice = "locks may not work over a network; set MEMSHARE_RUNTIME_DIR to a local directory"
    state: State = "warn" if advice else "ok"
    yield Check("runtime directory", state, f"{directory} ({kind}, mode {mode:o})", advice)


def _backend() -> Iterator[Check]:
    registry().snapshot()  # sees whether there are sessions of other pid namespaces
    backend, place = segment.choose()
    if backend == "file":
        why = f"{VARIABLE} is set" if os.environ.get(VARIABLE) else "there are no memfds here"
        yield Check("backend", "ok", f"file in {place}, because {why}")
        return
    hidden = _proc.why_hidden()
    if not registry().serving:
        yield Check("backend", "ok", "memfd, which others reach through /proc")
    else:
        why = hidden or "another pid namespace or a variable asks for it"
        yield Check("backend", "ok", f"memfd, which others reach through a socket, too: {why}")


def _attach() -> Iterator[Check]:
    variable = f"probe of {os.getpid()}"
    registry().register(_NAMESPACE, {variable: np.arange(5)})
    try:
        # A process of its own, as an engine is; it looks for packages where we do.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(  # noqa: S603 -- our own interpreter and our own code
            [sys.executable, "-c", _ATTACH, _NAMESPACE, variable],
            env=environment, capture_output=True, text=True, timeout=_PATIENCE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        yield Check("attach", "fail", f"a child process did not attach within {_PATIENCE_S:g} s")
    else:
        if done.stdout.strip() == "10":
            yield Check("attach", "ok", "a child process attached a page and read it")
        else:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            advice = "python -m memshare_jupyter must run in a process of its own, too"
            yield Check("attach", "fail", f"a child process said: {said}", advice)
    finally:
        registry().release(_NAMESPACE, [variable])


def _files() -> Iterator[Check]:
    directory = page_directory()
    kind = _directories.file_system(directory)
    room = memory.directory(str(directory))
    found = f"{directory} ({kind}, {in_units(room.free_bytes)} free)"
    if directory.exists() and (fault := _directories.why_unsafe(directory)):
        yield Check("directory of files", "fail", f"{found} {fault}", "choose another one")
    elif kind in _directories.OVER_NETWORK:
        advice = f"locks may not work over a network; set {VARIABLE} to a local directory"
        yield Check("directory of files", "warn", found, advice)
    else:
        yield Check("directory of files", "ok", found)


def _open_files() -> Iterator[Check]:
    import resource  # noqa: PLC0415 -- POSIX only, as is the limit

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "unlimited" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    few = hard != resource.RLIM_INFINITY and hard < _FEW_FILES
    advice = "each page takes one; ask for a higher hard limit (ulimit -Hn)" if few else ""
    state: State = "warn" if few else "ok"
    yield Check("open files", state, f"{soft:,}, raised when needed up to {most}", advice)


def _room() -> Iterator[Check]:
    room = memory.room()
    found = f"{in_units(room.free_bytes)} of {in_units(room.limit_bytes)} free ({room.where})"
    if room.free_bytes < _LITTLE_ROOM * room.limit_bytes:
        advice = f"release pages, or put large ones on a disk with {VARIABLE}"
        yield Check("memory", "warn", found, advice)
    else:
        yield Check("memory", "ok", found)


def _huge_pages() -> Iterator[Check]:
    yield Check("huge pages", "ok", _filling.setting())


def _sessions() -> Iterator[Check]:
    seen = survey(runtime_directory(), registry().session_file)
    living = [s for s in seen if s.same_version]
    foreign = [s for s in living if s.pid_namespace != _proc.pid_namespace()]
    others = [s for s in seen if not s.same_version]
    found = f"{len(living)} besides this one"
    yield Check("sessions", "ok", found + (f": {_named(living)}" if living else ""))
    if foreign:
        yield Check("other pid namespaces", "ok", f"{_named(foreign)}; attached through sockets")
    if others:
        advice = "use the same version of memshare_jupyter in every process, and start those anew"
        yield Check("other versions", "warn", f"{_named(others)} cannot be seen here", advice)


def _named(sessions: list[Seen]) -> str:
    return ", ".join(f"{s.pid} {s.label}".strip() for s in sessions)
