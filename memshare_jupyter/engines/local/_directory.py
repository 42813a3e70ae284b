"""The private directory of a cluster, and those of clusters that were killed whole.

A tether removes its directory at its end. Killed together with its owner, as a job manager does, it
cannot; so it keeps a lock on the directory for life, and every new one removes what nobody has
locked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "memshare-cluster-"


def make_directory() -> tuple[str, int]:
    """Remove what dead clusters left, and make a directory; return it, and its lock to keep."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            _remove_if_dead(left)
    while True:
        directory = tempfile.mkdtemp(prefix=_PREFIX)
        with suppress(OSError):  # another was quicker, between these two lines
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.isdir(directory):
                return directory, lock
            os.close(lock)


def _remove_if_dead(directory: Path) -> None:
    """Remove a directory that is ours, unless its tether lives."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(opened).st_uid == os.getuid():
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(opened)
