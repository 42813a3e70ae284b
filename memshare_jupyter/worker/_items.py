"""What a function is applied to: rows, columns or elements, one at a time or in batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np

from memshare_jupyter.core.values import Elements
from memshare_jupyter.worker._frames import columns_of
from memshare_jupyter.worker._gathering import Gathering


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

    def each(self, chunk: range) -> Iterable[Collection[Any]]:
        """Yield some items, several at a time, each several before the next are asked for."""
        if self._gathering is not None:
            return self._gathering(chunk)
        lines = self._lines
        if isinstance(lines, np.ndarray):
            return (lines[chunk.start : chunk.stop],)
        some = lines.some(chunk.start, chunk.stop) if isinstance(lines, Elements) else None
        return (_Some(lines, chunk) if some is None else some,)

    def batch(self, some: range) -> Any:
        """Return some rows or columns as a matrix that has them as rows or columns."""
        # Strided columns are not gathered. For 16 MB of a row-wise matrix that takes 3 ms, whereas
        # functions that work along its rows are as fast without it (a product with a vector 1 ms
        # and 4, a standard deviation 6 and 8); only those that go column by column gain (24, 6).
        batch = self._lines[some.start : some.stop]
        return batch if self._margin == 1 else batch.T


class _Some(Collection[Any]):
    """Some of many items, each of which is made when it is asked for."""

    def __init__(self, items: Any, which: range) -> None:
        self._items = items
        self._which = which

    def __len__(self) -> int:
        return len(self._which)

    def __iter__(self) -> Iterator[Any]:
        items = self._items
        return (items[index] for index in self._which)

    def __contains__(self, item: object) -> bool:
        return any(item is one for one in self)


def matrix_of(value: Any) -> Any:
    """Return a value as a matrix without copying it; None for a frame of several dtypes."""
    columns = columns_of(value)
    return value if columns is None else columns.matrix


def _are_strided(lines: np.ndarray[Any, Any]) -> bool:
    return lines.size > 0 and lines.ndim == 2 and lines.strides[1] != lines.itemsize
