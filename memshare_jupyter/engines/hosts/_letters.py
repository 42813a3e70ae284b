"""A channel by the cluster's messages, where hosts cannot connect to each other.

The lead has a mailbox. The caller sends it one message after the other: with what is to be said,
and the answer is what the lead has to say, for which the engine waits for a moment. So the
engine has to be free to answer messages, and does its part of the work in a thread. Nothing tells a
lead that its caller has died; one that sends nothing for ten minutes counts as gone.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from memshare_jupyter.engines import Engine, Messages
from memshare_jupyter.errors import ClusterError

_AT_ONCE_BYTES: Final = 8 << 20
"""So much goes into one message, or a letter that is longer."""
_MOST_BYTES: Final = 64 << 20
"""When so much waits to be taken, who sends more waits, too."""
_LISTEN_S: Final = 0.05
_LOOK_S: Final = 0.25
_HANG_UP_S: Final = 1.0
"""What is sent when a process ends has left it only when it is answered."""
_NOTED: Final = 32
"""Of so many messages more may come than their answers, as that the engine is idle again."""
_RENEW_S: Final = 60.0
_GONE_S: Final = 600.0


class Box:
    """Letters that wait to be taken, in order."""

    def __init__(self) -> None:
        self._letters: deque[bytes] = deque()
        self._size_bytes = 0
        self._changed = threading.Condition()
        self.closed = False

    def put(self, letter: bytes) -> None:
        """Add one; raises EOFError if nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._size_bytes < _MOST_BYTES or self.closed)
            if self.closed:
                raise EOFError("the channel was closed")
            self._letters.append(letter)
            self._size_bytes += len(letter)
            self._changed.notify_all()

    def take(self, timeout_s: float, most_bytes: int = 0) -> list[bytes]:
        """Return the first one, and more if all are no more than that; none if none comes."""
        found: list[bytes] = []
        with self._changed:
            self._changed.wait_for(lambda: self._letters or self.closed, timeout_s)
            while self._letters and (not found or len(self._letters[0]) <= most_bytes):
                found.append(self._letters.popleft())
                self._size_bytes -= len(found[-1])
                most_bytes -= len(found[-1])
            self._changed.notify_all()
        return found

    def close(self) -> None:
        """Take no more; what is there can still be taken."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Post:
    """One end of a channel: it is used as a `Channel` is."""

    def __init__(self) -> None:
        self.outgoing = Box()
        self.incoming = Box()

    def send(self, message: Any) -> None:
        """Send a message; raises EOFError if the other end is gone."""
        self.outgoing.put(pickle.dumps(message, protocol=5))

    def receive(self, timeout_s: float) -> Any:
        """Return the next message.

        Raises
        ------
        TimeoutError
            None has come in time.
        EOFError
            The other end is gone.
        """
        found = self.incoming.take(timeout_s)
        if found:
            return pickle.loads(found[0])  # noqa: S301 -- from the cluster
        if self.incoming.closed:
            raise EOFError("the channel was closed")
        raise TimeoutError

    def close(self) -> None:
        """End it."""
        self.outgoing.close()
        self.incoming.close()


class Letters(Post):
    """The caller's end.

    Parameters
    ----------
    engine : callable
        Returns the lead, without a client once that has ended.
    token : bytes
        What the lead knows this caller by.
    is_waiting : callable
        Says whether anybody waits for what the lead says.
    """

    def __init__(
        self, engine: Callable[[], Engine], token: bytes, is_waiting: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._engine = engine
        self._token = token
        self._is_waiting = is_waiting
        self._names: deque[str] = deque()
        atexit.register(self.close)
        threading.Thread(target=self._carry, name="memshare-letters", daemon=True).start()

    def close(self) -> None:
        """End it, and tell the lead."""
        if not self.outgoing.closed:
            super().close()
            atexit.unregister(self.close)
            with contextlib.suppress(Exception):  # without a cluster there is no lead either
                if self._engine().client is not None:
                    messages = Messages()
                    messages.send(self._engine(), hang_up, self._token)
                    messages.wait_for_all(_HANG_UP_S)

    def _carry(self) -> None:
        try:
            while not self.outgoing.closed:
                waiting = self._is_waiting()
                letters = self.outgoing.take(0.0 if waiting else _RENEW_S, _AT_ONCE_BYTES)
                for letter in self._exchange(letters, _LISTEN_S if waiting else 0.0):
                    self.incoming.put(letter)
        except (ClusterError, EOFError):
            pass
        finally:
            self.close()

    def _exchange(self, letters: list[bytes], listen_s: float) -> list[bytes]:
        """Send letters; return those that come back. Raises EOFError if nobody is there."""
        messages = Messages()
        engine = self._engine()
        if engine.client is not None:
            self._names += messages.carry(engine, exchange, self._token, letters, listen_s)
            self._forget(engine.client)
        while not messages.wait(_LOOK_S):
            client: Any = self._engine().client
            if self.outgoing.closed or client is None or engine.number not in client.ids:
                raise EOFError
        found = next(iter(messages.take()), None)
        if found is None:
            raise EOFError
        return list(found)

    def _forget(self, client: Any) -> None:
        """Have the client note nothing of the messages before, of which there are many."""
        while len(self._names) > _NOTED:
            client.metadata.pop(self._names.popleft(), None)


class Mailbox(Post):
    """The lead's end, which is closed when nobody asks for its letters any more."""

    def __init__(self, token: bytes) -> None:
        super().__init__()
        self._token = token
        self.asked = time.monotonic()
        _mailboxes[token] = self

    def receive(self, timeout_s: float) -> Any:
        """Return the next message, as the caller's end does."""
        left = self.asked + _GONE_S - time.monotonic()
        if left <= 0:
            self.close()
        return super().receive(min(timeout_s, max(0.0, left)))

    def close(self) -> None:
        """End it."""
        _mailboxes.pop(self._token, None)
        super().close()


_mailboxes: Final[dict[bytes, Mailbox]] = {}

# What engines are sent.


def exchange(token: bytes, letters: list[bytes], listen_s: float) -> list[bytes] | None:
    """Take letters for a lead of this process; return its own, and None if there is no such."""
    mailbox = _mailboxes.get(token)
    if mailbox is None:
        return None
    mailbox.asked = time.monotonic()
    with contextlib.suppress(EOFError):
        for letter in letters:
            mailbox.incoming.put(letter)
    return mailbox.outgoing.take(listen_s, _AT_ONCE_BYTES)


def hang_up(token: bytes) -> None:
    """End a channel."""
    mailbox = _mailboxes.get(token)
    if mailbox is not None:
        mailbox.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mailboxes.clear)
