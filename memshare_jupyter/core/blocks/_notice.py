"""Notices: a few words of a process that others of its user can read as long as they are kept.

A notice is an unsealed memfd of a name that says so, found among the descriptors of its process.
So it needs no place and no clean-up, however the process ends. Where there are no memfds there
are no notices.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from memshare_jupyter.core import _proc
from memshare_jupyter.core._opened import Opened

_NAME: Final = "memshare-notice"
_ROUND: Final = 512
"""Of this length, or a few times it, so that mostly one text replaces another in one piece."""


class Notice:
    """Something that others can read; no process need have it."""

    def __init__(self) -> None:
        self._opened = Opened()

    def write(self, text: str) -> None:
        """Replace what it says."""
        if not hasattr(os, "memfd_create"):
            return
        if self._opened.fd < 0:
            with contextlib.suppress(OSError):
                self._opened.open(os.memfd_create, _NAME, os.MFD_CLOEXEC)
        if self._opened.fd >= 0:
            data = text.encode()
            os.pwrite(self._opened.fd, data + b" " * (-len(data) % _ROUND), 0)

    def close(self) -> None:
        """Take it back."""
        self._opened.close()


def notices(pid: int, pid_namespace: int) -> Iterator[str]:
    """Yield what the notices of a process say; nothing if it is somebody else's.

    Nor of another pid namespace than this process's: its pid is another process here.
    """
    if pid_namespace != _proc.pid_namespace():
        return
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(entry.path).startswith(f"/memfd:{_NAME} "):
                    with open(entry.path, encoding="utf-8", errors="replace") as file:
                        yield file.read().rstrip()
