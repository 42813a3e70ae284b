"""Handing memfds to other processes over a unix socket: the holder's end and the asker's.

1. the client connects and sends what it wants: a uuid, and whether to write;
2. the server looks who connected (SO_PEERCRED: the kernel says, not the client);
3. it opens the block anew, so that the client's descriptor can do no more than was asked for;
4. it answers with one byte and, when all is well, the descriptor (SCM_RIGHTS); both hang up.

Whatever a client does instead, the server hangs up on it, after two seconds at the latest. A
server that does not answer keeps a client waiting as long, once; `_reach` says when there is one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from memshare_jupyter.core._descriptors import RUN_OUT

_REQUEST: Final = struct.Struct("<8s16s?")
_MAGIC: Final = b"memshar1"
_HERE, _GONE, _DENIED, _RUN_OUT = b"\0", b"\1", b"\2", b"\3"
_FD: Final = struct.Struct("@i")
_CREDENTIALS: Final = struct.Struct("@iII")
_CLIENT_S: Final = 2.0
_MOST_CLIENTS: Final = 64
_PATIENCE_S: Final = 2.0
_IMPATIENCE_S: Final = 0.05
_SILENT_S: Final = 5.0
_PATH_BYTES: Final = 107  # sun_path of unix(7), without its final zero

HandOut = Callable[[bytes, bool], int]
"""Opens the block with that uuid, for writing or not. `LookupError` when there is none,
`PermissionError` when it may not be written."""

_silent: dict[Path, float] = {}
"""Sockets that gave no answer, and until when they are not waited for as long again."""


class Server:
    """Serves the blocks of this process on a socket, in a thread of its own.

    Parameters
    ----------
    path : Path
        The socket; its directory keeps other users out.
    hand_out : callable
        Opens a block.

    Raises
    ------
    OSError, RuntimeError
        There can be no socket there, or no thread.
    """

    def __init__(self, path: Path, hand_out: HandOut) -> None:
        self._path = path
        self._hand_out = hand_out
        self._clients: dict[int, tuple[socket.socket, float]] = {}
        self._thread: threading.Thread | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._stop, self._stopped = socket.socketpair()
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            with short_name(path) as name:
                self._listener.bind(name)
            path.chmod(0o600)  # whatever the umask
            self._listener.listen(_MOST_CLIENTS)
            self._listener.setblocking(False)
            self.resume()
        except BaseException:
            self.abandon()
            path.unlink(missing_ok=True)
            raise

    @property
    def serving(self) -> bool:
        """Whether the socket can still be found, and somebody answers."""
        return self._path.exists() and self._thread is not None and self._thread.is_alive()

    def resume(self) -> None:
        """Serve, those first who came during a pause."""
        thread = threading.Thread(target=self._run, name="memshare socket", daemon=True)
        thread.start()
        self._thread = thread

    def pause(self) -> None:
        """End the thread; who comes now waits."""
        if self._thread is not None:
            self._stop.send(b"x")
            self._thread.join()
            self._stopped.recv(1)
            self._thread = None

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
                if fd == self._listener.fileno():
                    self._let_in(poll)
                else:
                    # Whatever goes wrong with one client is no matter for the others.
                    with contextlib.suppress(Exception):
                        self._answer(self._clients[fd][0])
                    self._hang_up(fd, poll)
            now = time.monotonic()
            for fd in [fd for fd, (_, until) in self._clients.items() if until <= now]:
                self._hang_up(fd, poll)

    def _let_in(self, poll: select.poll) -> None:
        try:
            client, _ = self._listener.accept()
            client.setblocking(False)
            self._clients[client.fileno()] = (client, time.monotonic() + _CLIENT_S)
            poll.register(client, select.POLLIN)
        except BlockingIOError:
            pass
        except Exception:  # noqa: BLE001 -- no descriptor or memory left: the client waits,
            time.sleep(0.05)  # and we must not spin

    def _hang_up(self, fd: int, poll: select.poll) -> None:
        poll.unregister(fd)
        self._clients.pop(fd)[0].close()

    def _answer(self, client: socket.socket) -> None:
        request = client.recv(_REQUEST.size + 1)
        if len(request) != _REQUEST.size or user_of(client) != os.getuid():  # step 2
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
        except OSError as error:
            if error.errno in RUN_OUT:
                client.send(_RUN_OUT)
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
    TimeoutError
        It did not answer within two seconds, now or a moment ago: that is waited for once.
    OSError
        Nobody serves the socket, not for this user, or no descriptor is left for the block.
    """
    patience_s = _IMPATIENCE_S if time.monotonic() < _silent.get(path, 0.0) else _PATIENCE_S
    try:
        answer, extra, flags = _ask(path, _REQUEST.pack(_MAGIC, uuid, writable), patience_s)
    except BlockingIOError as error:
        if patience_s == _PATIENCE_S:
            _silent[path] = time.monotonic() + _SILENT_S
        raise TimeoutError(
            f"{path} did not answer within {_PATIENCE_S:g} s; its process may be stopped"
        ) from error
    _silent.pop(path, None)
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) == _FD.size:
            return int(_FD.unpack(data)[0])
    if flags & socket.MSG_CTRUNC:  # the kernel drops a descriptor that we have no room for
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
    if answer == _GONE:
        raise LookupError(f"{path} does not have it any more")
    if answer == _DENIED:
        raise PermissionError(f"{path} may not be written to")
    if answer == _RUN_OUT:
        raise ConnectionAbortedError(f"{path} has no descriptor left to hand it over")
    raise ConnectionResetError(f"{path} hung up")


def _ask(
    path: Path, request: bytes, patience_s: float
) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
    with socket.socket(socket.AF_UNIX) as server:
        # The kernel's timeouts and not Python's: with those, which make the socket non-blocking,
        # a full backlog would refuse us at once.
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            server.setsockopt(socket.SOL_SOCKET, option, _timeval(patience_s))
        with short_name(path) as name:
            server.connect(name)
        if user_of(server) != os.getuid():
            raise ConnectionRefusedError(f"{path} is served by another user")
        server.send(request)  # step 1
        # Not socket.recv_fds: Python 3.11's does not pass the flag on.
        space = socket.CMSG_LEN(_FD.size)
        answer, extra, flags, _ = server.recvmsg(1, space, socket.MSG_CMSG_CLOEXEC)
        return answer, extra, flags


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def user_of(connected: socket.socket) -> int:
    """Return the user at the other end of a unix socket: the kernel says who that is."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return int(uid)


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Yield a name of the socket that is short enough for an address."""
    if len(os.fsencode(path)) <= _PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
