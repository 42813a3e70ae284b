"""Processes of this user that list what they hold in another runtime directory than this one.

Nothing of theirs can be seen from here, so a page that is not found may well be there. They are
looked for where the rules lead, and by the session files that processes have open, wherever
those are.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from memshare_jupyter.core._locks import is_locked
from memshare_jupyter.core._opened import Opened

_SESSION: Final = re.compile(r"(\d+)-[0-9a-f-]+\.session")
_FILE: Final = re.compile(rf"{_SESSION.pattern}( \(deleted\))?|#\d+ \(deleted\)")
"""A session's file in ``/proc``: one that was made without a name is never called by it there."""
_REMEMBERED_S: Final = 2.0
_SHOWN_PIDS: Final = 5
_MOST_BYTES: Final = 16 << 20
_OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


Sought = Callable[[bytes], bool]
"""Says whether a session file with these contents lists what is looked for."""


class Elsewhere(NamedTuple):
    """Another directory, and who is there.

    Attributes
    ----------
    directory : str
        As this process calls it, or that one.
    pids : tuple of int
        The processes, as they call themselves.
    private : bool
        It has the same name as ours and is another: theirs lies in a mount namespace of its own.
    path : str
        What leads there from here.
    """

    directory: str
    pids: tuple[int, ...]
    private: bool
    path: str

    def __str__(self) -> str:
        more = len(self.pids) - _SHOWN_PIDS
        shown = ", ".join(map(str, self.pids[:_SHOWN_PIDS]))
        who = f"process{'es' if len(self.pids) > 1 else ''} {shown}"
        if more > 0:
            who += f" and {more} more"
        if self.private:
            return f"{who} in a {self.directory} that only its container or job sees"
        return f"{who} in {self.directory}"

    def only(self, sought: Sought) -> Elsewhere:
        """Return the same with those processes only that list what is sought."""
        return self._replace(pids=tuple(sorted(living(Path(self.path), sought))))


def living(directory: Path, sought: Sought | None = None) -> set[int]:
    """Return the pids of the sessions in a directory whose process lives, but not this one's.

    With `sought`, only of those that list it.
    """
    found = set()
    for name in _listed(directory):
        match = _SESSION.fullmatch(name)
        # Closing one's own session file would drop its lock, so it is not opened.
        if match is None or int(match[1]) == os.getpid():
            continue
        opened = Opened()
        with contextlib.suppress(OSError):
            fd = opened.open(os.open, directory / name, _OPEN)
            if is_locked(fd) and (sought is None or sought(os.pread(fd, _MOST_BYTES, 0))):
                found.add(int(match[1]))
        opened.close()
    return found


_seen: tuple[float, Path, list[Elsewhere]] = (-_REMEMBERED_S, Path(), [])


def find_elsewhere(mine: Path, candidates: Iterable[Path]) -> list[Elsewhere]:
    """Return the directories other than `mine` in which processes of this user live.

    Parameters
    ----------
    mine : Path
        This process's runtime directory.
    candidates : iterable of Path
        Where they may be; they must be this user's alone.
    """
    global _seen  # noqa: PLW0603 -- one memory for the process
    if time.monotonic() - _seen[0] < _REMEMBERED_S and _seen[1] == mine:
        return _seen[2]
    met, found = {_identity(mine)}, []
    for path, called in (*((one, str(one)) for one in candidates), *_with_open_sessions()):
        identity = _identity(path)
        if identity is not None and identity not in met:
            met.add(identity)
            if pids := living(path):
                private = called == str(mine)
                found.append(Elsewhere(called, tuple(sorted(pids)), private, str(path)))
    _seen = (time.monotonic(), mine, found)
    return found


def _with_open_sessions() -> Iterator[tuple[Path, str]]:
    """Yield the directories of what may be open session files of this user's processes.

    Each by a path that leads there from here, and as its process calls it.
    """
    for pid in filter(str.isdigit, _listed("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid != os.getuid() or int(pid) == os.getpid():
                continue
        for fd in _listed(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                directory, _, name = os.readlink(f"/proc/{pid}/fd/{fd}").rpartition("/")
                if _FILE.fullmatch(name):
                    # Its root may be another than ours, or only a part of it.
                    yield Path(f"/proc/{pid}/root{directory}"), directory
                    yield Path(directory), directory


def _listed(directory: str | Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino
