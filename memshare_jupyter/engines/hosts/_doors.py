"""The door of a process: where processes of other hosts come in, each with its token.

There is one socket for all that a process gives to others, from the first token on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final, NamedTuple

from memshare_jupyter.engines.hosts._addresses import addresses
from memshare_jupyter.engines.hosts._proof import accepted, dialed, heard, id_of

_PROOF_S: Final = 5.0
_CONNECT_S: Final = 2.0
_PAUSE_S: Final = 0.1

Serve = Callable[[socket.socket], None]
"""What is done with a connection that has proved to know the token; afterwards it is closed."""


class Way(NamedTuple):
    """Where a process is reached: its addresses, any of which may lead there, and its port."""

    addresses: tuple[str, ...]
    port: int

    def __str__(self) -> str:
        return f"{' or '.join(self.addresses) or 'no address'}, port {self.port}"


class _Door:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._given: dict[bytes, tuple[bytes, Serve]] = {}

    def way(self) -> Way:
        with self._lock:
            if self._socket is None:
                both = socket.has_dualstack_ipv6()
                family = socket.AF_INET6 if both else socket.AF_INET
                self._socket = socket.create_server(
                    ("", 0), family=family, dualstack_ipv6=both, backlog=128
                )
                threading.Thread(target=self._let_in, name="memshare-door", daemon=True).start()
            return Way(tuple(addresses()), self._socket.getsockname()[1])

    def give(self, token: bytes, serve: Serve) -> None:
        self._given[id_of(token)] = token, serve

    def take_back(self, token: bytes) -> None:
        self._given.pop(id_of(token), None)

    def _let_in(self) -> None:
        door = self._socket
        while door is not None:
            try:
                connection = door.accept()[0]
            except OSError:
                if door.fileno() < 0:
                    return
                time.sleep(_PAUSE_S)  # a visitor who has gone, or no descriptor is left
                continue
            name = "memshare-visitor"
            threading.Thread(target=self._visit, args=(connection,), name=name, daemon=True).start()

    def _visit(self, connection: socket.socket) -> None:
        with contextlib.closing(connection), contextlib.suppress(OSError, KeyError):
            _prepare(connection)
            name, encrypted = heard(connection)
            # Looked up once: the other end may know that it is in, and the token be taken back,
            # before this thread goes on.
            token, serve = self._given[name]
            proved = accepted(connection, token, encrypted=encrypted)
            _open.add(proved)
            with contextlib.closing(proved):
                serve(proved)

    def close(self) -> None:
        """Let in nobody any more; nothing is said to who is in."""
        if self._socket is not None:
            self._socket.close()


def _prepare(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(_PROOF_S)


_door = _Door()
_open: Final[weakref.WeakSet[socket.socket]] = weakref.WeakSet()


def way_here() -> Way:
    """Return where this process is reached, from now on."""
    return _door.way()


def give(token: bytes, serve: Serve) -> None:
    """Let in whoever knows this token, until it is taken back."""
    _door.give(token, serve)


def take_back(token: bytes) -> None:
    """Let in nobody any more by this token; who is in stays."""
    _door.take_back(token)


def dial(way: Way, token: bytes, *, encrypted: bool) -> socket.socket:
    """Connect to a process of another host, or of this one.

    Raises
    ------
    ConnectionError
        None of its addresses leads to it.
    """
    failed: list[str] = []
    for address in way.addresses:
        try:
            connection = socket.create_connection((address, way.port), _CONNECT_S)
        except OSError as error:
            failed.append(f"{address}: {error}")
            continue
        try:
            _prepare(connection)
            proved = dialed(connection, token, encrypted=encrypted)
            _open.add(proved)
            return proved
        except OSError as error:  # somebody else, who has that address here
            connection.close()
            failed.append(f"{address}: {error}")
    raise ConnectionError(f"port {way.port} cannot be reached ({'; '.join(failed)})")


def _after_fork() -> None:
    """Have nothing open in a forked child: the other ends would not learn of its parent's death."""
    global _door  # noqa: PLW0603 -- another thread may have had its lock
    _door.close()
    _door = _Door()
    for connection in list(_open):
        connection.close()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
