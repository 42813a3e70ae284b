"""What the system around a process gives it, and what to do where it gives less."""

from __future__ import annotations

import contextlib
import platform
import re
import resource
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from memshare_jupyter.core import _directories, blocks
from memshare_jupyter.core.blocks import DIRECTORY_VARIABLE
from memshare_jupyter.core.quantities import in_units

State = Literal["ok", "warn", "fail"]
_LEAST_KERNEL: Final = (5, 1)
_FEW_FILES: Final = 4096
_LITTLE_ROOM: Final = 0.1
_LOOPBACK: Final = "127.0.0.1"


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


def system() -> Iterator[Check]:
    """Look at kernel and Python."""
    found = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    if sys.platform != "linux":
        advice = "only Linux has memfds; pages are files here"
    elif tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < _LEAST_KERNEL:
        advice = "Linux before 5.1 cannot seal memory against writing; use a newer kernel"
    else:
        advice = ""
    yield Check("system", "warn" if advice else "ok", found, advice)


def files() -> Iterator[Check]:
    """Look where pages with a file lie."""
    directory = blocks.page_directory()
    kind = _directories.file_system(directory)
    room = blocks.room_in(str(directory))
    found = f"{directory} ({kind}, {in_units(room.free_bytes)} free)"
    if directory.exists() and (fault := _directories.why_unsafe(directory)):
        yield Check("directory of files", "fail", f"{found} {fault}", "choose another one")
    elif kind in _directories.OVER_NETWORK:
        advice = f"locks may not work over a network; set {DIRECTORY_VARIABLE} to a local directory"
        yield Check("directory of files", "warn", found, advice)
    else:
        yield Check("directory of files", "ok", found)


def open_files() -> Iterator[Check]:
    """Look how many files this process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "unlimited" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    few = hard != resource.RLIM_INFINITY and hard < _FEW_FILES
    advice = "each page takes one; ask for a higher hard limit (ulimit -Hn)" if few else ""
    state: State = "warn" if few else "ok"
    yield Check("open files", state, f"{soft:,}, raised when needed up to {most}", advice)


def room() -> Iterator[Check]:
    """Look how much memory there is."""
    room = blocks.room()
    found = f"{in_units(room.free_bytes)} of {in_units(room.limit_bytes)} free ({room.where})"
    if room.free_bytes < _LITTLE_ROOM * room.limit_bytes:
        advice = f"release pages, or put large ones on a disk with {DIRECTORY_VARIABLE}"
        yield Check("memory", "warn", found, advice)
    else:
        yield Check("memory", "ok", found)


def huge_pages() -> Iterator[Check]:
    """Look whether shared memory gets huge pages."""
    yield Check("huge pages", "ok", blocks.huge_pages())


def temporary_files() -> Iterator[Check]:
    """Look whether there is a place for temporary files, which a local cluster needs."""
    with contextlib.suppress(FileNotFoundError):
        yield Check("temporary files", "ok", str(_directories.for_temporary_files()))
        return
    try:
        found = f"no directory for them can be written to; {_directories.temporary()} is used"
        yield Check("temporary files", "warn", found, "set TMPDIR to a directory of your own")
    except FileNotFoundError as error:
        yield Check(
            "temporary files", "fail", "no directory for them can be written to", str(error)
        )


def loopback() -> Iterator[Check]:
    """Look whether processes of this host can talk by its loopback interface."""
    try:
        with socket.create_server((_LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2.0).close()
    except OSError as error:
        found = f"{_LOOPBACK} cannot be reached ({error.strerror or error})"
        advice = "the engines of a local cluster need it (ip link set lo up)"
        yield Check("loopback", "warn", found, advice)
    else:
        yield Check("loopback", "ok", f"{_LOOPBACK} can be reached")
