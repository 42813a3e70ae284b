"""What ``/proc`` says of this process; nothing on systems that have none.

See proc(5), pid_namespaces(7), and PR_SET_DUMPABLE in prctl(2).
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Final

_PR_GET_DUMPABLE: Final = 3


def pid_namespace() -> int:
    """Return the number of this process's pid namespace: pids mean nothing in another.

    It is 0 where there are no such namespaces.
    """
    return _pid_namespace_of(os.getpid())


@functools.lru_cache(maxsize=1)
def _pid_namespace_of(_pid: int) -> int:
    # A process never changes its own; a child may have another, but has another pid, too.
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


@functools.lru_cache(maxsize=1)
def _user_namespace_of(_pid: int) -> int:
    try:
        return os.stat("/proc/self/ns/user").st_ino
    except OSError:
        return 0


def user_namespace() -> int:
    """Return the number of this process's user namespace; 0 where there are no such namespaces."""
    return _user_namespace_of(os.getpid())


def start_time(pid: int) -> int | None:
    """Return when a process started, in the system's ticks; None when there is no such process.

    With its pid that names a process for good: see fields 3 and 22 of proc_pid_stat(5). One that
    has ended, and whose parent has not asked for that yet, is no process any more.

    Raises
    ------
    OSError
        That cannot be told: no descriptor is left, for example.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            state, *fields = stat.read().rpartition(b")")[2].split()
            return None if state in (b"Z", b"X", b"x") else int(fields[18])
    except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
        return None


def is_stopped(pid: int) -> bool:
    """Say whether a process stands still, as after SIGSTOP or Ctrl-Z."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def why_hidden() -> str:
    """Say why other processes cannot open this one's descriptors; empty when they can."""
    try:
        shown = os.readlink("/proc/self")
    except OSError:
        return "there is no /proc"
    if shown != str(os.getpid()):
        return "/proc is that of another pid namespace"
    return "" if dumpable() else "the process is not dumpable"


def dumpable() -> bool:
    """Say whether other processes of this user may open this one's descriptors."""
    # The owner of /proc/self would tell as well, but not root's own processes apart.
    return bool(_libc().prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 1)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
