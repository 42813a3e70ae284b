"""How much memory a page may still take: the machine's, that of the control groups we are in.

Memory of a page is not refused by the kernel when there is none: the process that touches it, or
another, is killed. So we ask before we allocate, and say what we are about to take (`_promises`).
See proc_meminfo(5) and, in the kernel's documentation, "Control Group v2", Memory Interface Files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from memshare_jupyter.core import _directories
from memshare_jupyter.core.blocks._promises import Promise
from memshare_jupyter.core.quantities import in_units
from memshare_jupyter.errors import NotEnoughMemoryError

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM)
"""What the system says when there is no room, after all."""
MACHINE: Final = "this machine"
_FILES: Final = "the file system of "
_ADDRESSES: Final = "the address space that this process may have (ulimit -v)"
_FIELD: Final = re.compile(rb"(MemTotal|MemAvailable|SwapTotal|SwapFree):\s*(\d+)")
_MEMINFO: Final = Path("/proc/meminfo")
_STATM: Final = Path("/proc/self/statm")
_GROUPS_OF_SELF: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")

Holders = Callable[[], str]
"""Says what holds shared memory now, such as ``"shared pages hold 3 GB (rna.X 3 GB)"``."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is free, in bytes, under one limit.

    Attributes
    ----------
    where : str
        Whose limit it is: ``"this machine"`` or a control group.
    free_bytes, limit_bytes : int
        How much can still be taken, and how much there is in all.
    promised_bytes : int
        How much more would be free, if other pages were not being filled at this moment.
    """

    where: str
    free_bytes: int
    limit_bytes: int
    promised_bytes: int = 0


class _Version(NamedTuple):
    """The names that one version of control groups has for what we ask."""

    base: str
    limits: tuple[str, ...]
    usage: str
    reclaimable: tuple[str, ...]


_SECOND: Final = _Version(
    "", ("memory.max", "memory.high"), "memory.current",
    ("inactive_file", "active_file", "slab_reclaimable"),
)  # fmt: skip
"""Above memory.high the kernel does not kill; it stops whoever takes more for as long."""
_FIRST: Final = _Version(
    "memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)  # fmt: skip


class Group(NamedTuple):
    """A control group that limits memory, and from where its files are."""

    version: _Version
    base: Path
    path: Path

    @property
    def name(self) -> str:
        """What promises call it."""
        inside = "" if self.path == self.base else str(self.path.relative_to(self.base))
        return f"{self.version.base}:/{inside}"

    def bare(self) -> tuple[int, int]:
        """Return the limit, and what is free without giving anything back: a cheap look.

        Raises
        ------
        OSError, ValueError
            There is no such group, or it has no limit.
        """
        limits = [read(self.path / name).strip() for name in self.version.limits[:1]]
        with contextlib.suppress(OSError):  # memory.high is younger than memory.max
            limits += [read(self.path / name).strip() for name in self.version.limits[1:]]
        limit = min(int(text) for text in limits if text != b"max")
        return limit, limit - int(read(self.path / self.version.usage))

    def room(self) -> Room:
        """Return its room; what the kernel can take back from files counts as free."""
        limit, free = self.bare()
        stat = dict(line.split() for line in read(self.path / "memory.stat").splitlines())
        free += sum(int(stat.get(name.encode(), 0)) for name in self.version.reclaimable)
        return Room(f"control group {self.path.relative_to(self.base)}", min(free, limit), limit)


def read(path: Path) -> bytes:
    """Read a small file of the kernel's, at half the price of `Path.read_bytes`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def room(place: str = "", promises: list[Promise] | None = None) -> Room:
    """Return the tightest of all limits that apply to this process, and to files in `place`.

    `promises` are what others are about to fill.
    """
    return min(_rooms(place, promises or []), key=lambda r: r.free_bytes)


def in_memory(place: str) -> bool:
    """Say whether files in a directory take memory; blocks without one do."""
    return not place or _directories.file_system(Path(place)) in _directories.IN_MEMORY


def _rooms(place: str, promises: list[Promise]) -> Iterator[Room]:
    yield from addresses()
    if place:
        yield directory(place)
        if not in_memory(place):
            return
    yield _less(machine(), promises)
    namespace = group_namespace()
    for group in groups():
        with contextlib.suppress(OSError, ValueError):
            inside = [one for one in promises if one.counts_for(namespace, group.name)]
            yield _less(group.room(), inside)


def _less(found: Room, promises: list[Promise]) -> Room:
    promised = sum(promise.size_bytes for promise in promises)
    return Room(found.where, found.free_bytes - promised, found.limit_bytes, promised)


def groups() -> Iterator[Group]:
    """Yield the control groups that this process is in, the innermost first."""
    try:
        lines = os.fsdecode(read(_GROUPS_OF_SELF)).splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            version = _FIRST if controllers else _SECOND
            base = _GROUPS / version.base
            inner = base / path.lstrip("/")
            for one in (inner, *inner.parents):
                yield Group(version, base, one)
                if one == base:
                    break


def group_namespace() -> int:
    """Return the number of the namespace in which control groups have the names we see."""
    try:
        return os.stat("/proc/self/ns/cgroup").st_ino
    except OSError:
        return 0


def directory(place: str) -> Room:
    """Return what the file system of a directory has for this user."""
    found = os.statvfs(_directories.existing(Path(place)))
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return Room(_FILES + place, free, total)


def machine() -> Room:
    """Return what the machine has: available memory and free swap.

    Where there is no ``/proc``, what is available is not known, and all memory counts as free.
    """
    try:
        found = {name: int(size) << 10 for name, size in _FIELD.findall(read(_MEMINFO))}
    except OSError:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Room(MACHINE, total, total)
    free = found[b"MemAvailable"] + found[b"SwapFree"]
    return Room(MACHINE, free, found[b"MemTotal"] + found[b"SwapTotal"])


def addresses() -> Iterator[Room]:
    """Yield the room in the address space of this process, if that has a limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError):
            used = int(read(_STATM).split()[0]) * resource.getpagesize()
            yield Room(_ADDRESSES, limit - used, limit)


def explain(error: OSError, what: str, size_bytes: int, holders: Holders, place: str = "") -> None:
    """Raise what a look before would have, if `error` says that there was no room after all."""
    if error.errno == errno.EFBIG:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY:
            raise NotEnoughMemoryError(
                f"cannot register {what}: it needs {in_units(size_bytes)}, and this process may "
                f"write no more than {in_units(limit)} into one file or shared page; raise the "
                "limit of file sizes (ulimit -f, LimitFSIZE=)",
                size_bytes=size_bytes,
                free_bytes=limit,
            ) from error
    if error.errno in FULL:
        raise refusal(what, size_bytes, holders(), room(place)) from error


def refusal(what: str, size_bytes: int, held: str, found: Room) -> NotEnoughMemoryError:
    """Return the error for a page that does not fit into `found`."""
    remedy = ", or choose another directory" if found.where.startswith(_FILES) else ""
    if found.where == _ADDRESSES:
        remedy = ", or raise that limit"
    filling = f" ({in_units(found.promised_bytes)} are being filled by others)"
    return NotEnoughMemoryError(
        f"cannot register {what}: it needs {in_units(size_bytes)}, and {found.where} has "
        f"{in_units(max(0, found.free_bytes))} of {in_units(found.limit_bytes)} free"
        f"{filling if found.promised_bytes else ''}; {held}. Release what is no longer needed, "
        f"delete other large arrays, or share a smaller dtype such as float32{remedy}",
        size_bytes=size_bytes,
        free_bytes=found.free_bytes,
    )
