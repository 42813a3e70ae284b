"""How other processes reach the memfds of this one: through ``/proc``, or over a socket.

``/proc/<pid>/fd`` costs nothing, so it is the rule. A socket crosses pid and user namespaces, and
reaches a process that is not dumpable or has more rights. It needs a thread, which is no good
company for a fork (it pauses then), so it is served only when it must be:

- others cannot open this process's descriptors (`_proc.why_hidden`), or may well not: it lives in
  a user namespace of its own, as in most containers without privileges;
- a living session of another pid or user namespace was seen;
- a process that was not let in left a mark beside our session file;
- ``MEMSHARE_SOCKET`` is set: a process that does nothing does not see who comes later.

Nor does it see the mark. So who left it waits for a second at most, and those after it not at all.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from memshare_jupyter.core import _proc
from memshare_jupyter.core._descriptors import RUN_OUT
from memshare_jupyter.core.blocks import _file, _handover, _memfd
from memshare_jupyter.core.blocks._gone import SegmentGone

VARIABLE: Final = "MEMSHARE_SOCKET"
_SOCKET, _WANTED, _LINE = ".socket", ".wanted", ".line"
_MARK_S: Final = 0.02
_PATIENCE_S: Final = 1.0
_REMEMBERED_S: Final = 5.0

_absent: dict[Path, float] = {}
"""Sockets that did not appear, and until when nobody waits for them again."""


class Reach:
    """The socket of one session, if it has to have one.

    Parameters
    ----------
    directory : Path
        The runtime directory.
    token : bytes
        The session.
    foreign : bool
        Whether a session was seen already that cannot open this process's descriptors.

    Attributes
    ----------
    foreign : bool
        The same, up to now.
    """

    def __init__(self, directory: Path, token: bytes, *, foreign: bool = False) -> None:
        self._directory = directory
        self._path = socket_path(directory, token)
        self._mark = mark_path(directory, token)
        self._mark_looked_s = -_MARK_S
        self._server: _handover.Server | None = None
        self._possible = _memfd.available()  # a file is reached without its holder's help
        self._asked = bool(os.environ.get(VARIABLE) or _proc.why_hidden() or _proc.confined())
        self.foreign = foreign

    def met(self, pid_namespace: int, user_namespace: int) -> None:
        """Take notice of a living session and where it lives."""
        here = (_proc.pid_namespace(), _proc.user_namespace())
        self.foreign |= (pid_namespace, user_namespace) != here

    def needed(self) -> bool:
        """Say whether others need a socket by now, and there is none."""
        if not self._possible:
            return False
        if self._server is not None:  # a cleaner may have removed it, or a fork not resumed it
            return not self._server.serving
        return self._asked or self.foreign or self._marked() or not _proc.dumpable()

    def _marked(self) -> bool:
        if time.monotonic() - self._mark_looked_s >= _MARK_S:
            self._mark_looked_s = time.monotonic()
            self._asked = self._mark.exists()
        return self._asked

    def serve(self) -> None:
        """Serve the socket: of a session that is listed, or nobody would remove it.

        Without a directory, or a thread, there is none; attachers learn that, and whoever looks
        next tries again.
        """
        if self._server is not None:
            self._server.end()
            self._server = None
        with contextlib.suppress(OSError, RuntimeError):
            self._server = _handover.Server(self._path, _memfd.reopen_held)
            self._mark.unlink(missing_ok=True)

    @property
    def serving(self) -> bool:
        """Whether there is a socket."""
        return self._server is not None and self._server.serving

    def before_fork(self) -> None:
        """End the thread: `os.fork` is for processes with one, and warns from Python 3.12 on."""
        if self._server is not None:
            self._server.pause()

    def after_fork_in_parent(self) -> None:
        """Go on; when no thread can start, the next look tries again."""
        if self._server is not None:
            with contextlib.suppress(RuntimeError):
                self._server.resume()

    def end(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.end()
            self._server = None
        with contextlib.suppress(OSError):
            self._mark.unlink()

    def moved(self, directory: Path) -> Reach:
        """Serve in another directory from now on."""
        self.end()
        token = bytes.fromhex(self._path.stem)
        return Reach(directory, token, foreign=self.foreign)

    def in_child(self, token: bytes) -> Reach:
        """Forget the parent's socket in a forked child; what the child has instead."""
        if self._server is not None:
            self._server.abandon()
            self._server = None
        return Reach(self._directory, token, foreign=self.foreign)


def get(
    directory: Path, token: bytes, uuid: bytes, pid: int, why: str, *, writable: bool, wait: bool
) -> int:
    """Return a descriptor of a block from the session that has it, over its socket.

    Parameters
    ----------
    directory : Path
        The runtime directory.
    token, uuid : bytes
        The session and the block.
    pid, why : int, str
        The process, and why it cannot be opened, for messages.
    writable : bool
        To write to it.
    wait : bool
        Ask a process that does not serve to do so, and wait for a second. Nobody may wait for
        us meanwhile: hold no lock.

    Raises
    ------
    SegmentGone
        It does not have it, does not serve, or does not answer. The message says what to do.
    PermissionError
        `writable`, and the block is sealed against it.
    OSError
        No descriptor is left, here or there.
    """
    path = socket_path(directory, token)
    if wait and not path.exists():
        _wait_for(path, mark_path(directory, token))
    try:
        return _handover.fetch(path, uuid, writable=writable)
    except PermissionError:
        raise
    except FileNotFoundError as error:
        raise SegmentGone(
            f"process {pid} {why}, and does not serve a socket yet; use memshare there once more, "
            f"or set {VARIABLE}=1 before it starts"
        ) from error
    except (OSError, LookupError) as error:
        if getattr(error, "errno", None) in RUN_OUT:
            raise
        raise SegmentGone(f"process {pid}: {error}") from error


def _wait_for(path: Path, mark: Path) -> None:
    with contextlib.suppress(OSError):
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    began = time.monotonic()
    if began < _absent.get(path, 0.0):
        return
    pause_s = 0.001
    while not path.exists():
        if time.monotonic() - began > _PATIENCE_S:
            _absent[path] = began + _REMEMBERED_S
            return
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.02)
    _absent.pop(path, None)


def socket_path(directory: Path, token: bytes) -> Path:
    """Return where the session with that token serves."""
    return directory / f"{token.hex()}{_SOCKET}"


def line_path(directory: Path, token: bytes) -> Path:
    """Return where the session with that token waits for engines that open a line to it."""
    return directory / f"{token.hex()}{_LINE}"


def mark_path(directory: Path, token: bytes) -> Path:
    """Return the file by which others ask that session to serve."""
    return directory / f"{token.hex()}{_WANTED}"


def remove_leftovers(directory: Path, token: bytes, files: Iterable[tuple[str, bytes]]) -> None:
    """Remove what a dead session left: files of pages that nobody holds, and what lies beside it.

    Parameters
    ----------
    directory, token : Path, bytes
        The runtime directory and the session.
    files : iterable of (str, bytes)
        Directory and uuid of each page that it listed and that is a file.
    """
    for place, uuid in files:
        _file.reclaim(place, uuid)
    for path_of in (socket_path, mark_path, line_path):
        with contextlib.suppress(OSError):
            path_of(directory, token).unlink()
