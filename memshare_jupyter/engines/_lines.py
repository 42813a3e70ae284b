"""Lines: calls go to the engines of this host without a controller between.

A message takes two milliseconds there and back, a packet on a line one hundredth of that. A line is
opened by an ordinary message, in front of that of the first call, and used by the calls after it:

1. the caller listens in the runtime directory, and tells the engine where, and a key;
2. the engine connects; both look which user is at the other end, and the key says which engine;
3. when the message is answered, the line is there. Or the answer says why there is none, and
   messages it is: from another host, another pid namespace, without an event loop.

Every call that goes on has lines of its own. One is free again when its answer was taken, and is
closed when nobody wants the answer any more: the engine may still be at it. The end of a line is
the death of its engine.

A packet would overtake messages that are on their way. So as long as the engine owes this client
an answer, calls are messages, too.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import socket
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry, when_pages_end
from memshare_jupyter.engines._contact import request
from memshare_jupyter.engines._line import Line
from memshare_jupyter.engines.local import running_cluster

if TYPE_CHECKING:
    from ipyparallel import Client

    from memshare_jupyter.engines._choose import Engine
    from memshare_jupyter.worker import End

_KEY_BYTES: Final = 16
_PATIENCE_S: Final = 0.05
"""How long to wait until an engine that seems idle has let go of what it keeps."""


class Kept(Protocol):
    """What can be used by one call after the other."""

    def close(self) -> None:
        """Let go of it."""


_K = TypeVar("_K", bound=Kept)


class Lines:
    """The lines of one client that are free, and those that are being opened.

    What calls share with engines, such as memory, may be kept for as long.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[type, object], list[Kept]] = {}
        self._free: dict[int, list[Line]] = {}
        self._opening: dict[int, list[tuple[bytes, Any]]] = {}
        self._without: set[int] = set()
        self._pages: dict[int, OrderedDict[bytes, None]] = {}  # that engines may keep

    def take(self, engine: Engine) -> Line | None:
        """Return a free line, or None; then, if there can be one, the next call may have it."""
        number = engine.number
        if number in self._without or not _nothing_owed(engine):
            return None
        with _lock:
            return self._taken(engine, number)

    def _taken(self, engine: Engine, number: int) -> Line | None:
        self.take_in(number)
        free = self._free.setdefault(number, [])
        while free:
            line = free.pop()
            if line.idle:
                return line
            line.end.close()
        if number not in self._without and not self._opening.get(number):
            self._open(engine)
        return None

    def give_back(self, number: int, line: Line) -> None:
        """Have a line used again, whose answer was taken."""
        with _lock:
            self._free.setdefault(number, []).append(line)

    def note_kept(self, number: int, pages: Sequence[bytes]) -> None:
        """Remember that an engine may keep views of pages."""
        from memshare_jupyter.worker import MOST_KEPT  # noqa: PLC0415 -- brings cloudpickle

        with _lock:
            noted = self._pages.setdefault(number, OrderedDict())
            for page in pages:
                noted[page] = None
                noted.move_to_end(page)
            while len(noted) > MOST_KEPT:
                noted.popitem(last=False)

    def let_go_of_kept(self, pages: frozenset[bytes]) -> None:
        """Have engines keep views of these pages no longer, and wait a moment until they do not.

        An engine that is in a call looks for itself at its end.
        """
        from memshare_jupyter.worker import DROP  # noqa: PLC0415 -- brings cloudpickle

        asked = []
        with _lock:
            for number, noted in list(self._pages.items()):
                free = self._free.get(number)
                if free and (ended := noted.keys() & pages):
                    line = free.pop()
                    for page in ended:
                        noted.pop(page, None)  # a signal handler may have been quicker
                    if line.send(DROP, pickle.dumps(ended)):
                        asked.append((number, line))
                    else:
                        line.end.close()
        deadline = time.monotonic() + _PATIENCE_S
        for number, line in asked:
            if line.wait(deadline - time.monotonic()):
                self.give_back(number, line)

    def borrow(self, kind: type[_K], which: object = None) -> _K | None:
        """Return something of that kind that an earlier call had kept, for this one alone."""
        with _lock:
            kept = self._kept.get((kind, which))
            return cast("_K", kept.pop()) if kept else None

    def keep(self, thing: Kept, which: object = None) -> None:
        """Keep something for later calls."""
        with _lock:
            self._kept.setdefault((type(thing), which), []).append(thing)

    def close(self) -> None:
        """Close all that are free, and what is kept, and expect no more."""
        with _lock:
            for thing in [one for some in self._kept.values() for one in some]:
                thing.close()
            self._kept.clear()
            for line in [line for free in self._free.values() for line in free]:
                line.end.close()
            self._free.clear()
            for key, _ in [one for some in self._opening.values() for one in some]:
                _listener.accept(key)
            self._opening.clear()

    def _open(self, engine: Engine) -> None:
        from memshare_jupyter.worker import connect  # noqa: PLC0415 -- brings cloudpickle

        key = secrets.token_bytes(_KEY_BYTES)
        try:
            name = _listener.listen(key)
            client: Any = engine.client
            asked = request(engine, connect, (name, key), here=True)
            sent = client[engine.number].apply_async(*asked)
        except (RuntimeError, OSError, IndexError):
            # No room, no cluster, no such engine any more: the call's own message says so.
            _listener.accept(key)
            return
        self._opening.setdefault(engine.number, []).append((key, sent))

    def take_in(self, number: int) -> None:
        """Take in the lines that an engine has opened by now."""
        with _lock:
            for key, sent in self._opening.get(number, [])[:]:
                if not sent.done():
                    continue
                self._opening[number].remove((key, sent))
                end = _listener.accept(key)
                if end is not None and sent.exception() is None and sent.result() == "":
                    self._free.setdefault(number, []).append(Line(end))
                else:
                    self._without.add(number)


