"""The directories of this user: where sessions are listed, and where pages with a file lie."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from memshare_jupyter.errors import RegistryCorruptError

VARIABLE: Final = "MEMSHARE_DIR"
_DEFAULT: Final = "memshare-{}-pages"
_SHARED: Final = Path("/dev/shm")  # noqa: S108 -- checked before use


def runtime_directory() -> Path:
    """Return the directory of this user's session files; it may not exist yet.

    ``$XDG_RUNTIME_DIR/memshare`` when that is ours, else ``/dev/shm/memshare-<uid>``, else
    ``memshare-<uid>`` in the directory for temporary files.
    """
    uid = os.getuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime:
        with contextlib.suppress(OSError):
            if os.stat(runtime).st_uid == uid and os.access(runtime, os.W_OK | os.X_OK):
                return Path(runtime, "memshare")
    return _base() / f"memshare-{uid}"


def page_directory() -> Path:
    """Return the directory of pages with a file, when none was asked for; it may not exist yet.

    ``$MEMSHARE_DIR``, else ``/dev/shm/memshare-<uid>-pages``, else ``memshare-<uid>-pages`` in
    the directory for temporary files. Not below the runtime directory: that is often small.
    """
    chosen = os.environ.get(VARIABLE, "")
    return Path(chosen).absolute() if chosen else _base() / _DEFAULT.format(os.getuid())


def remove_if_default(directory: Path) -> None:
    """Remove a directory of pages that is empty, unless somebody chose it."""
    if directory.name == _DEFAULT.format(os.getuid()):
        with contextlib.suppress(OSError):
            directory.rmdir()


def _base() -> Path:
    usable = os.access(_SHARED, os.W_OK | os.X_OK)
    return _SHARED if usable else Path(tempfile.gettempdir())


def make_directory(directory: Path) -> None:
    """Create the runtime directory if need be and check that nobody else can have a hand in it.

    Raises
    ------
    RegistryCorruptError
        It is a link, belongs to another user, or others may enter it; or there is no place
        for it any more.
    """
    try:
        fault = _fault(directory, 0o077, "so other users can enter it")
    except FileNotFoundError:
        raise RegistryCorruptError(
            f"the runtime directory {directory} cannot be made, because {directory.parent} is "
            "gone, as after a logout; set XDG_RUNTIME_DIR to a directory that stays, and restart",
            directory=str(directory),
        ) from None
    if fault:
        raise _untrusted(directory, fault)


def check_directory(directory: Path) -> None:
    """Check that nobody else can have a hand in the runtime directory, if there is one.

    Raises
    ------
    RegistryCorruptError
        It is a link, belongs to another user, or others may enter it.
    """
    if fault := why_unsafe(directory, 0o077, "so other users can enter it"):
        raise _untrusted(directory, fault)


def _untrusted(directory: Path, fault: str) -> RegistryCorruptError:
    return RegistryCorruptError(
        f"the runtime directory {directory} {fault}; remove it, or set XDG_RUNTIME_DIR to a "
        "directory of your own",
        directory=str(directory),
    )


def make_page_directory(directory: Path) -> None:
    """Create a directory for pages if need be and check that nobody else can change it.

    Others may look into one that exists already: each file keeps them out itself.

    Raises
    ------
    RegistryCorruptError
        It is a link, belongs to another user, or others may write to it.
    FileNotFoundError
        The directory around it does not exist.
    """
    fault = _fault(directory, 0o022, "so other users can write to it")
    if fault:
        raise RegistryCorruptError(
            f"the directory for pages {directory} {fault}; choose one that is yours alone, or one "
            "that does not exist yet",
            directory=str(directory),
        )


def _fault(directory: Path, closed: int, why: str) -> str:
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    return why_unsafe(directory, closed, why)


def why_unsafe(directory: Path, closed: int = 0o022, why: str = "for others to write to") -> str:
    """Say what is wrong with a directory; empty when nothing is, or it does not exist.

    `closed` are the bits of its mode that must not be set, and `why` what they would allow.
    """
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return ""  # removed again at once by a process that ended; the caller tries anew
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid != os.getuid():
        return f"belongs to user {found.st_uid}"
    return f"has mode {mode:o}, {why}" if mode & closed else ""
