"""Where pages with a file lie, and removing what dead processes left there."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from memshare_jupyter.core import _directories
from memshare_jupyter.errors import RegistryCorruptError

VARIABLE: Final = "MEMSHARE_DIR"
_DEFAULT: Final = "memshare-{}-pages"
_FILE: Final = re.compile(r"([0-9a-f]{32})\.page")
_TICK_NS: Final = 50_000_000
"""Two changes of a directory closer than that may have one time."""
_SHARE: Final = 0.05
"""Of the time, that listing a directory again and again may take."""


def page_directory() -> Path:
    """Return the directory of pages with a file, when none was asked for; it may not exist yet.

    ``$MEMSHARE_DIR``, else ``/dev/shm/memshare-<uid>-pages``, else ``memshare-<uid>-pages`` in
    the directory for temporary files. Not below the runtime directory: that is often small.
    Where somebody else has that name, the next of ``memshare-<uid>-pages-1`` and so on.

    Raises
    ------
    RegistryCorruptError
        There is no directory to make it in.
    """
    if chosen := os.environ.get(VARIABLE, ""):
        return Path(chosen).absolute()
    try:
        base = _directories.shared_or_temporary()
    except FileNotFoundError as error:
        raise RegistryCorruptError(
            f"there is no directory for pages: neither {_directories.SHARED} nor one for temporary "
            f"files can be written to; set {VARIABLE} to one of your own",
            directory="",
        ) from error
    return _directories.first_of_mine(base / _DEFAULT.format(os.getuid()))


def make_page_directory(directory: Path) -> None:
    """Create a directory for pages if need be and check that nobody else can change it.

    Others may look into one that exists already: each file keeps them out itself.

    Raises
    ------
    RegistryCorruptError
        It is a link, belongs to another user, others may write to it, or its locks may not bind
        who uses it from another host: those would remove pages in use.
    FileNotFoundError
        The directory around it does not exist.
    """
    fault = _directories.make(directory, why="so other users can write to it")
    if not fault:
        with contextlib.suppress(FileNotFoundError):
            kind = _kind(directory.stat().st_dev, str(directory))
            if kind in _directories.OVER_NETWORK:
                fault = f"lies on a {kind} file system, whose locks may bind one host only"
    if fault:
        raise RegistryCorruptError(
            f"the directory for pages {directory} {fault}; choose one of this host that is yours "
            "alone, or one that does not exist yet",
            directory=str(directory),
        )


@functools.lru_cache(maxsize=64)
def _kind(_device: int, directory: str) -> str:
    return _directories.file_system(Path(directory))


def remove_if_default(directory: Path) -> None:
    """Remove a directory of pages that is empty, unless somebody chose it."""
    if re.fullmatch(_DEFAULT.format(os.getuid()) + r"(-\d+)?", directory.name):
        with contextlib.suppress(OSError):
            directory.rmdir()


class _Place:
    """What is known of one directory: its page files, and when it was listed."""

    def __init__(self) -> None:
        self.files: set[bytes] = set()
        self._changed_ns = -1
        self._not_before_s = 0.0

    def look(self, place: str) -> None:
        """List the directory if it changed, and not too often if it is large."""
        asked_ns = time.time_ns()  # first: this thread may stand still at any point from here on
        try:
            changed_ns = os.stat(place).st_mtime_ns
            if changed_ns == self._changed_ns or time.monotonic() < self._not_before_s:
                return
            begun_s = time.thread_time()  # that others run meanwhile says nothing of the directory
            with os.scandir(place) as found:
                matches = [_FILE.fullmatch(file.name) for file in found]
        except (OSError, ValueError):  # ValueError: a damaged list may name anything
            self.files.clear()
            return
        self.files = {bytes.fromhex(match[1]) for match in matches if match}
        settled = abs(asked_ns - changed_ns) > _TICK_NS
        self._changed_ns = changed_ns if settled else -1
        self._not_before_s = time.monotonic() + (time.thread_time() - begun_s) / _SHARE


class Places:
    """The directories of pages that this process knows of.

    The files that a dead session listed go with its session file. What is swept here is what it
    had not listed yet, or was no more: a kill while it made or replaced a page.

    A look at a directory that did not change costs a ``stat``, however many files of others are
    in it. One of another process that lies on another host is that process's to look at.

    Parameters
    ----------
    reclaim : callable
        Removes the file of a block in a directory, if nobody holds it.
    """

    def __init__(self, reclaim: Callable[[str, bytes], None]) -> None:
        self._reclaim = reclaim
        self._known: dict[str, _Place] = {}
        self._remote: set[str] = set()

    def use(self, place: str) -> None:
        """Sweep a directory when this process comes to use it."""
        if place and place not in self._known:
            self._known[place] = _Place()
            self._sweep(place, set())

    def sweep(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Sweep every directory that is known, or that a living session lists pages in.

        Parameters
        ----------
        files : iterable of (str, bytes)
            Directory and block of each page with a file that a living session lists.
        """
        listed = set()
        with contextlib.suppress(RegistryCorruptError):
            self._known.setdefault(str(page_directory()), _Place())
        for place, uuid in files:
            listed.add(uuid)
            if place not in self._known and place not in self._remote:
                if _directories.over_network(place):
                    self._remote.add(place)
                else:
                    self._known[place] = _Place()
        for place in self._known:
            self._sweep(place, listed)

    def _sweep(self, place: str, listed: set[bytes]) -> None:
        known = self._known[place]
        known.look(place)
        for uuid in known.files - listed:
            self._reclaim(place, uuid)
