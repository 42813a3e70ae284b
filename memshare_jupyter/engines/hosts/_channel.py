"""A channel: messages on a connection, from any thread, and whether the other end is there.

That it is there is the kernel's answer, not its process's, which may be in a function that lets no
other thread run: a host that acknowledges nothing for ten seconds is gone. See tcp(7).
"""

from __future__ import annotations

import contextlib
import pickle
import select
import socket
import ssl
import struct
import threading
import time
from typing import Any, Final

_LENGTH: Final = struct.Struct("<Q")
_GONE_S: Final = 10
_KERNEL: Final = (
    (socket.TCP_KEEPIDLE, 2),
    (socket.TCP_KEEPINTVL, 2),
    (socket.TCP_KEEPCNT, (_GONE_S - 2) // 2),
    (socket.TCP_USER_TIMEOUT, _GONE_S * 1000),
)
_PIECE_BYTES: Final = 1 << 18
_PATIENCE_S: Final = 30.0
"""So long what is sent may stay where it is; then the other end counts as gone."""


class Channel:
    """Messages of any kind that can be pickled, in order.

    One call at a time is made on a connection, and none that waits: that of TLS does not bear
    two, and one that waits to be read must not keep another from reading.

    Parameters
    ----------
    connection : socket
        Proved; the channel owns it.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        for option, value in _KERNEL:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._connection = connection
        self._one = threading.Lock()
        self._sending = threading.Lock()
        self._came = bytearray()

    def send(self, message: Any) -> None:
        """Send a message.

        Raises
        ------
        OSError
            The other end is gone, or takes nothing.
        """
        data = pickle.dumps(message, protocol=5)
        view = memoryview(_LENGTH.pack(len(data)) + data)
        with self._sending:
            until = time.monotonic() + _PATIENCE_S
            while view:
                try:
                    with self._one:
                        count = self._connection.send(view[:_PIECE_BYTES])
                    view = view[count:]
                    until = time.monotonic() + _PATIENCE_S
                except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    self._wait(select.POLLOUT, 0.1)
                    if time.monotonic() > until:
                        raise TimeoutError("the other end takes nothing any more") from None

    def receive(self, timeout_s: float) -> Any:
        """Return the next message; one thread only.

        Raises
        ------
        TimeoutError
            None has come in time.
        OSError, EOFError
            The other end is gone.
        """
        until = time.monotonic() + timeout_s
        while (found := self._whole()) is None:
            if not self._take():
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._wait(select.POLLIN, left)
        return pickle.loads(found)  # noqa: S301 -- from whoever has the token

    def _whole(self) -> bytes | None:
        if len(self._came) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(self._came)[0]
        if len(self._came) < end:
            return None
        found = bytes(memoryview(self._came)[_LENGTH.size : end])
        del self._came[:end]
        return found

    def _take(self) -> bool:
        """Take what has come; say whether anything has."""
        try:
            with self._one:
                found = self._connection.recv(_PIECE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        if not found:
            raise EOFError("the other end has closed the channel")
        self._came += found
        return True

    def _wait(self, event: int, seconds: float) -> None:
        fd = self._connection.fileno()
        if fd < 0:
            raise EOFError("the channel was closed")
        poll = select.poll()
        poll.register(fd, event)
        poll.poll(seconds * 1000)

    def close(self) -> None:
        """End it; the other end will notice."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
