"""Asking for the memory of a page before it is taken.

A large page is looked for exactly, and promised while it is filled. For small ones that would
cost more than filling them, so a look gives this process an allowance: 16 MB, or a quarter of
what is free if that is less, for a second. Two processes that share the last of the memory so
have, at the most, half of it between them until they look again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from memshare_jupyter.core.blocks import _promises, _room
from memshare_jupyter.core.blocks._promises import Promise
from memshare_jupyter.core.blocks._room import Group, Holders, Room

LARGE_BYTES: Final = 16 << 20
_ALLOWED_S: Final = 1.0
_GROUPS_S: Final = 10.0
_SHARE: Final = 4
_SURE_BYTES: Final = 1 << 30
_OVERHEAD: Final = 256
"""The kernel's own books of a page take less than one part in so many."""


class _Allowance:
    """What this process may still take without a look."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Have none."""
        self._left_bytes = 0
        self._until_s = 0.0
        self._groups: list[Group] = []
        self._groups_until_s = 0.0

    def take(self, size_bytes: int) -> bool:
        """Take so much of it; False when a look is needed."""
        if size_bytes > self._left_bytes or time.monotonic() > self._until_s:
            return False
        self._left_bytes -= size_bytes
        return True

    def give(self, free_bytes: int) -> None:
        """Begin anew after a look that found so much free."""
        self._left_bytes = min(LARGE_BYTES, free_bytes // _SHARE)
        self._until_s = time.monotonic() + _ALLOWED_S

    def groups(self) -> list[Group]:
        """Return the control groups that limit this process, as they were a moment ago."""
        now_s = time.monotonic()
        if now_s > self._groups_until_s:
            self._groups = [group for group in _room.groups() if _is_limited(group)]
            self._groups_until_s = now_s + _GROUPS_S
        return self._groups

    def bare_bytes(self, size_bytes: int) -> int:
        """Return what is free at the least: what control groups could take back is left out.

        Takes 3 to 30 µs for small pages, an exact look 200.
        """
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if size_bytes >= LARGE_BYTES or free < _SURE_BYTES:  # files may have much of it
            free = _room.machine().free_bytes
        free = min(free, *(room.free_bytes for room in _room.addresses()), free)
        for group in self.groups():
            with contextlib.suppress(OSError, ValueError):
                free = min(free, group.bare()[1])
        return free


def _is_limited(group: Group) -> bool:
    try:
        return group.bare()[0] <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return False


_allowance: Final = _Allowance()


@contextlib.contextmanager
def reserved(
    what: str, size_bytes: int, holders: Holders, place: str = "", *, runtime: Path | None = None
) -> Iterator[Callable[[int], None]]:
    """Have room for what is filled inside, or raise; others who ask meanwhile count it as taken.

    Yields what is to be told how many bytes were filled, as often as one likes: that much is then
    seen as used, and must not be counted twice. Waits for nobody longer than half a second.

    Parameters
    ----------
    what : str
        What is to be registered, for the message.
    size_bytes : int
        How much it takes.
    holders : callable
        Says what holds shared memory now, for the message.
    place : str
        The directory of the page's file, if it is to have one. Only on tmpfs does it take memory.
    runtime : Path, optional
        The runtime directory. Without it, nobody else is asked or told.

    Raises
    ------
    NotEnoughMemoryError
        There is too little memory; the message says how much, what holds it, and what to do.
    """
    needed = size_bytes + size_bytes // _OVERHEAD
    look = _Look(needed, place)
    if size_bytes < LARGE_BYTES:
        if not _allowance.take(needed) and not look.cheaply(_others(runtime)):
            raise _room.refusal(what, size_bytes, holders(), look.found)
        yield _no_matter
    elif runtime is None or not _room.in_memory(place):
        if not look.exactly([]):
            raise _room.refusal(what, size_bytes, holders(), look.found)
        yield _no_matter
    else:
        group = next((group.name for group in _allowance.groups()), "")
        promise = Promise(needed, _room.group_namespace(), group)
        with _promises.promised(runtime, promise, look.cheaply) as filled:
            if filled is None:
                raise _room.refusal(what, size_bytes, holders(), look.found)
            yield filled


class _Look:
    """A look whether there is room for something, and what it found."""

    def __init__(self, needed_bytes: int, place: str) -> None:
        self._needed_bytes = needed_bytes
        self._place = place
        self.found = Room("", 0, 0)

    def cheaply(self, promises: list[Promise]) -> bool:
        """Say whether there is room, with a closer look only where that may matter."""
        promised = sum(promise.size_bytes for promise in promises)
        free = _allowance.bare_bytes(self._needed_bytes) - promised - self._needed_bytes
        if self._place or free < LARGE_BYTES * _SHARE:
            return self.exactly(promises)
        _allowance.give(free)
        return True

    def exactly(self, promises: list[Promise]) -> bool:
        """Say whether there is room beside what others promised."""
        self.found = _room.room(self._place, promises)
        free = self.found.free_bytes - self._needed_bytes
        _allowance.give(max(0, free) if _room.in_memory(self._place) else 0)
        return free >= 0


def _others(runtime: Path | None) -> list[Promise]:
    return _promises.others(runtime) if runtime is not None else []


def _no_matter(_size_bytes: int) -> None:
    pass


def require(
    what: str, size_bytes: int, holders: Holders, place: str = "", *, runtime: Path | None = None
) -> None:
    """Raise what `reserved` would; for what is filled little by little, or not at all."""
    with reserved(what, size_bytes, holders, place, runtime=runtime):
        pass


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_allowance.reset)
