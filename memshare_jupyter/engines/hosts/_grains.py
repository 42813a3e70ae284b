"""A block on its way from host to host: in grains with checksums, passed on as they come.

Whoever has some of a block gives it to the next one: a chain of hosts, in which each sends the
block once, takes no longer than one link does. To get a block:

1. ask a source for it, from the first grain on that is not here;
2. receive a grain: length and CRC-32, then the bytes. A source that has to wait for its own says
   so meanwhile (an empty grain), so that waiting is not taken for death;
3. compare, write it down, and let those who wait for it have it;
4. when a source fails, ask the next one, until none has given a grain for a while.

Other threads may end this at any moment. They never close a descriptor that somebody may be at, for
its number could be another file's a moment later: whoever ends a block lets it fail, after which
nobody is at its descriptor, and then whoever has opened that closes it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from memshare_jupyter.engines.hosts._doors import Way, dial
from memshare_jupyter.engines.hosts._proof import exactly, limit, receive_into

GRAIN_BYTES: Final = 1 << 20
_ASKED: Final = struct.Struct("<16sQ")  # uuid, first grain
_ANSWER: Final = struct.Struct("<Q")  # how large the block is, or one of these two
_NOT_HERE: Final = 0
_NOT_YET: Final = 2**64 - 1
_HEAD: Final = struct.Struct("<II")  # length, checksum
_ALIVE: Final = _HEAD.pack(0, 0)
_ALIVE_S: Final = 0.5
_SILENT_S: Final = 3.0
_SEND_S: Final = 20.0
_GIVE_UP_S: Final = 12.0
"""So long no source may give anything; the network may be away for a moment."""


class Arriving:
    """A block that is here as far as its first grains.

    Parameters
    ----------
    fd : int
        A descriptor of it, which is open until it has failed.
    size_bytes : int
        How large it is.
    whole : bool
        Whether all of it is here.
    """

    def __init__(self, fd: int, size_bytes: int, *, whole: bool) -> None:
        self.fd = fd
        self.size_bytes = size_bytes
        self.grains = -(-size_bytes // GRAIN_BYTES)
        self.here = self.grains if whole else 0
        self.failed = False
        self._sums: dict[int, int] = {}
        self._changed = threading.Condition()

    def span(self, grain: int) -> tuple[int, int]:
        """Return where a grain begins and ends."""
        return grain * GRAIN_BYTES, min(self.size_bytes, (grain + 1) * GRAIN_BYTES)

    def add(self, data: memoryview, checksum: int) -> None:
        """Write down the next grain; raises ConnectionError if it has failed."""
        with self._changed:  # all the time: the descriptor may be closed as soon as it has failed
            self._raise_if_failed()
            start, _ = self.span(self.here)
            while data:
                written = os.pwrite(self.fd, data, start)
                data, start = data[written:], start + written
            self._sums[self.here] = checksum
            self.here += 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Have it open as long as one needs it; raises ConnectionError if it has failed."""
        with self._changed:
            self._raise_if_failed()
            fd = os.dup(self.fd)
        try:
            yield fd
        finally:
            os.close(fd)

    def fail(self) -> None:
        """Let nobody wait for it any more; afterwards nobody is at its descriptor."""
        with self._changed:
            self.failed = True
            self._changed.notify_all()

    def still_comes(self) -> bool:
        """Say whether there is more to come; raises ConnectionError if it has failed."""
        with self._changed:
            self._raise_if_failed()
            return self.here < self.grains

    def wait_for(self, grain: int, seconds: float) -> bool:
        """Wait for a grain; say whether it is here. Raises ConnectionError if it has failed."""
        with self._changed:
            self._changed.wait_for(lambda: self.here > grain or self.failed, seconds)
            self._raise_if_failed()
            return self.here > grain

    def _raise_if_failed(self) -> None:
        if self.failed:
            raise ConnectionError("the block will not come")

    def checksum(self, grain: int, mapped: memoryview) -> int:
        """Return the checksum of a grain, as it came, or of what is here."""
        found = self._sums.get(grain)
        if found is None:
            start, end = self.span(grain)
            found = self._sums[grain] = zlib.crc32(mapped[start:end])
        return found


