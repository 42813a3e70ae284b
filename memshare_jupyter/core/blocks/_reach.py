"""How other processes reach the memfds of this one: through ``/proc``, or over a socket.

``/proc/<pid>/fd`` costs nothing, so it is the rule. A socket needs a thread, which is no good
company for a fork (it pauses then), so it is served only when it must be:

- others cannot open this process's descriptors (`_proc.why_hidden`);
- a living session of another pid namespace was seen, for which our pid has no meaning;
- ``MEMSHARE_SOCKET`` is set: a process that does nothing does not see who comes later.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from memshare_jupyter.core import _proc
from memshare_jupyter.core.blocks import _memfd, _socket

VARIABLE: Final = "MEMSHARE_SOCKET"


class Reach:
    """The socket of one session, if it has to have one.

    Parameters
    ----------
    directory : Path
        The runtime directory.
    token : bytes
        The session.
    foreign : bool
        Whether a session of another pid namespace was seen already.
    """

    def __init__(self, directory: Path, token: bytes, *, foreign: bool = False) -> None:
        self._directory = directory
        self._path = socket_path(directory, token)
        self._server: _socket.Server | None = None
        self._possible = _memfd.available()  # a file is reached without its holder's help
        self._hidden = bool(os.environ.get(VARIABLE) or _proc.why_hidden())
        self.foreign = foreign

    def look(self) -> None:
        """Serve the socket if others need it by now."""
        if not self._possible:
            return
        if self._server is None:
            if self.foreign or self._hidden or not _proc.dumpable():
                self._begin()
        elif not self._server.serving:  # a cleaner of temporary files removed it
            self.end()
            self._begin()

    def _begin(self) -> None:
        # Without a directory, or with too long a path, there is no socket; the next look tries
        # again, and attachers learn that there is none.
        with contextlib.suppress(OSError):
            self._server = _socket.Server(self._path, _memfd.reopen_held)

    @property
    def serving(self) -> bool:
        """Whether there is a socket."""
        return self._server is not None

    def before_fork(self) -> None:
        """End the thread: `os.fork` is for processes with one, and warns from Python 3.12 on."""
        if self._server is not None:
            self._server.pause()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._server is not None:
            self._server.resume()

    def end(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.end()
            self._server = None

    def in_child(self, token: bytes) -> Reach:
        """Forget the parent's socket in a forked child; what the child has instead."""
        if self._server is not None:
            self._server.abandon()
            self._server = None
        return Reach(self._directory, token, foreign=self.foreign)


def socket_path(directory: Path, token: bytes) -> Path:
    """Return where the session with that token serves."""
    return directory / f"{token.hex()}{_socket.SUFFIX}"
