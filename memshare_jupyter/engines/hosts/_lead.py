"""The lead's side of a link: it does what the caller says, and ends with it.

One process may be the lead of its host for several callers, each with a link of its own; a replica
stays as long as one of them has not let it go.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, Final

from memshare_jupyter.core.registry import registry
from memshare_jupyter.engines.hosts._channel import Channel
from memshare_jupyter.engines.hosts._doors import Way, dial, way_here
from memshare_jupyter.engines.hosts._grains import Stock
from memshare_jupyter.engines.hosts._letters import Mailbox

_A_DAY_S: Final = 86400.0
_lock = threading.Lock()
_keeping: Final[dict[bytes, set[Lead]]] = {}
"""For which callers a page of another host is kept here."""


class Lead:
    """What this process is for one caller.

    What it is asked it does in threads of their own, which may be late: the link may have ended
    by then, or the caller have told that what they are to begin is over. That ends at once, then.

    Attributes
    ----------
    stocks : dict of bytes to Stock
        What it passes on to other hosts, by token.
    """

    def __init__(self, channel: Channel | Mailbox) -> None:
        self._channel = channel
        self._at_end: dict[object, Callable[[], None]] | None = {}  # None when it has ended
        self.stocks: dict[bytes, Stock] = {}
        self._asked = 0
        self._at_work: set[int] = set()  # of what it was asked, by number
        self._over: dict[object, int] = {}  # and how much it had been asked by then
        threading.Thread(target=self._serve, name="memshare-lead", daemon=True).start()

    def say(self, key: object, value: Any) -> None:
        """Tell the caller something, under a key that it listens to."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.send((key, value))

    def at_end(self, key: object, act: Callable[[], None]) -> None:
        """Have this done when the link ends, at once if that is over; `key` says what it is for."""
        with _lock:
            if self._at_end is not None and key not in self._over:
                self._at_end[key] = act
                return
        act()

    def over(self, key: object) -> None:
        """Have it not done any more; who was asked before to begin it may only come to that now."""
        with _lock:
            if self._at_end is not None:
                self._at_end.pop(key, None)
            if self._at_work:
                self._over[key] = self._asked

    def keep(self, uuid: bytes) -> None:
        """Have a page stay here for this caller."""
        with _lock:
            if self._at_end is not None:
                _keeping.setdefault(uuid, set()).add(self)
                return
        self.let_go(uuid)

    def let_go(self, uuid: bytes) -> None:
        """Have a page go, unless another caller has it here."""
        with _lock:
            keepers = _keeping.get(uuid, set())
            keepers.discard(self)
            if keepers:
                return
            _keeping.pop(uuid, None)
        registry().replicas.drop(uuid)

    def _serve(self) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):  # the link has ended
                while True:
                    with contextlib.suppress(TimeoutError):
                        key, function, arguments = self._channel.receive(_A_DAY_S)
                        if key is None:  # in the order in which it was said
                            self._do(key, function, arguments)
                        else:
                            self._begin(key, function, arguments)
        finally:  # whatever ended it: nobody else lets go of what is here
            self._end()

    def _begin(self, key: object, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        with _lock:
            number, self._asked = self._asked, self._asked + 1
            self._at_work.add(number)

        def work() -> None:
            try:
                self._do(key, function, arguments)
            finally:
                self._forget(number)

        threading.Thread(target=work, daemon=True).start()

    def _forget(self, number: int) -> None:
        """Forget what is over, if all that was asked before has been done."""
        with _lock:
            self._at_work.discard(number)
            oldest = min(self._at_work, default=self._asked)
            self._over = {key: asked for key, asked in self._over.items() if asked > oldest}

    def _do(self, key: object, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            answer = function(self, *arguments)
        except Exception as error:  # noqa: BLE001 -- it is for the caller
            answer = error.with_traceback(None)
        if key is not None:
            self.say(key, answer)

    def _end(self) -> None:
        with _lock:
            acts, self._at_end = list((self._at_end or {}).values()), None
        for act in acts:
            with contextlib.suppress(Exception):
                act()
        for uuid in [uuid for uuid, keepers in list(_keeping.items()) if self in keepers]:
            with contextlib.suppress(Exception):
                self.let_go(uuid)
        self._channel.close()


def kept() -> list[bytes]:
    """Return which pages are kept here for callers of other hosts."""
    return list(_keeping)


def join(caller: Way, token: bytes, encrypted: bool, engine: int) -> Way | str:
    """Make an engine a lead; return where it is reached, or why it does not reach the caller."""
    registry().label(f"engine {engine}")
    try:
        connection = dial(caller, token, encrypted=encrypted)
    except ConnectionError as error:
        return str(error)
    Lead(Channel(connection))
    return way_here()


def correspond(token: bytes) -> Way:
    """Make an engine a lead that is told by messages; return where it is reached by other hosts."""
    Lead(Mailbox(token))
    return way_here()


def let_go(lead: Lead, uuid: bytes) -> None:
    """Do so; for the caller to tell."""
    lead.let_go(uuid)


def _after_fork() -> None:
    """Be nobody's lead in a forked child, whose links are its parent's."""
    global _lock  # noqa: PLW0603 -- another thread may have had it
    _lock = threading.Lock()
    _keeping.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
