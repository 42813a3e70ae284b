"""How much memory a page may still take: the machine's, and that of the control groups we are in.

Memory of a page is not refused by the kernel when there is none: the process that touches it, or
another, is killed. So we ask before we allocate. See proc_meminfo(5) and, in the kernel's
documentation, "Control Group v2", Memory Interface Files.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memshare_jupyter.core import _directories
from memshare_jupyter.core.registry._snapshot import Snapshot
from memshare_jupyter.errors import NotEnoughMemoryError

_ASK_FROM_BYTES: Final = 16 << 20
"""Below this a page cannot make the difference, and asking would cost more than filling it."""
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM)
"""What the system says when there is no room, after all."""
_FILES: Final = "the file system of "
_MEMINFO: Final = Path("/proc/meminfo")
_GROUPS_OF_SELF: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Room:
    """What is free, in bytes, under one limit.

    Attributes
    ----------
    where : str
        Whose limit it is: ``"this machine"`` or a control group.
    free_bytes, limit_bytes : int
        How much can still be taken, and how much there is in all.
    """

    where: str
    free_bytes: int
    limit_bytes: int


def require(what: str, size_bytes: int, look: Callable[[], Snapshot], place: str = "") -> None:
    """Raise when a page of `size_bytes` would not fit.

    Parameters
    ----------
    what : str
        What is to be registered, for the message.
    size_bytes : int
        How much it takes.
    look : callable
        Says what shared memory holds now, for the message.
    place : str
        The directory of the page's file, if it is to have one. Only on tmpfs does it take memory.

    Raises
    ------
    NotEnoughMemoryError
        There is too little memory; the message says how much, what holds it, and what to do.
    """
    if size_bytes >= _ASK_FROM_BYTES and size_bytes > (found := room(place)).free_bytes:
        raise _refusal(what, size_bytes, look(), found)


def explain(
    error: OSError, what: str, size_bytes: int, look: Callable[[], Snapshot], place: str
) -> None:
    """Raise what `require` would have, if `error` says that there was no room after all."""
    if error.errno in FULL:
        raise _refusal(what, size_bytes, look(), room(place)) from error


def _refusal(what: str, size_bytes: int, now: Snapshot, found: Room) -> NotEnoughMemoryError:
    """Return the error for a page that does not fit into `found`."""
    largest = sorted(now.pages, key=lambda page: -page.size_bytes)
    total = in_units(sum(page.size_bytes for page in largest))
    names = ", ".join(f"{page.name} {in_units(page.size_bytes)}" for page in largest[:3])
    remedy = ", or choose another directory" if found.where.startswith(_FILES) else ""
    return NotEnoughMemoryError(
        f"cannot register {what}: it needs {in_units(size_bytes)}, and {found.where} has "
        f"{in_units(max(0, found.free_bytes))} of {in_units(found.limit_bytes)} free; shared pages "
        f"hold {total}{f' ({names})' if names else ''}. Release what is no longer needed, delete "
        f"other large arrays, or share a smaller dtype such as float32{remedy}",
        size_bytes=size_bytes,
        free_bytes=found.free_bytes,
    )


def in_units(count_bytes: float) -> str:
    """Write a number of bytes with a decimal unit.

    >>> in_units(512), in_units(3.2e6), in_units(1.64e9)
    ('512 B', '3.2 MB', '1.6 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count_bytes < 1000:
            return f"{count_bytes:.0f} B" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1000
    return f"{count_bytes:.1f} TB"


def room(place: str = "") -> Room:
    """Return the tightest of all limits that apply to this process, and to files in `place`."""
    return min(_rooms(place), key=lambda r: r.free_bytes)


def _rooms(place: str) -> Iterator[Room]:
    if place:
        yield directory(place)
        if _directories.file_system(Path(place)) not in _directories.IN_MEMORY:
            return
    yield machine()
    with contextlib.suppress(OSError):
        for line in _GROUPS_OF_SELF.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield from _groups(_GROUPS, path, "memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                yield from _groups(_GROUPS / "memory", path, *names)


def directory(place: str) -> Room:
    """Return what the file system of a directory has for this user."""
    found = os.statvfs(_directories.existing(Path(place)))
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return Room(_FILES + place, free, total)


def machine() -> Room:
    """Return what the machine has: available memory and free swap.

    Where there is no ``/proc``, what is available is not known, and all memory counts as free.
    """
    if not _MEMINFO.exists():
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Room("this machine", total, total)
    fields = {
        name: int(rest.split()[0]) << 10
        for name, rest in (line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    }
    free = fields["MemAvailable"] + fields["SwapFree"]
    return Room("this machine", free, fields["MemTotal"] + fields["SwapTotal"])


def _groups(base: Path, path: str, limit: str, usage: str, reclaimable: str) -> Iterator[Room]:
    """Yield the rooms of a control group and of those around it, as far as they have a limit."""
    group = base / path.lstrip("/")
    while group == base or base in group.parents:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            limit_bytes = int((group / limit).read_text())  # "max" is no limit: ValueError
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            used = int((group / usage).read_text()) - int(stat.get(reclaimable, 0))
            yield Room(f"control group {group.relative_to(base)}", limit_bytes - used, limit_bytes)
        group = group.parent