class _Listener:
    """Where engines come to, as long as some are expected."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._path = Path()
        self._came: dict[bytes, End] = {}
        self._expected: set[bytes] = set()

    def listen(self, key: bytes) -> str:
        """Listen for an engine that has this key, until it is accepted.

        Returns
        -------
        str
            The name of the socket in the runtime directory.
        """
        self._expected.add(key)
        if self._socket is None:
            mine = registry()
            if not mine.be_listed():
                raise OSError("without a list, nobody would remove the socket of a killed process")
            self._path = blocks.line_path(mine.directory, mine.token)
            made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                self._path.unlink(missing_ok=True)
                with blocks.short_name(self._path) as name:
                    made.bind(name)
                self._path.chmod(0o600)  # whatever the umask
                made.listen(1024)
                made.setblocking(False)
            except BaseException:
                made.close()
                raise
            self._socket = made
        return self._path.name

    def accept(self, key: bytes) -> End | None:
        """Return the line of the engine that has this key, if it has connected."""
        with contextlib.suppress(OSError):
            while self._socket is not None and key not in self._came:
                self._let_in(self._socket.accept()[0])
        self._expected.discard(key)
        if not self._expected and self._socket is not None:
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)
        return self._came.pop(key, None)

    def _let_in(self, connected: socket.socket) -> None:
        from memshare_jupyter.worker import End  # noqa: PLC0415 -- brings cloudpickle

        end = End(connected)
        with contextlib.suppress(OSError):
            if blocks.user_of(connected) != os.geteuid():
                return
            hello = end.receive()  # it was sent before the message was answered
            if hello is not None and hello[2] in self._expected:
                self._came[hello[2]] = end

    def forget(self) -> None:
        """Close the socket in a forked child; the parent goes on to listen."""
        if self._socket is not None:
            self._socket.close()
        self.__init__()  # type: ignore[misc]


_lock = threading.RLock()
_listener: Final = _Listener()
_of_clients: Final[weakref.WeakKeyDictionary[Client, Lines]] = weakref.WeakKeyDictionary()


def lines_of(client: Client) -> Lines:
    """Return the lines of a client, which end with it."""
    with _lock:
        found = _of_clients.get(client)
        if found is None:
            for other, lines in list(_of_clients.items()):
                if other._closed:
                    lines.close()
            found = _of_clients[client] = Lines()
            weakref.finalize(client, found.close)
            local = running_cluster()
            if local is not None and local.client is client:
                local._at_end(found.close)
        return found


def kept_for(engines: Sequence[Engine]) -> Lines | None:
    """Return where a call on these engines, which are of one client, keeps what it shares."""
    client = engines[0].client if engines else None
    return None if client is None else lines_of(client)


def _let_go_of_kept(pages: frozenset[bytes]) -> None:
    for lines in list(_of_clients.values()):
        lines.let_go_of_kept(pages)


when_pages_end(_let_go_of_kept)


def _nothing_owed(engine: Engine) -> bool:
    """Say whether an engine has answered all messages that this client sent to it."""
    client: Any = engine.client
    outstanding = getattr(client, "_outstanding_dict", None)
    names = getattr(client, "_engines", None)
    if outstanding is None or names is None:
        return False
    return not outstanding.get(names.get(engine.number))


def _after_fork() -> None:
    """Have no lines in a forked child: `End` closes them, and their answers are the parent's."""
    global _lock  # noqa: PLW0603 -- another thread may have had it
    _lock = threading.RLock()
    _listener.forget()
    for lines in list(_of_clients.values()):
        lines.close()
    _of_clients.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
