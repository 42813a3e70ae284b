"""The runtime directory: where the processes of this user on this host list what they hold.

One user, one host, one directory: whoever looks elsewhere sees nothing, so the choice must not
depend on how a process was started. A terminal has ``XDG_RUNTIME_DIR``; ssh, cron, systemd,
``docker exec`` and batch jobs often have not. It is chosen so:

1. ``MEMSHARE_RUNTIME_DIR``, when it is set: for containers that share one, and for tests;
2. ``$XDG_RUNTIME_DIR/memshare``, when somebody set that variable to a directory of their own. The
   one of a login session, ``/run/user/<uid>``, does not count: it is not there without a login,
   and goes with the last one, while kernels may stay;
3. a directory of the third rule in which a process of this user lives: whoever comes joins;
4. ``memshare-<uid>`` in ``/dev/shm``, else ``/tmp``, ``/var/tmp``, ``/run/user/<uid>`` or the
   directory for temporary files.

A directory is ours when it is one, no link, belongs to this user, and nobody else may enter it.
Where something else has the name, ``memshare-<uid>-1`` is used and so on: a sticky ``/dev/shm``
lets nobody remove what a stranger puts there, and in user namespaces many are user 0.

Over a network the name ends with the boot's id: locks may not bind another host there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import Final

from memshare_jupyter.core import _directories, _proc
from memshare_jupyter.core.ledger._elsewhere import Elsewhere, Sought, find_elsewhere, living
from memshare_jupyter.errors import NotEnoughMemoryError, RegistryCorruptError

VARIABLE: Final = "MEMSHARE_RUNTIME_DIR"
LOGIN_VARIABLE: Final = "XDG_RUNTIME_DIR"
_LOGIN: Final = re.compile(r"(/var)?/run/user/\d+")
_OURS: Final = re.compile(r"memshare-\d+(-\d+)?")
_WITHOUT_LOGIN: Final = (_directories.SHARED, Path("/tmp"), Path("/var/tmp"))  # noqa: S108 -- checked before use
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_REFUSED: Final = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.EISDIR, errno.ENOTDIR),
    *(errno.ENXIO, errno.ENOLCK, errno.EOPNOTSUPP, errno.ESTALE, errno.EIO, errno.ENAMETOOLONG),
)

_chosen: dict[tuple[str | None, str | None], Path] = {}
"""What was chosen, for these variables: a process does not change its mind without need."""


def runtime_directory() -> Path:
    """Return the directory of this user's session files; it may not exist yet.

    The same one until it is not ours any more, or what it lies in is gone.
    """
    variables = os.environ.get(VARIABLE), os.environ.get(LOGIN_VARIABLE)
    before = _chosen.get(variables)
    if before is not None and before.parent.is_dir() and not _why_unsafe(before):
        return before
    found = _chosen[variables] = _of_variables() or _joined() or _by_rule()
    return found


def still(directory: Path) -> Path:
    """Return `directory`, or the one to move to when what it lay in is gone, as after a logout."""
    return directory if directory.parent.is_dir() else runtime_directory()


def elsewhere(mine: Path) -> list[Elsewhere]:
    """Return the other directories in which processes of this user live, see `_elsewhere`."""
    login = Path(f"/run/user/{os.getuid()}/memshare")  # of earlier versions
    return find_elsewhere(mine, [one for one in (*_by_the_rule(), login) if not _why_unsafe(one)])


def hint(mine: Path, sought: Sought) -> str:
    """Say where else processes of this user list what is not here; empty when they do not.

    For the end of the message that there is no such page. It takes milliseconds, and who is where
    is remembered for two seconds.
    """
    having = [other.only(sought) for other in elsewhere(mine)]
    having = [other for other in having if other.pids]
    if not having:
        return ""
    return (
        f"it is listed by {'; '.join(map(str, having))}, and this process looks in {mine}: set "
        f"{VARIABLE} (or {LOGIN_VARIABLE}) to the same directory for all"
    )


def make_directory(directory: Path) -> None:
    """Create the runtime directory if need be and check that nobody else can have a hand in it.

    Raises
    ------
    RegistryCorruptError
        It is a link, belongs to another user, or others may enter it; or there is no place
        for it any more.
    NotEnoughMemoryError
        Its file system is full.
    """
    try:
        fault = _directories.make(directory, _directories.ONLY_MINE, _CLOSED)
    except FileNotFoundError:
        raise RegistryCorruptError(
            f"the runtime directory {directory} cannot be made, because {directory.parent} is "
            f"gone, as after a logout; log in again, or set {VARIABLE} to a directory that stays "
            f"(instead of {LOGIN_VARIABLE}). What this process holds stays valid",
            directory=str(directory),
        ) from None
    except OSError as error:
        raise_if_unusable(error, directory)
        raise
    if fault:
        raise _untrusted(directory, fault)


def check_directory(directory: Path) -> None:
    """Check that nobody else can have a hand in the runtime directory, if there is one.

    Raises
    ------
    RegistryCorruptError
        It is a link, belongs to another user, or others may enter it.
    """
    if fault := _why_unsafe(directory):
        raise _untrusted(directory, fault)


def _untrusted(directory: Path, fault: str) -> RegistryCorruptError:
    return RegistryCorruptError(
        f"the runtime directory {directory} {fault}; remove it if you may, or set {VARIABLE} to a "
        "directory of your own, in every process",
        directory=str(directory),
    )


_CLOSED: Final = "so other users can enter it"


def _why_unsafe(directory: Path) -> str:
    return _directories.why_unsafe(directory, _directories.ONLY_MINE, _CLOSED)


def raise_if_unusable(error: OSError, directory: Path, name: str = "") -> None:
    """Raise what it means for our lists that a file in the runtime directory, `name`, failed."""
    path = directory / name if name else directory
    if error.errno in _FULL:
        raise NotEnoughMemoryError(
            f"the file system of the runtime directory {directory} is full, so what this process "
            "holds cannot be listed there; remove files from it (pages need no room there), or set "
            f"{VARIABLE} to a directory elsewhere, in every process",
            directory=str(directory),
        ) from error
    if error.errno == errno.EFBIG:
        raise NotEnoughMemoryError(
            f"this process may not write a file as large as its list in {directory}; raise the "
            "limit of file sizes (ulimit -f, LimitFSIZE=)",
            directory=str(directory),
        ) from error
    if error.errno in _REFUSED:
        raise RegistryCorruptError(
            f"{path} cannot be used: {error.strerror}; remove it, or set {VARIABLE} to a directory "
            "of your own, in every process",
            directory=str(directory),
        ) from error


# --- the choice --------------------------------------------------------------------------


def _of_variables() -> Path | None:
    if chosen := os.environ.get(VARIABLE, ""):
        directory = Path(chosen).absolute()
        return _of_this_host(directory) if _over_network(directory) else directory
    login = os.environ.get(LOGIN_VARIABLE, "")
    if not login or why_not_used(login):
        return None
    return _mine(Path(login, "memshare"))


def why_not_used(login: str) -> str:
    """Say why `$XDG_RUNTIME_DIR` does not lead to the runtime directory; empty when it does."""
    if is_of_login(login):
        return "is that of a login session, which other processes of yours may not have"
    if not os.path.isabs(login):
        return "is not an absolute path"
    try:
        found = os.stat(login)
    except (OSError, ValueError):
        return "is not there"
    if found.st_uid != os.getuid():
        return f"belongs to user {found.st_uid}"
    return "" if os.access(login, os.W_OK | os.X_OK) else "cannot be written to"


def is_of_login(login: str) -> bool:
    """Say whether a value of ``XDG_RUNTIME_DIR`` is what a login session sets it to."""
    return _LOGIN.fullmatch(os.path.normpath(login)) is not None


def _joined() -> Path | None:
    return next((one for one in _by_the_rule() if living(one)), None)


def _by_the_rule() -> list[Path]:
    """Return the directories that may be chosen without a variable and are this user's alone."""
    return [one for base in _bases() for one in _ours(base)]


