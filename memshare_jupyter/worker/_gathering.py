"""Lines of a matrix that lie scattered in memory, gathered before they are used if that pays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

_SAMPLES: Final = 5
_LEAST_S: Final = 5e-6
_LEAST_S_PER_VALUE: Final = 1e-9
"""A function that takes less for a strided line cannot gain: gathering takes more."""

_TRIAL_S_PER_VALUE: Final = 2e-9
_TRIAL_SHARE: Final = 0.1
"""The first gather is an experiment; it may cost this much of the work that is left."""

_LINE_BYTES: Final = 64
_BLOCK_BYTES: Final = 16 << 20
_STEP: Final = 32
_LONG_STEP: Final = 128
_STEP_S: Final = 1e-4
"""Lines that are given as they are, and take less, are given more at a time."""

_TILE: Final = 512
"""Lines times values that are copied at once: what is read twice is still in the cache then."""

_CHANGE: Final = 4.0
"""Items that become so many times cheaper or dearer are reason to look again."""


class Gathering:
    """Lines of a matrix whose values lie far apart in memory, gathered first if that is faster.

    To copy 32 columns of a row-wise matrix reads each line of the cache once, where a function
    that goes through them one by one reads it eight times and finds nothing prefetched: a
    standard deviation of such a column takes 77 µs, of one that is gathered 13, and the
    gathering 7. For a function that looks at few of the values it is a waste, so this measures:
    the first lines are given as they are, then, if their time makes it worth while, some
    gathered; and again if the items become a lot cheaper or dearer.

    Parameters
    ----------
    lines : array of shape (n_lines, length)
        The matrix, lines along the first axis.
    expected : int
        How many lines will be asked for, about.
    """

    def __init__(self, lines: np.ndarray[Any, Any], expected: int) -> None:
        self._lines = lines
        self._left = expected
        length = lines.shape[1]
        self._least = max(2, _LINE_BYTES // lines.itemsize)  # fewer share no line of the cache
        self._at_once = max(self._least, min(_STEP, _BLOCK_BYTES // (length * lines.itemsize)))
        self._buffers = [bytearray(), bytearray()]
        self._possible = self._at_once * length * lines.itemsize <= 4 * _BLOCK_BYTES
        self._samples: list[float] = []
        self._step = _STEP
        self._strided_s = 0.0
        self._gathered_s: float | None = None
        self._gathers = False

    def __call__(self, chunk: range) -> Iterator[np.ndarray[Any, Any]]:
        """Yield the lines of a chunk, read-only, some at a time.

        Whoever asks for more has used those; the time that took is measured.
        """
        start = chunk.start
        while start < chunk.stop:
            if self._gathers and chunk.stop - start >= self._least:
                some = range(start, min(start + self._at_once, chunk.stop))
                yield from self._gathered(some)
            else:
                step = 1 if len(self._samples) < _SAMPLES else self._step
                some = range(start, min(start + step, chunk.stop))
                yield from self._as_they_are(some)
            self._left -= len(some)
            start = some.stop

    def _as_they_are(self, some: range) -> Iterator[np.ndarray[Any, Any]]:
        begin = time.perf_counter()
        yield self._lines[some.start : some.stop]
        took_s = time.perf_counter() - begin
        seconds = took_s / len(some)
        if len(self._samples) < _SAMPLES:
            self._samples.append(seconds)
            if len(self._samples) == _SAMPLES:
                self._strided_s = sorted(self._samples)[_SAMPLES // 2]
                self._gathers = self._worth_a_trial()
        elif seconds > _CHANGE * self._strided_s:
            self._look_again()
        elif took_s < _STEP_S and len(some) == self._step:
            self._step = min(2 * self._step, _LONG_STEP)

    def _gathered(self, some: range) -> Iterator[np.ndarray[Any, Any]]:
        begin = time.perf_counter()
        lines = self._copied(some)
        gathered = time.perf_counter()
        yield lines
        used_s = (time.perf_counter() - gathered) / len(some)
        if self._gathered_s is None:
            # A block of less than a line of the cache says nothing about gathering a whole one.
            if len(some) == self._at_once:
                self._gathers = used_s + (gathered - begin) / len(some) < self._strided_s
                self._gathered_s = used_s
        elif used_s < self._gathered_s / _CHANGE:
            self._look_again()

    def _look_again(self) -> None:
        self._samples.clear()
        self._step = _STEP
        self._gathered_s = None
        self._gathers = False

    def _worth_a_trial(self) -> bool:
        length = self._lines.shape[1]
        trial_s = self._at_once * length * _TRIAL_S_PER_VALUE
        return bool(
            self._possible
            and self._strided_s > _LEAST_S + length * _LEAST_S_PER_VALUE
            and self._left * self._strided_s * _TRIAL_SHARE > trial_s
        )

    def _copied(self, some: range) -> np.ndarray[Any, Any]:
        # Two buffers in turn, since whoever iterates still has the last line of the one before.
        self._buffers.reverse()
        buffer = self._buffers.pop()
        length = self._lines.shape[1]
        if not _is_free(buffer):  # the function may have kept what it was given, or returned it
            buffer = bytearray(self._at_once * length * self._lines.itemsize)
        self._buffers.append(buffer)
        source = self._lines[some.start : some.stop]
        flat = np.frombuffer(buffer, np.uint8, source.nbytes)
        target: np.ndarray[Any, Any] = flat.view(self._lines.dtype).reshape(len(some), length)
        for start in range(0, source.shape[1], _TILE):
            target[:, start : start + _TILE] = source[:, start : start + _TILE]
        target.flags.writeable = False
        return target


def is_gathered(memory: Any) -> bool:
    """Say whether this is memory of ours, as opposed to a page's."""
    base = getattr(memory, "base", None)
    return isinstance(base, memoryview) and isinstance(base.obj, bytearray)


def _is_free(buffer: bytearray) -> bool:
    """Say whether nothing uses the memory of a buffer; one that is empty was never used.

    A bytearray may not change its length while anything is built on it, and says so. That is a
    contract, whereas the number of references to an array is not: Python 3.14 counts fewer. One
    byte less and one more leave the memory where it is.
    """
    if not buffer:
        return False
    try:
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True