class Stock:
    """What this process gives to others by one token: blocks that are here or will be.

    Parameters
    ----------
    uuids : sequence of bytes
        The blocks, of which those that have not begun to come are waited for.
    """

    def __init__(self, uuids: Sequence[bytes]) -> None:
        self._blocks: dict[bytes, Arriving | None] = dict.fromkeys(uuids)
        self._own: list[int] = []
        self._closed = False
        self._changed = threading.Condition()

    def add(self, uuid: bytes, block: Arriving, *, own: bool) -> None:
        """Say where a block is that begins to come; with `own` it closes the descriptor some day.

        Raises
        ------
        ConnectionError
            It is closed, and so is the descriptor then.
        """
        with self._changed:
            if not self._closed:
                self._blocks[uuid] = block
                self._own += [block.fd] * own
                self._changed.notify_all()
                return
        block.fail()
        if own:
            os.close(block.fd)
        raise ConnectionError("nobody waits for the page any more")

    def block(self, uuid: bytes) -> Arriving | None:
        """Return a block that has begun to come."""
        return self._blocks.get(uuid)

    def coming(self) -> list[tuple[bytes, int, int]]:
        """Return which blocks come at this moment, how many bytes are here, and of how many."""
        return [
            (uuid, min(block.size_bytes, block.here * GRAIN_BYTES), block.size_bytes)
            for uuid, block in list(self._blocks.items())
            if block is not None and block.here < block.grains and not block.failed
        ]

    def fail(self) -> None:
        """Let nobody wait for what has not come."""
        with self._changed:
            begun = {uuid: block for uuid, block in self._blocks.items() if block is not None}
            self._blocks = {**begun}
            self._changed.notify_all()
        for block in begun.values():
            if block.here < block.grains:
                block.fail()

    def close(self) -> None:
        """Let go of the blocks; afterwards nobody is at their descriptors. Once or more often."""
        with self._changed:
            self._closed = True
            blocks, self._blocks = self._blocks, {}
            own, self._own = self._own, []
            self._changed.notify_all()
        for block in blocks.values():
            if block is not None:
                block.fail()
        for fd in own:
            os.close(fd)

    def serve(self, connection: socket.socket) -> None:
        """Give one block to who asks for it; raises OSError when it cannot go on."""
        limit(connection, _SEND_S)
        uuid, grain = _ASKED.unpack(exactly(connection, _ASKED.size))
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._blocks.get(uuid, 0) is not None, _ALIVE_S)
                block = self._blocks.get(uuid, 0)
            if block is not None:
                break
            connection.sendall(_ANSWER.pack(_NOT_YET))
        if not isinstance(block, Arriving):
            connection.sendall(_ANSWER.pack(_NOT_HERE))
            return
        connection.sendall(_ANSWER.pack(block.size_bytes))
        _give(connection, block, grain)


def _give(connection: socket.socket, block: Arriving, grain: int) -> None:
    # Much at a time: TLS writes records of 16 kB, each of which would be a packet of its own.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    encrypted = isinstance(connection, ssl.SSLSocket)
    with block.opened() as fd:
        mapped = memoryview(mmap.mmap(fd, block.size_bytes, prot=mmap.PROT_READ))
        while grain < block.grains:
            if not block.wait_for(grain, _ALIVE_S):
                connection.sendall(_ALIVE)
                continue
            start, end = block.span(grain)
            connection.sendall(_HEAD.pack(end - start, block.checksum(grain, mapped)))
            if encrypted:
                connection.sendall(mapped[start:end])
            else:
                while start < end:
                    start += os.sendfile(connection.fileno(), fd, start, end - start)
            grain += 1


def fetch(
    block: Arriving,
    uuid: bytes,
    sources: Sequence[Way],
    token: bytes,
    filled: Callable[[int], Any],
    *,
    encrypted: bool,
    patience_s: float = _GIVE_UP_S,
) -> None:
    """Get a block from whoever of the sources gives it, unless none gives any for so long.

    Raises
    ------
    ConnectionError
        None of them does, and the message says why the last one did not; or the block has failed.
    """
    why = "there is no source"
    until = time.monotonic() + patience_s
    while block.still_comes():
        for source in sources:
            before = block.here
            try:
                with dial(source, token, encrypted=encrypted) as connection:
                    _take(connection, block, uuid, filled)
            except OSError as error:
                why = f"{source}: {error}"
            if not block.still_comes():
                return
            if block.here > before:
                until = time.monotonic() + patience_s
        if time.monotonic() > until:
            raise ConnectionError(
                f"no host gave more than {block.here * GRAIN_BYTES >> 20} of "
                f"{block.size_bytes >> 20} MB ({why})"
            )
        time.sleep(0.1)


def _take(
    connection: socket.socket,
    block: Arriving,
    uuid: bytes,
    filled: Callable[[int], Any],
) -> None:
    limit(connection, _SILENT_S)
    connection.sendall(_ASKED.pack(uuid, block.here))
    while (size_bytes := _ANSWER.unpack(exactly(connection, _ANSWER.size))[0]) == _NOT_YET:
        block.still_comes()
    if size_bytes != block.size_bytes:
        raise ConnectionError("it does not have the page")
    buffer = memoryview(bytearray(GRAIN_BYTES))
    while block.still_comes():
        length, checksum = _HEAD.unpack(exactly(connection, _HEAD.size))
        if not length:
            continue
        start, end = block.span(block.here)
        if length != end - start:
            raise ConnectionError(f"a grain of {length} bytes came instead of {end - start}")
        receive_into(connection, buffer[:length])
        if zlib.crc32(buffer[:length]) != checksum:
            raise ConnectionError("a grain was damaged on its way")
        block.add(buffer[:length], checksum)
        filled(length)
