"""Frames: the columns of pandas, polars and Arrow tables as arrays, by number."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np


class Columns(Sequence[Any]):
    """The columns of a frame, each an array that is made when it is asked for."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __len__(self) -> int:
        return int(self._frame.shape[1])

    def __getitem__(self, i: Any) -> Any:
        column: np.ndarray[Any, Any] = np.asarray(self._column(i))[:]
        column.flags.writeable = False
        return column

    @property
    def labels(self) -> Sequence[str]:
        """Their names."""
        return [str(name) for name in self._names()]

    @property
    def matrix(self) -> Any:
        """All of them as one matrix, if they are one in memory; else None."""
        return None

    def _names(self) -> Any:
        return self._frame.columns

    def _column(self, i: int) -> Any:
        raise NotImplementedError


class _Pandas(Columns):
    def _column(self, i: int) -> Any:
        return self._frame.iloc[:, i].to_numpy()

    @property
    def matrix(self) -> Any:
        kinds = set(self._frame.dtypes)
        if len(kinds) != 1 or not isinstance(kind := kinds.pop(), np.dtype) or kind.hasobject:
            return None
        matrix = self._frame.to_numpy()
        first = self._frame.iloc[:, 0].to_numpy()
        return matrix if np.may_share_memory(matrix, first) else None


class _Polars(Columns):
    def _column(self, i: int) -> Any:
        return self._frame.to_series(i).to_numpy()


class _Arrow(Columns):
    def _names(self) -> Any:
        return self._frame.column_names

    def _column(self, i: int) -> Any:
        return self._frame.column(i).to_numpy()


_KINDS: Final = (
    ("pandas", "DataFrame", _Pandas),
    ("polars", "DataFrame", _Polars),
    ("pyarrow", "Table", _Arrow),
)


def columns_of(value: Any) -> Columns | None:
    """Return the columns of a frame; None for anything else."""
    for package, name, kind in _KINDS:
        module = sys.modules.get(package)
        if module is not None and isinstance(value, getattr(module, name, ())):
            return kind(value)
    return None