def _by_rule() -> Path:
    name = f"memshare-{os.getuid()}"
    fit = [base for base in _bases() if _directories.usable(base)]
    for base in sorted(fit, key=_over_network):  # where locks are sure first
        if not _why_unsafe(found := _mine(base / name)):
            return found
    return _bases()[0] / name


def _bases() -> list[Path]:
    bases = [*_WITHOUT_LOGIN, Path(f"/run/user/{os.getuid()}")]
    with contextlib.suppress(FileNotFoundError):
        bases.append(_directories.for_temporary_files())
    return list(dict.fromkeys(bases))


def _ours(base: Path) -> list[Path]:
    """Return the directories of the rule that are this user's alone, the first to be used first."""
    try:
        found = [base / name for name in os.listdir(base) if _OURS.fullmatch(name)]
    except OSError:
        return []
    mine = f"memshare-{os.getuid()}"
    fit = [one for one in found if one.is_dir() and not _why_unsafe(one)]
    return sorted(fit, key=lambda one: (not one.name.startswith(mine), len(one.name), one.name))


def _mine(directory: Path) -> Path:
    if _over_network(directory):
        directory = _of_this_host(directory)
    return _directories.first_of_mine(directory, _directories.ONLY_MINE)


def _of_this_host(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}-{_proc.boot_id()[:8]}")


def _over_network(directory: Path) -> bool:
    return _directories.file_system(directory) in _directories.OVER_NETWORK
