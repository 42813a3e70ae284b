"""Opened: a descriptor that nothing can lose, neither an interrupt nor an error nor a fork.

Between a system call that returns a descriptor and the statement that keeps it, Python may raise
whatever a signal handler raises. So the number goes, by one call of functions written in C, into
a list that a table knew before. When the `Opened` it belongs to is gone, a weak reference whose
callback is written in C, too, puts that list among the lost, and the next act closes it.

A fork waits until no other thread is in a system call that opens or closes one: the child would
have a descriptor that is in no list yet, or no more.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat, starmap
from typing import Any, Final

from memshare_jupyter.core import _descriptors


class Opened:
    """At most one open descriptor; ``fd`` is -1 while there is none."""

    __slots__ = ("__weakref__", "_fds", "_ref")

    def __init__(self) -> None:
        self._fds: list[int] = []
        self._ref: _Ref | None = None  # as long as there may be something to lose

    @property
    def fd(self) -> int:
        """The descriptor's number."""
        return self._fds[0] if self._fds else -1

    def open(self, call: Callable[..., int], *arguments: Any) -> int:
        """Keep the descriptor that a function written in C returns; its number."""
        self._watch()
        try:
            self._fds.extend(starmap(call, (arguments,)))
        except BaseException:
            if not self._fds:
                self._forget()
            raise
        fd = self._fds[0]
        _descriptors.keep_spare(fd)
        return fd

    def give(self, other: Opened) -> None:
        """Let another one have the descriptor."""
        other._watch()
        other._fds.extend(map(list.pop, (self._fds,)))

    def close(self) -> None:
        """Close the descriptor; once or more often."""
        _close(self._fds)
        self._forget()

    def _watch(self) -> None:
        ref = self._ref
        if ref is None:
            ref = _Ref(self, _lost.append)
            ref.fds = self._fds
            self._ref = ref
        _known[id(ref)] = ref

    def _forget(self) -> None:
        _known.pop(id(self._ref), None)
        self._ref = None


class _Ref(weakref.ref[Opened]):
    __slots__ = ("fds",)
    fds: list[int]


_known: Final[dict[int, _Ref]] = {}
_lost: Final[deque[_Ref]] = deque()
_PATIENCE_S: Final = 0.1


def _close(fds: list[int]) -> None:
    try:  # noqa: SIM105 -- runs three times an attach
        list(map(os.close, map(list.pop, repeat(fds, len(fds)))))
    except IndexError:  # a signal handler was quicker
        pass


def known() -> Iterator[Opened]:
    """Yield every one that is in use, by whomever."""
    for ref in tuple(_known.values()):
        if (opened := ref()) is not None:
            yield opened


def in_flight() -> bool:
    """Say whether some thread may be between a call that opens or closes, and our knowing of it."""
    return any(not ref.fds for ref in tuple(_known.values()))


def _await_calls() -> None:
    """Before a fork, let other threads' calls return: the child could not tell what they opened.

    Not for long, and not for certain; what is left, the child looks for (`blocks._forked`).
    """
    try:
        _wait()
    except BaseException:  # an interrupt, which nobody hears of in a hook
        _wait()
        raise


def _wait() -> None:
    until = time.monotonic() + _PATIENCE_S
    while in_flight() and time.monotonic() < until:
        time.sleep(0.0005)


def lost() -> bool:
    """Say whether there is something for `close_lost` to do."""
    return bool(_lost)


def close_lost() -> None:
    """Close the descriptors of which nobody knows any more.

    A signal handler may do the same at any point: in a turn of the process's next registry.
    """
    for ref in tuple(_lost):
        _close(getattr(ref, "fds", []))  # an interrupt may have come before there were any
        _known.pop(id(ref), None)
        with contextlib.suppress(ValueError):  # a handler was quicker
            _lost.remove(ref)  # last, so that an interrupt loses none


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_await_calls)  # the first hook is the last one called
