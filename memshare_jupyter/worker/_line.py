"""An engine's end of a line: calls that come to it without a controller between.

The event loop of the engine watches it, so a call runs where a message would: in the main thread,
between two messages. The loop's lock is the kernel's own, which it keeps while a message is
handled, also one that awaits something.

An engine that handles no message ignores SIGINT, and a call has its own handler while it works
(`_watch`). Nothing here changes that: an interrupt raised in the loop would end the engine.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any, Final

from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.worker import _kept
from memshare_jupyter.worker._arena import Arena
from memshare_jupyter.worker._packets import CALL, DONE, DROP, FAILED, GONE, End, Packet
from memshare_jupyter.worker._payload import load
from memshare_jupyter.worker._work import run_in

_LOOK_S: Final = 1.0

_served: Final[set[_Served]] = set()
_looks: asyncio.TimerHandle | None = None


def connect(name: str, key: bytes) -> str:
    """Connect this engine with a caller that listens in the runtime directory.

    Parameters
    ----------
    name : str
        The caller's socket.
    key : bytes
        What the caller knows this engine by.

    Returns
    -------
    str
        Why there can be no line; empty if there is one.
    """
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    lock = getattr(getattr(shell, "kernel", None), "_main_asyncio_lock", None)
    if lock is None:
        return "this version of ipykernel has no lock"
    try:
        loop = asyncio.get_running_loop()
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except (RuntimeError, OSError) as error:
        return str(error)
    end = End(connected)
    try:
        with blocks.short_name(registry().directory / name) as address:
            connected.connect(address)
        if blocks.user_of(connected) != os.geteuid():
            raise PermissionError("another user listens there")
        end.send(0, CALL, key)
        served = _Served(end, loop, lock)
        loop.add_reader(end.fd, served.ready)
    except (OSError, NotImplementedError) as error:
        end.close()
        return str(error)
    _served.add(served)
    return ""


class _Served:
    """A line that this engine serves."""

    def __init__(self, end: End, loop: asyncio.AbstractEventLoop, lock: asyncio.Lock) -> None:
        self._end = end
        self._fd = end.fd
        self._loop = loop
        self._lock = lock
        self._arena = Arena()
        self._waiting: set[asyncio.Task[None]] = set()

    def ready(self) -> None:
        """Take what has come and do it, as soon as no message is being handled."""
        try:
            packet = self._end.receive()
        except BlockingIOError:
            return
        if packet is None:
            self._close()
        elif self._lock.locked():
            task = self._loop.create_task(self._later(packet))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        else:
            self._do(packet)

    async def _later(self, packet: Packet) -> None:
        async with self._lock:
            self._do(packet)

    def _do(self, packet: Packet) -> None:
        number, kind, data = packet
        try:
            if kind == DROP:
                _kept.let_go(load(data))
                answer = GONE, b""
            else:
                answer = DONE, run_in(self._arena, *load(data))
                _look_later(self._loop)
        except BaseException as error:  # noqa: BLE001 -- it is the caller's, and not the loop's
            answer = FAILED, f"{type(error).__name__}: {error}".encode()
        try:
            self._end.send(number, *answer)
        except OSError:  # nobody is there any more
            self._close()

    def _close(self) -> None:
        if self in _served:
            _served.discard(self)
            self._loop.remove_reader(self._fd)
            self._end.close()
            self._arena.close()


def _look_later(loop: asyncio.AbstractEventLoop) -> None:
    """Look at the views that are kept once a second, as long as there are any."""
    global _looks  # noqa: PLW0603 -- one process, one loop
    if _looks is None and _kept.look():
        _looks = loop.call_later(_LOOK_S, _look, loop)


def _look(loop: asyncio.AbstractEventLoop) -> None:
    global _looks  # noqa: PLW0603
    _looks = loop.call_later(_LOOK_S, _look, loop) if _kept.look(at_owners=True) else None
