"""Turns: one thread at a time changes what this process holds, and nobody else's code runs then.

Anything may come back to us in the middle of an act, in the same thread: a signal handler, a
``__del__``, a callback of `weakref.finalize`, all of which Python runs between two bytecodes. To
wait would be to wait for ever. So the lock knows its thread. When that thread comes in again

- an act without a value (release, detach, gc) is put off until the turn ends: into a deque, whose
  operations neither threads nor signals can interrupt;
- any other act is refused.

Nothing waits for another process during a turn: an act that has to ends its turn, waits, and
begins again. And no value is built during a turn, since unpickling runs code of others.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast

from memshare_jupyter.core import _descriptors
from memshare_jupyter.errors import LockTimeoutError, MemshareError, RegistryBusyError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")

LOCK: Final = threading.RLock()
"""Of whoever's turn it is; of the process, so that its forks can take it by functions in C, between
which no interrupt comes. See `hold_while_forking`."""
_forking: Final[deque[bool]] = deque()
"""Not empty while this process forks, as if that were a turn: what comes in between finds the state
of the parent in the child, or one half begun. Changed by functions in C, too."""
PATIENCE_S: Final = 10.0
"""How long another process may keep a name locked."""


class Turn:
    """Whose turn it is, and what is to be done when it ends.

    Parameters
    ----------
    begin : callable
        Called at the beginning of each turn; the name that another process has locked, and its
        pid, when the turn cannot begin yet.
    tidy, untidy : callable
        Called at the end of each turn; says whether there is something for it to do.
    repair : callable
        Called when a turn ends by an exception that is not ours.
    afterwards : callable
        Called after turns, in none: what it does may wait for others.
    """

    def __init__(
        self,
        begin: Callable[[], tuple[Any, int] | None],
        tidy: Callable[[], None],
        untidy: Callable[[], bool],
        repair: Callable[[], None],
        afterwards: Callable[[], None],
    ) -> None:
        self._lock = LOCK
        self._inside = False
        self._later: deque[tuple[int, Callable[[], Any]]] = deque()  # and in which process
        self._begin = begin
        self._tidy = tidy
        self._untidy = untidy
        self._repair = repair
        self._afterwards = afterwards

    def take(self, act: Callable[[], _R], put_off: Callable[[], Any] | None) -> _R:
        """Do `act` in a turn; when this thread's turn goes on already, put it off or refuse it."""
        waits: Iterator[float] | None = None
        while True:
            try:
                # Plain statements and a lock's own context manager: an interrupt between two
                # steps of one of ours could leave it taken for ever.
                with self._lock:
                    if self._inside or _forking:
                        if put_off is None:
                            raise RegistryBusyError(
                                "this thread is in the middle of another act of memshare_jupyter: "
                                "a signal handler, a __del__ or a finalizer can only release and "
                                "detach then, which is done at the end of that act"
                            )
                        self._later.append((os.getpid(), act))
                        return cast("_R", put_off())
                    try:
                        self._inside = True
                        if (locked := self._guarded(self._begin)) is None:
                            return self._guarded(act)
                    finally:
                        self._inside = False
            finally:
                self.settle()
            waits = waits or pauses()
            wait_for(locked, waits)

    def _guarded(self, act: Callable[[], _T]) -> _T:
        try:
            try:
                return act()
            finally:
                self._tidy()
        except MemshareError:
            raise
        except BaseException:
            self._repair()
            raise

    def settle(self, *, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Do what was put off or found its end meanwhile, unless some turn goes on.

        Runs after each turn, and when the last array on a page dies: in any thread, at any point.
        Whoever's turn it is then does it afterwards.
        """
        while (self._later or self._untidy()) and not finalizing():
            pid, act = -1, _nothing
            mine: list[bool] = []
            try:
                mine.extend(map(self._lock.acquire, (False,)))  # one step to an interrupt
                if not mine[0] or self._inside or _forking:
                    return
                try:
                    self._inside = True
                    self._guarded(_nothing)  # which tidies
                    if self._later:
                        pid, act = self._later.popleft()
                finally:
                    self._inside = False
            finally:
                if mine and mine[0]:
                    self._lock.release()
            if pid == os.getpid():  # else the parent's, who does it
                try:
                    self.take(act, _nothing)
                except Exception as error:  # noqa: BLE001 -- nobody is there to hear of it
                    told = _descriptors.explained(error)
                    sys.excepthook(type(told), told, error.__traceback__)
        if not _is_mine():
            self._afterwards()

    def begin_in_child(self) -> bool:
        """Have no turn go on in a forked child; says whether none went on when it was forked."""
        whole = _is_mine()
        if not whole:
            self._inside = False
        return whole


def hold_while_forking() -> None:
    """Let no act be half done in a forked child's copy; called when all other hooks are in place.

    The last hook is the first one called before a fork and the last one after it.
    """
    os.register_at_fork(
        before=partial(_forking.append, True),
        after_in_parent=_forking.clear,
        after_in_child=_forking.clear,
    )
    os.register_at_fork(
        before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=_let_go_in_child
    )


def _let_go_in_child() -> None:
    if _is_mine():
        LOCK.release()
    else:  # an interrupt kept the parent from waiting for whose turn it was
        LOCK._at_fork_reinit()  # type: ignore[attr-defined]


def _is_mine() -> bool:
    return bool(LOCK._is_owned())  # type: ignore[attr-defined]


def _nothing() -> Any:
    return None


def pauses() -> Iterator[float]:
    """Yield how long to wait, a little longer each time, and until when."""
    deadline, pause_s = time.monotonic() + PATIENCE_S, 0.0005
    while time.monotonic() < deadline:
        yield pause_s
        pause_s = min(2 * pause_s, 0.02)


def wait_for(locked: tuple[Any, int], waits: Iterator[float]) -> None:
    """Wait a moment for a name that another process has locked.

    Raises
    ------
    LockTimeoutError
        It has had it for too long.
    """
    pause_s = next(waits, None)
    if pause_s is not None:
        time.sleep(pause_s)
        return
    name, pid = locked
    raise LockTimeoutError(
        f"could not register {name}: process {pid} has held the lock of that name for "
        f"{PATIENCE_S:g} s; it may be stopped, resume or end it",
        name=name,
        pid=pid,
    )


class _HasTurn(Protocol):
    @property
    def turn(self) -> Turn: ...


_Self = TypeVar("_Self", bound=_HasTurn)


def in_turn(
    method: Callable[Concatenate[_Self, _P], _R],
) -> Callable[Concatenate[_Self, _P], _R]:
    """Let a method run in a turn of its object's."""

    @functools.wraps(method)
    def act(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return self.turn.take(partial(method, self, *args, **kwargs), None)
        except OSError as error:
            _descriptors.raise_if_run_out(error)
            raise

    return act


def in_turn_or_later(
    put_off: Callable[[], Any],
) -> Callable[
    [Callable[Concatenate[_Self, _P], _R]],
    Callable[Concatenate[_Self, _P], _R],
]:
    """Let a method run in a turn, or after it when it is called in the middle of one.

    Parameters
    ----------
    put_off : callable
        Makes what the method then returns.
    """

    def decorate(
        method: Callable[Concatenate[_Self, _P], _R],
    ) -> Callable[Concatenate[_Self, _P], _R]:
        @functools.wraps(method)
        def act(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                return self.turn.take(partial(method, self, *args, **kwargs), put_off)
            except OSError as error:
                _descriptors.raise_if_run_out(error)
                raise

        return act

    return decorate
