"""What this system gives us to share memory with, and what to do where it gives less."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from memshare_jupyter.core import _directories, _proc, blocks, ledger
from memshare_jupyter.core.blocks import DIRECTORY_VARIABLE, SOCKET_VARIABLE
from memshare_jupyter.core.doctor import _surroundings as around
from memshare_jupyter.core.doctor._surroundings import Check, State
from memshare_jupyter.core.ledger import LOGIN_VARIABLE, RUNTIME_VARIABLE, Who, sessions_in
from memshare_jupyter.core.registry import registry
from memshare_jupyter.errors import MemshareError

_NAMESPACE: Final = "memshare doctor"
_PATIENCE_S: Final = 30.0
_NUMBERED: Final = re.compile(r"(memshare(?:-\d+)?)-\d+")
_SESSION: Final = re.compile(r"(\d+)-([0-9a-f]{32})\b.*\.session")
_ATTACH: Final = (
    "import sys; from memshare_jupyter.core.registry import registry;"
    " print(int(registry().attach(sys.argv[1], sys.argv[2]).sum()))"
)


def examine() -> list[Check]:
    """Look at the system, and share a small array with a child process to see that it works.

    Begins this process's session if there is none yet. Takes about a second.
    """
    looks: tuple[Callable[[], Iterator[Check]], ...] = (
        *(around.system, _runtime, _elsewhere, _backend, _attach, around.files),
        *(around.temporary_files, around.open_files, around.room, around.huge_pages),
        *(around.loopback, _sessions, _reach),
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


def _runtime() -> Iterator[Check]:
    directory = ledger.runtime_directory()
    ledger.make_directory(directory)
    kind = _directories.file_system(directory)
    mode = stat.S_IMODE(directory.stat().st_mode)
    advice = ""
    if kind in _directories.OVER_NETWORK:
        advice = f"locks may not work over a network; set {RUNTIME_VARIABLE} to a local directory"
    elif match := _NUMBERED.fullmatch(directory.name):
        first = directory.with_name(match[1])
        if fault := _directories.why_unsafe(first, _directories.ONLY_MINE):
            advice = f"{first} is not used: it {fault}; only its owner or root can remove it"
    state: State = "warn" if advice else "ok"
    yield Check("runtime directory", state, f"{directory} ({kind}, mode {mode:o})", advice)
    login = os.environ.get(LOGIN_VARIABLE, "")
    if login and not os.environ.get(RUNTIME_VARIABLE) and (why := ledger.why_not_used(login)):
        for_login = ledger.is_of_login(login)
        advice = "" if for_login else f"give it to this user, or set {RUNTIME_VARIABLE} instead"
        found = f"{login} is not used: it {why}"
        yield Check(LOGIN_VARIABLE, "ok" if for_login else "warn", found, advice)


def _elsewhere() -> Iterator[Check]:
    directory = ledger.runtime_directory()
    if others := ledger.elsewhere(directory):
        found = f"out of sight: {'; '.join(map(str, others))}"
        advice = f"set {RUNTIME_VARIABLE} to the same directory in every process that is to share"
        yield Check("other directories", "warn", found, advice)


def _backend() -> Iterator[Check]:
    registry().snapshot()  # sees whether there are sessions of other pid namespaces
    backend, place = blocks.choose()
    if backend == "file":
        missing = blocks.why_no_memfds()
        why = (
            f"{DIRECTORY_VARIABLE} is set"
            if os.environ.get(DIRECTORY_VARIABLE)
            else f"of memfds {missing}"
        )
        yield Check("backend", "warn" if missing else "ok", f"file in {place}, because {why}")
        return
    hidden = _proc.why_hidden()
    if not hidden and _proc.confined():
        hidden = "the process lives in a user namespace of its own"
    if not registry().serving:
        yield Check("backend", "ok", "memfd, which others reach through /proc")
    else:
        why = hidden or "another namespace, another process or a variable asks for it"
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


def _sessions() -> Iterator[Check]:
    seen = list(sessions_in(ledger.runtime_directory(), registry().session_file))
    living = [who for _, who in seen if who is not None]
    foreign = [who for who in living if who.pid_namespace != _proc.pid_namespace()]
    others = [str(pid) for pid, who in seen if who is None]
    found = f"{len(living)} besides this one"
    yield Check("sessions", "ok", found + (f": {_named(living)}" if living else ""))
    if foreign:
        yield Check("other pid namespaces", "ok", f"{_named(foreign)}; attached through sockets")
    if others:
        advice = "use the same version of memshare_jupyter in every process, and start those anew"
        yield Check("other versions", "warn", f"{', '.join(others)} cannot be seen here", advice)


def _named(sessions: list[Who]) -> str:
    return ", ".join(f"{who.pid} {who.label}".strip() for who in sessions)


def _reach() -> Iterator[Check]:
    """Look whether the blocks of every other process can be opened from here."""
    directory = ledger.runtime_directory()
    living = [who for _, who in sessions_in(directory, registry().session_file) if who is not None]
    shut = [who for who in living if _is_shut(directory, who)]
    if shut:
        advice = (
            f"use memshare there once more, or set {SOCKET_VARIABLE}=1 before they start: they "
            "live in another namespace, have more capabilities, or are not dumpable"
        )
        yield Check("reach", "warn", f"{_named(shut)} cannot be opened from here", advice)
    else:
        yield Check("reach", "ok", "every other process can be opened from here")


def _is_shut(directory: Path, who: Who) -> bool:
    if who.pid_namespace == _proc.pid_namespace() and _proc.opens(who.pid):
        return False
    return not blocks.socket_path(directory, who.token).exists()
