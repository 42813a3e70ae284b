"""Packets: what goes over a line, from a caller to an engine and back.

A packet is the number of a call, what kind it is, and bytes. Many bytes go beside it, in memory of
their own, so that no packet is ever too large for the socket.
"""

from __future__ import annotations

import os
import socket
import struct
import weakref
from typing import Final

CALL: Final = 1
DONE: Final = 2
FAILED: Final = 3
DROP: Final = 4
GONE: Final = 5
"""A call; its answer; or why there is none, as a text. Pages, views of which shall not be kept any
longer; and that none is."""

_HEAD: Final = struct.Struct("<QB?")  # number, kind, whether the bytes are in a file beside it
_FD: Final = struct.Struct("@i")
_MOST_BYTES: Final = 128 << 10
_FLAGS: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0) | socket.MSG_DONTWAIT

Packet = tuple[int, int, bytes]
"""Number, kind and bytes."""

_ends: Final[weakref.WeakSet[End]] = weakref.WeakSet()


class End:
    """One end of a line.

    Parameters
    ----------
    connected : socket
        A connected one of packets, which it takes over.

    Attributes
    ----------
    fd : int
        Its descriptor, to wait for; -1 once it is closed.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.fd = connected.fileno()
        room = connected.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
        self._most = min(_MOST_BYTES, room)
        # Kept: memory for so many bytes would be mapped and unmapped for each packet.
        self._buffer = memoryview(bytearray(_HEAD.size + _MOST_BYTES))
        _ends.add(self)

    def __del__(self) -> None:
        self._socket.close()

    def send(self, number: int, kind: int, data: bytes) -> None:
        """Send a packet; it is not waited for that it is read.

        Raises
        ------
        OSError
            The other end is closed, or does not read.
        """
        if len(data) <= self._most:
            self._socket.send(_HEAD.pack(number, kind, False) + data, socket.MSG_DONTWAIT)
            return
        with open(os.memfd_create("memshare-packet", os.MFD_CLOEXEC), "wb") as beside:
            beside.write(data)
            beside.flush()
            head = _HEAD.pack(number, kind, True)
            socket.send_fds(self._socket, [head], [beside.fileno()], socket.MSG_DONTWAIT)

    def receive(self) -> Packet | None:
        """Return the packet that has come, or None at the end of the line.

        Raises
        ------
        BlockingIOError
            None has come.
        """
        try:
            size, extra, _, _ = self._socket.recvmsg_into(
                [self._buffer], socket.CMSG_LEN(_FD.size), _FLAGS
            )
        except ConnectionError:
            return None
        if size < _HEAD.size:
            return None
        number, kind, is_beside = _HEAD.unpack_from(self._buffer)
        if not is_beside:
            return number, kind, bytes(self._buffer[_HEAD.size : size])
        return (number, kind, _read(extra)) if extra else None  # we had no descriptor for it

    def close(self) -> None:
        """End the line; once or more often."""
        self.fd = -1
        self._socket.close()


def _read(extra: list[tuple[int, int, bytes]]) -> bytes:
    (fd,) = _FD.unpack(extra[0][2])
    with open(fd, "rb", buffering=0) as file:
        file.seek(0)
        return file.read()


def _after_fork() -> None:
    """Close them in a forked child: while one is open there, the other end sees no end."""
    for end in list(_ends):
        end.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
