"""Frames: the columns of pandas, polars and Arrow tables as arrays, by number."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from memshare_jupyter.core.values import what_is_lost
from memshare_jupyter.errors import UnsupportedValueError


class Columns(Sequence[Any]):
    """The columns of a frame, each an array that is made when it is asked for."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    @property
    def frame(self) -> Any:
        """The frame itself."""
        return self._frame

    def raw(self, i: int) -> Any:
        """Return a column as the frame has it, or as an array."""
        return self._column(i)

    def __len__(self) -> int:
        return int(self._frame.shape[1])

    def __getitem__(self, i: Any) -> Any:
        column: np.ndarray[Any, Any] = np.asarray(self._column(i))[:]
        column.flags.writeable = False
        return column

    def check(self) -> None:
        """Raise UnsupportedValueError if a column is none without its missing values."""

    @property
    def why_no_matrix(self) -> str:
        """Why they are no matrix, and what to do."""
        return "its columns are not one block in memory; pass df.to_numpy()"

    @property
    def names(self) -> Sequence[Any]:
        """Their names, as the frame has them."""
        return list(self._names())

    @property
    def labels(self) -> Sequence[str]:
        """Their names, as text."""
        return [str(name) for name in self._names()]

    @property
    def rows(self) -> Sequence[Any] | None:
        """The names of the rows, if they have any."""
        return None

    @property
    def matrix(self) -> Any:
        """All of them as one matrix, if they are one in memory; else None."""
        return None

    def _names(self) -> Any:
        return self._frame.columns

    def _column(self, i: int) -> Any:
        raise NotImplementedError


class _Pandas(Columns):
    def raw(self, i: int) -> Any:
        return self._frame.iloc[:, i]

    def _column(self, i: int) -> Any:
        column = self._frame.iloc[:, i]
        # Of nullable numbers, which older versions of pandas give as objects.
        dtype = getattr(column.dtype, "numpy_dtype", None)
        return column.to_numpy() if dtype is None else column.to_numpy(dtype)

    @property
    def rows(self) -> Sequence[Any] | None:
        return list(self._frame.index)

    def check(self) -> None:
        for i, label in enumerate(self.labels):
            if (lost := what_is_lost(self._frame.iloc[:, i])) is not None:
                raise UnsupportedValueError(f"column {label!r} of the frame is no array: {lost}")

    @property
    def why_no_matrix(self) -> str:
        kinds = [str(kind) for kind in dict.fromkeys(self._frame.dtypes)]
        if len(kinds) > 1:
            shown = ", ".join(kinds[:4]) + (", ..." if len(kinds) > 4 else "")
            return (
                f"its columns differ in dtype ({shown}); take those of one dtype (as in "
                "df.select_dtypes('float64')), or pass df.to_numpy(float)"
            )
        return (
            f"pandas keeps its columns, of dtype {kinds[0] if kinds else 'none'}, one by one; pass "
            "df.to_numpy(float), or what dtype they have"
        )

    @property
    def matrix(self) -> Any:
        kinds = set(self._frame.dtypes)
        if not kinds:
            return np.empty(self._frame.shape)
        if len(kinds) != 1 or not isinstance(kind := kinds.pop(), np.dtype) or kind.hasobject:
            return None
        matrix = self._frame.to_numpy()
        first = self._frame.iloc[:, 0].to_numpy()
        return matrix if not matrix.size or np.may_share_memory(matrix, first) else None


class _Polars(Columns):
    def _column(self, i: int) -> Any:
        return self._frame.to_series(i).to_numpy()


class _Arrow(Columns):
    def _names(self) -> Any:
        return self._frame.schema.names

    def _column(self, i: int) -> Any:
        return self._frame.column(i).to_numpy()


class _Batch(_Arrow):
    def _column(self, i: int) -> Any:
        return self._frame.column(i).to_numpy(zero_copy_only=False)


_KINDS: Final = (
    ("pandas", "DataFrame", _Pandas),
    ("polars", "DataFrame", _Polars),
    ("pyarrow", "Table", _Arrow),
    ("pyarrow", "RecordBatch", _Batch),
)


def columns_of(value: Any) -> Columns | None:
    """Return the columns of a frame; None for anything else."""
    for package, name, kind in _KINDS:
        module = sys.modules.get(package)
        if module is not None and isinstance(value, getattr(module, name, ())):
            return kind(value)
    return None
