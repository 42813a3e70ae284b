"""Whether a directory can be trusted with what is ours, and what file system it lies on.

See inode(7), the sticky bit in particular, and proc_pid_mountinfo(5).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SHARED: Final = Path("/dev/shm")  # noqa: S108 -- checked before use
ONLY_MINE: Final = 0o077
"""Bits of the mode of a directory that nobody else may even enter."""
_OTHERS_WRITE: Final = 0o022
_NAMES: Final = 100
_MOUNTS: Final = Path("/proc/self/mountinfo")
IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
OVER_NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "9p", "afs", "lustre", "beegfs"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.glusterfs"),
    }
)
"""Where a lock may bind one host only, or nobody."""


def usable(directory: Path) -> bool:
    """Say whether directories of ours can be made in one, and nobody else can replace them."""
    try:
        mode = directory.stat().st_mode
    except (OSError, ValueError):
        return False
    stays = not mode & _OTHERS_WRITE or bool(mode & stat.S_ISVTX)
    return stat.S_ISDIR(mode) and stays and os.access(directory, os.W_OK | os.X_OK)


def for_temporary_files() -> Path:
    """Return what ``tempfile.gettempdir`` would, which a signal or a fork may leave locked.

    Raises
    ------
    FileNotFoundError
        None can be written to.
    """
    chosen = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    for name in [*chosen, "/tmp", "/var/tmp", "/usr/tmp", os.curdir]:  # noqa: S108 -- the system's
        if name and os.path.isdir(name) and os.access(name, os.W_OK | os.X_OK):
            return Path(name).absolute()
    raise FileNotFoundError("no directory for temporary files can be written to; set TMPDIR")


def shared_or_temporary() -> Path:
    """Return ``/dev/shm``, or the directory for temporary files where that cannot be used.

    Raises
    ------
    FileNotFoundError
        Neither can be written to.
    """
    return SHARED if usable(SHARED) else for_temporary_files()


def temporary() -> Path:
    """Return the directory for temporary files, or ``/dev/shm`` where all others are read only.

    Raises
    ------
    FileNotFoundError
        None can be written to.
    """
    with contextlib.suppress(FileNotFoundError):
        return for_temporary_files()
    if usable(SHARED):
        return SHARED
    raise FileNotFoundError("no directory for temporary files can be written to; set TMPDIR")


def names(directory: Path) -> Iterator[Path]:
    """Yield a directory, and what to call it where somebody else was there first.

    Whoever follows this order comes to the same one.
    """
    yield directory
    for number in range(1, _NAMES):
        yield directory.with_name(f"{directory.name}-{number}")


def first_of_mine(directory: Path, closed: int = _OTHERS_WRITE) -> Path:
    """Return the first of a directory's `names` that is, or can become, this user's alone.

    `directory` itself when there is none: making it says what is wrong.
    """
    return next((one for one in names(directory) if not why_unsafe(one, closed)), directory)


def make(directory: Path, closed: int = _OTHERS_WRITE, why: str = "") -> str:
    """Make a directory if need be; say what is wrong with it, empty when nothing is."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        directory.chmod(0o700)  # the umask may have taken our own rights away
    return why_unsafe(directory, closed, why)


def why_unsafe(directory: Path, closed: int = _OTHERS_WRITE, why: str = "") -> str:
    """Say what is wrong with a directory; empty when nothing is, or it does not exist.

    `closed` are the bits of its mode that must not be set, and `why` what they would allow.
    """
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return ""  # removed again at once by a process that ended; the caller tries anew
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if found.st_uid != os.getuid():
        return f"belongs to user {found.st_uid}"
    return f"has mode {mode:o}, {why or 'so others can write to it'}" if mode & closed else ""


def file_system(path: Path) -> str:
    """Return the type of the file system that `path` is or will be on; empty when unknown."""
    found = existing(path)
    try:
        device = os.stat(found).st_dev
    except OSError:
        return ""
    mounts = _mounts()
    number = f"{os.major(device)}:{os.minor(device)}"
    types = [kind for its_number, _, kind in mounts if its_number == number]
    # Some file systems give their files another device number than their mount.
    return types[-1] if types else _by_path(str(found.resolve()), mounts)


def over_network(path: str) -> bool:
    """Say whether a path leads to another host; only by its name, so a dead host is no matter."""
    return _by_path(path, _mounts()) in OVER_NETWORK


def _by_path(path: str, mounts: list[tuple[str, str, str]]) -> str:
    inside = [
        (len(point), nth, kind)
        for nth, (_, point, kind) in enumerate(mounts)
        if point in {"/", path} or path.startswith(point + "/")
    ]
    return max(inside)[2] if inside else ""


def _mounts() -> list[tuple[str, str, str]]:
    """Return device number, mount point and type of each mount."""
    try:
        lines = [line.split() for line in _MOUNTS.read_text(errors="replace").splitlines()]
    except OSError:
        return []
    return [(f[2], _unescaped(f[4]), f[f.index("-") + 1]) for f in lines]


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)


def existing(path: Path) -> Path:
    """Return the directory itself, or the nearest around it that exists."""
    found = path.absolute()
    while not found.exists() and found != found.parent:
        found = found.parent
    return found
