"""What ``/proc`` says of this process, and of others; nothing on systems that have none.

See proc(5), pid_namespaces(7), user_namespaces(7), and PR_SET_DUMPABLE in prctl(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from typing import Final

_PR_GET_DUMPABLE: Final = 3
_FIRST_USER_NAMESPACE: Final = 0xEFFFFFFD  # the kernel's PROC_USER_INIT_INO


def pid_namespace() -> int:
    """Return the number of this process's pid namespace: pids mean nothing in another.

    It is 0 where there are no such namespaces.
    """
    return _namespace_of(os.getpid(), "pid")


def user_namespace() -> int:
    """Return the number of this process's user namespace: its rights end at the next one.

    It is 0 where there are no such namespaces.
    """
    return _namespace_of(os.getpid(), "user")


@functools.lru_cache(maxsize=4)
def _namespace_of(_pid: int, kind: str) -> int:
    # A process changes its own before it runs us, if ever; a child that has another has another
    # pid, too.
    try:
        return os.stat(f"/proc/self/ns/{kind}").st_ino
    except OSError:
        return 0


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
    except OSError:
        with contextlib.suppress(PermissionError):  # another user's
            try:
                os.kill(pid, 0)  # which needs no descriptor
            except ProcessLookupError:
                return None
        raise


def is_stopped(pid: int) -> bool:
    """Say whether a process stands still, as after SIGSTOP or Ctrl-Z."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def confined() -> bool:
    """Say whether this process lives in another user namespace than the machine's first one.

    Processes of its siblings and of the first one may then look at each other in one direction
    only, or in none.
    """
    return user_namespace() not in {0, _FIRST_USER_NAMESPACE}


def opens(pid: int) -> bool:
    """Say whether this process may open the descriptors of another of this pid namespace."""
    try:
        os.readlink(f"/proc/{pid}/ns/user")  # asks for the same right: PTRACE_MODE_READ_FSCREDS
    except OSError:
        return False
    return True


def boot_id() -> str:
    """Return what tells this boot of this host from all others; empty where nothing does."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


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
