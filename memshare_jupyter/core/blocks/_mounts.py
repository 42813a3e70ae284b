"""What kind of file system a directory lies on; see the mountinfo part of proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
OVER_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "lustre"})
"""Where an flock may bind one host only, or nobody."""


def file_system(path: Path) -> str:
    """Return the type of the file system that `path` is or will be on; empty when unknown."""
    found = existing(path)
    try:
        device = os.stat(found).st_dev
        mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    types = [fields[fields.index("-") + 1] for fields in mounts if fields[2] == number]
    if types:
        return types[-1]
    # Some file systems give their files another device number than their mount.
    around = {str(found.resolve()), *map(str, found.resolve().parents)}
    inside = [(len(f[4]), f[f.index("-") + 1]) for f in mounts if f[4] in around]
    return max(inside)[1] if inside else ""


def existing(path: Path) -> Path:
    """Return the directory itself, or the nearest around it that exists."""
    found = path.absolute()
    while not found.exists() and found != found.parent:
        found = found.parent
    return found
