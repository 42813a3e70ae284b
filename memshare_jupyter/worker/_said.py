"""What the function says while it works: prints, warnings, logging. All of it is for the caller."""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from memshare_jupyter.worker._displays import Displays, Shown, displaying

MOST_CHARACTERS: Final = 20_000
"""So much of one worker is kept, and the lines of the rest are counted."""
_MOST_WARNINGS: Final = 200
_LAST_CHARACTERS: Final = 2_000
_STREAMS: Final = ("stdout", "stderr")


@dataclass(slots=True)
class Said:
    """What a worker heard.

    Attributes
    ----------
    engine : int
        Id of the engine.
    texts : list of (item, stream, text)
        What was written to ``"stdout"`` or ``"stderr"``; logging goes to the second.
    left_out : int
        How many lines more there were.
    warned : dict of (category, text, file, line) to list
        How many items warned so, and the first of them. The category is pickled.
    shown : list of (item, data, metadata)
        Figures and other displays, as messages have them.
    """

    engine: int = -1
    texts: list[tuple[int, str, str]] = field(default_factory=list)
    left_out: int = 0
    warned: dict[tuple[bytes, str, str, int], list[int]] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.texts or self.warned or self.shown)


class Listener:
    """Listens to what is said in a worker.

    Parameters
    ----------
    item : callable
        Says at which item the worker is.
    """

    def __init__(self, item: Callable[[], int]) -> None:
        self.said = Said()
        self._item = item
        self._room = MOST_CHARACTERS
        self._within = False  # a line that was begun
        self._last: tuple[int, str] = (-1, "")
        self.displays = Displays(self.said.shown, self.item)

    def item(self) -> int:
        """Return the item that the worker is at, -1 for none."""
        return self._item()

    def hear(self, stream: str, text: str) -> None:
        """Take down what was written to a stream."""
        item, texts = self.item(), self.said.texts
        before = self._last[1] if self._last[0] == item else ""
        self._last = item, (before + text)[-_LAST_CHARACTERS:]
        kept, rest = text[: self._room], text[self._room :]
        self._room -= len(kept)
        if kept:
            self._within = not kept.endswith("\n")
        ends = rest.count("\n")
        self.said.left_out += ends - (self._within and ends > 0)
        self._within = self._within and not ends
        if kept and texts and texts[-1][:2] == (item, stream):
            texts[-1] = item, stream, texts[-1][2] + kept
        elif kept:
            texts.append((item, stream, kept))

    def last(self, item: int) -> str:
        """Return what was written for an item, its end if it is much."""
        return self._last[1] if self._last[0] == item else ""

    def end(self) -> None:
        """Let go of the worker, which has the listener: memory is not to wait for a collection."""
        self._item = lambda: -1

    def warn(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,  # noqa: ARG002 -- the signature is that of the original
        line: str | None = None,  # noqa: ARG002
    ) -> None:
        """Count a warning: what `warnings.showwarning` is replaced by."""
        what = _pickled(category), str(message), filename, lineno
        warned = self.said.warned
        if what in warned:
            count, first = warned[what]
            warned[what] = [count + 1, min(first, self._item())]
        elif len(warned) < _MOST_WARNINGS:
            warned[what] = [1, self._item()]


class _Stream(io.TextIOBase):
    """Stands for a standard stream as long as somebody listens; else passes on to the real one.

    There is one for each, for the life of the process: the handlers of a logger keep it.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, name: str) -> None:
        self._name = name
        self.real: Any = None

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if _listener is not None:
            _listener.hear(self._name, str(text))
        elif self.real is not None:
            self.real.write(text)
        return len(text)

    def flush(self) -> None:
        if _listener is None and self.real is not None:
            self.real.flush()


_streams: Final = {name: _Stream(name) for name in _STREAMS}
_listener: Listener | None = None


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have a listener hear all that is written and warned of until the end of the block."""
    global _listener  # noqa: PLW0603 -- as the streams it listens to
    outer, before = _listener, [getattr(sys, name) for name in _STREAMS]
    for name, stream in zip(_STREAMS, before, strict=True):
        if stream is not _streams[name]:
            _streams[name].real = stream
        setattr(sys, name, _streams[name])
    _listener = listener
    try:
        with displaying(listener.displays), warnings.catch_warnings():
            # Whether it is shown is for the filters of the caller to say, where it is warned anew.
            warnings.simplefilter("always")
            warnings.showwarning = listener.warn
            yield
    finally:
        _listener = outer
        listener.end()
        for name, stream in zip(_STREAMS, before, strict=True):
            setattr(sys, name, stream)


def _pickled(category: type[Warning]) -> bytes:
    """Return the class by its name, or the nearest that has one which other processes know."""
    for kind in category.__mro__:
        if kind.__module__ != "__main__":
            with contextlib.suppress(Exception):
                return pickle.dumps(kind)
    return pickle.dumps(UserWarning)
