"""Handing memfds to other processes over a unix socket, where ``/proc`` does not lead to them.

A socket crosses pid and user namespaces, and reaches a process that is not dumpable. It needs a
thread at the holder's side, so it is served only when it is needed, see `reach`.

1. the client connects and sends what it wants: a uuid, and whether to write;
2. the server looks who connected (SO_PEERCRED: the kernel says, not the client);
3. it opens the block anew, so that the client's descriptor can do no more than was asked for;
4. it answers with one byte and, when all is well, the descriptor (SCM_RIGHTS); both hang up.

Whatever a client does instead, the server hangs up on it, after two seconds at the latest.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

SUFFIX: Final = ".socket"
_REQUEST: Final = struct.Struct("<8s16s?")
_MAGIC: Final = b"memshar1"
_HERE, _GONE, _DENIED = b"\0", b"\1", b"\2"
_FD: Final = struct.Struct("@i")
_CREDENTIALS: Final = struct.Struct("@iII")
_CLIENT_S: Final = 2.0
_MOST_CLIENTS: Final = 64
_PATIENCE_S: Final = 5.0
_PATH_BYTES: Final = 107  # sun_path of unix(7), without its final zero

HandOut = Callable[[bytes, bool], int]
"""Opens the block with that uuid, for writing or not. `LookupError` when there is none,
`PermissionError` when it may not be written."""


class Server:
    """Serves the blocks of this process on a socket, in a thread of its own.

    Parameters
    ----------
    path : Path
        The socket; its directory keeps other users out.
    hand_out : callable
        Opens a block.
    """

    def __init__(self, path: Path, hand_out: HandOut) -> None:
        self._path = path
        self._hand_out = hand_out
        self._clients: dict[int, tuple[socket.socket, float]] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._stop, self._stopped = socket.socketpair()
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            with _short(path) as name:
                self._listener.bind(name)
            self._listener.listen(_MOST_CLIENTS)
            self._listener.setblocking(False)
        except BaseException:
            self.abandon()
            raise
        self.resume()

    @property
    def serving(self) -> bool:
        """Whether the socket can still be found."""
        return self._path.exists()

    def resume(self) -> None:
        """Serve, those first who came during a pause."""
        self._thread = threading.Thread(target=self._run, name="memshare socket", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """End the thread; who comes now waits."""
        self._stop.send(b"x")
        self._thread.join()
        self._stopped.recv(1)

    def end(self) -> None:
        """Stop, and remove the socket."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self.pause()
        self.abandon()

    def abandon(self) -> None:
        """Close what there is; in a forked child, which has no thread, the parent goes on."""
        for client, _ in self._clients.values():
            client.close()
        for end in (self._listener, self._stop, self._stopped):
            end.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._stopped, select.POLLIN)
        for fd in self._clients:
            poll.register(fd, select.POLLIN)
        while True:
            # A full house takes nobody in until somebody leaves or is shown out.
            full = len(self._clients) >= _MOST_CLIENTS
            poll.register(self._listener, 0 if full else select.POLLIN)
            for fd, _ in poll.poll(_CLIENT_S * 1000 if self._clients else None):
                if fd == self._stopped.fileno():
                    return
                if fd != self._listener.fileno():
                    self._answer(self._clients[fd][0])
                    self._hang_up(fd, poll)
                elif (client := self._accept()) is not None:
                    self._clients[client.fileno()] = (client, time.monotonic() + _CLIENT_S)
                    poll.register(client, select.POLLIN)
            now = time.monotonic()
            for fd in [fd for fd, (_, until) in self._clients.items() if until <= now]:
                self._hang_up(fd, poll)

    def _accept(self) -> socket.socket | None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return None
        except OSError:
            time.sleep(0.05)  # no descriptor left: the client waits, and we must not spin
            return None
        client.setblocking(False)
        return client

    def _hang_up(self, fd: int, poll: select.poll) -> None:
        poll.unregister(fd)
        self._clients.pop(fd)[0].close()

    def _answer(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            request = client.recv(_REQUEST.size + 1)
            if len(request) != _REQUEST.size or _peer(client) != os.getuid():  # step 2
                return
            magic, uuid, writable = _REQUEST.unpack(request)
            if magic != _MAGIC:
                return
            try:
                fd = self._hand_out(uuid, writable)  # step 3
            except LookupError:
                client.send(_GONE)
            except PermissionError:
                client.send(_DENIED)
            else:
                try:
                    socket.send_fds(client, [_HERE], [fd])  # step 4
                finally:
                    os.close(fd)


def fetch(path: Path, uuid: bytes, *, writable: bool) -> int:
    """Ask the process that serves `path` for a block; a descriptor of it.

    Raises
    ------
    LookupError
        It does not have the block.
    PermissionError
        `writable`, and the block is sealed against it.
    OSError
        Nobody serves the socket, not for this user, or not in time.
    """
    with socket.socket(socket.AF_UNIX) as server:
        # The kernel's timeouts and not Python's: with those, which make the socket non-blocking,
        # a full backlog would refuse us at once.
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            server.setsockopt(socket.SOL_SOCKET, option, _timeval(_PATIENCE_S))
        try:
            with _short(path) as name:
                server.connect(name)
            if _peer(server) != os.getuid():
                raise ConnectionRefusedError(f"{path} is served by another user")
            server.send(_REQUEST.pack(_MAGIC, uuid, writable))  # step 1
            # Not socket.recv_fds: Python 3.11's does not pass the flag on.
            space = socket.CMSG_LEN(_FD.size)
            answer, extra, *_ = server.recvmsg(1, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError as error:
            raise TimeoutError(f"{path} did not answer within {_PATIENCE_S:g} s") from error
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            return int(_FD.unpack(data)[0])
    if answer == _GONE:
        raise LookupError(f"{path} does not have it any more")
    if answer == _DENIED:
        raise PermissionError(f"{path} may not be written to")
    raise ConnectionResetError(f"{path} hung up")


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def _peer(connected: socket.socket) -> int:
    """Return the user at the other end."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return int(uid)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield a name of the socket that is short enough for an address."""
    if len(os.fsencode(path)) <= _PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
