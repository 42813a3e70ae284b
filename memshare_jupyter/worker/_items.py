"""What a function is applied to: rows, columns or elements, one at a time or in batches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from memshare_jupyter.worker._frames import columns_of

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
_TILE: Final = 512
"""Lines times values that are copied at once: what is read twice is still in the cache then."""

_CHANGE: Final = 4.0
"""Items that become so many times cheaper or dearer are reason to look again."""


class Items:
    """Items by their index.

    Parameters
    ----------
    value : array of shape (n_rows, n_columns), frame, or sequence
        What they are taken from.
    margin : {1, 2, None}
        Its rows, its columns, or its elements.
    workers : int
        How many share the work, each about alike.
    """

    def __init__(self, value: Any, margin: int | None, workers: int) -> None:
        self._margin = margin
        self._lines: Any
        matrix = value if margin is None else matrix_of(value)
        if margin is None or matrix is None:
            self._lines = value if margin is None else columns_of(value)
        else:
            # A plain array and not a View: numpy builds slices of it ten times as fast.
            self._lines = np.asarray(matrix)[:] if margin == 1 else np.asarray(matrix).T
            self._lines.flags.writeable = False
        self._gathering: Gathering | None = None
        if isinstance(self._lines, np.ndarray) and _are_strided(self._lines):
            self._gathering = Gathering(self._lines, len(self._lines) // workers)

    def each(self, chunk: range) -> Iterator[Any]:
        """Yield some items, one after the other."""
        if self._gathering is not None:
            return self._gathering(chunk)
        lines = self._lines
        return (lines[index] for index in chunk)

    def batch(self, some: range) -> Any:
        """Return some rows or columns as a matrix that has them as rows or columns."""
        # Strided columns are not gathered. For 16 MB of a row-wise matrix that takes 3 ms, whereas
        # functions that work along its rows are as fast without it (a product with a vector 1 ms
        # and 4, a standard deviation 6 and 8); only those that go column by column gain (24, 6).
        batch = self._lines[some.start : some.stop]
        return batch if self._margin == 1 else batch.T


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
        self._buffers = [np.empty((0, length), lines.dtype)] * 2
        self._possible = self._at_once * length * lines.itemsize <= 4 * _BLOCK_BYTES
        self._samples: list[float] = []
        self._strided_s = 0.0
        self._gathered_s: float | None = None
        self._gathers = False

    def __call__(self, chunk: range) -> Iterator[np.ndarray[Any, Any]]:
        """Yield the lines of a chunk, read-only."""
        start = chunk.start
        while start < chunk.stop:
            if self._gathers and chunk.stop - start >= self._least:
                some = range(start, min(start + self._at_once, chunk.stop))
                yield from self._gathered(some)
            else:
                step = 1 if len(self._samples) < _SAMPLES else _STEP
                some = range(start, min(start + step, chunk.stop))
                yield from self._as_they_are(some)
            self._left -= len(some)
            start = some.stop

    def _as_they_are(self, some: range) -> Iterator[np.ndarray[Any, Any]]:
        lines = self._lines
        begin = time.perf_counter()
        for index in some:
            yield lines[index]
        seconds = (time.perf_counter() - begin) / len(some)
        if len(self._samples) < _SAMPLES:
            self._samples.append(seconds)
            if len(self._samples) == _SAMPLES:
                self._strided_s = sorted(self._samples)[_SAMPLES // 2]
                self._gathers = self._worth_a_trial()
        elif seconds > _CHANGE * self._strided_s:
            self._look_again()

    def _gathered(self, some: range) -> Iterator[np.ndarray[Any, Any]]:
        begin = time.perf_counter()
        lines = self._copied(some)
        gathered = time.perf_counter()
        yield from lines
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
        # The function may have kept what it was given, or returned it.
        if len(buffer) < len(some) or sys.getrefcount(buffer) > 2:
            buffer = np.empty((self._at_once, self._lines.shape[1]), self._lines.dtype)
        self._buffers.append(buffer)
        source, target = self._lines[some.start : some.stop], buffer[: len(some)]
        for start in range(0, source.shape[1], _TILE):
            target[:, start : start + _TILE] = source[:, start : start + _TILE]
        target.flags.writeable = False
        return target


def matrix_of(value: Any) -> Any:
    """Return a value as a matrix without copying it; None for a frame of several dtypes."""
    columns = columns_of(value)
    return value if columns is None else columns.matrix


def _are_strided(lines: np.ndarray[Any, Any]) -> bool:
    return lines.size > 0 and lines.ndim == 2 and lines.strides[1] != lines.itemsize
