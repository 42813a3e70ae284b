"""Tables of Arrow and frames of polars: out of band, and no more of them than they show."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from typing import Any, Final

from memshare_jupyter.core.values._gate import package_of

Reduced = tuple[Any, ...]

_SPARE_BYTES: Final = 64 << 10
_VIEW_BYTES: Final = 16
"""What Arrow takes for a string beside its text."""


def reduce(value: Any) -> Reduced | None:
    """Return how to rebuild a table or frame, as `pickle` wants it; None for its own way."""
    package = package_of(value)
    if package == "pyarrow":
        return _reduce_arrow(value, sys.modules["pyarrow"])
    if package == "polars":
        return _reduce_polars(value, sys.modules["polars"])
    return None


def _reduce_arrow(value: Any, pyarrow: Any) -> Reduced | None:
    """Replace a slice, which pickles with the whole memory it is a slice of, by what it shows."""
    if isinstance(value, pyarrow.Table):
        table = value
    elif isinstance(value, pyarrow.RecordBatch):
        table = pyarrow.Table.from_batches([value])
    elif isinstance(value, pyarrow.Array | pyarrow.ChunkedArray):
        table = pyarrow.table([value], names=[""])
    else:
        return None
    if not _wastes(table):
        return None
    trimmed = _trimmed(pyarrow, table)
    if _wastes(trimmed):
        return None  # a dictionary, say, of which all is kept; and no second try
    made = trimmed
    if isinstance(value, pyarrow.RecordBatch):
        made = trimmed.to_batches()[0]
    elif not isinstance(value, pyarrow.Table):
        column = trimmed.column(0)
        made = column.chunk(0) if isinstance(value, pyarrow.Array) else column
    return made.__reduce__()  # type: ignore[no-any-return]


def _wastes(table: Any) -> bool:
    """Say whether more than an eighth of a table's memory is not what it shows."""
    held = table.get_total_buffer_size()
    try:
        shown = table.nbytes
    except (NotImplementedError, TypeError):  # of its newest types an older pyarrow cannot tell
        return False
    return bool(held > shown + max(shown // 8, _SPARE_BYTES))


def _trimmed(pyarrow: Any, table: Any) -> Any:
    # What Arrow sends between processes has been cut to what is shown, whatever the type.
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return pyarrow.ipc.open_stream(sink.getvalue()).read_all()


def _reduce_polars(value: Any, polars: Any) -> Reduced | None:
    """Rebuild a frame by way of Arrow, without a copy; polars' own pickles are all in band.

    Columns that Arrow has no type for, such as 128-bit integers, go polars' way. So does all
    of it when pyarrow is not installed.
    """
    if type(value) is polars.Series:
        made = _reduce_frame(value.to_frame(), polars)
        return None if made is None else (_column, (polars.DataFrame.to_series, *made))
    return _reduce_frame(value, polars) if type(value) is polars.DataFrame else None


def _column(to_series: Any, rebuild: Any, arguments: tuple[Any, ...]) -> Any:
    return to_series(rebuild(*arguments))


def _reduce_frame(frame: Any, polars: Any) -> Reduced | None:
    if not frame.width or importlib.util.find_spec("pyarrow") is None:
        return None
    importlib.import_module("pyarrow")  # which polars does only when it converts
    names = [name for name in frame.columns if _travels(frame.get_column(name), polars)]
    if not names:
        return None
    table = _to_arrow(frame.select(names), polars)
    if len(names) == frame.width:
        return polars.from_arrow, (table,)
    return _side_by_side, (
        polars.from_arrow,
        table,
        frame.select(polars.exclude(names)),
        frame.columns,
    )


def _travels(column: Any, polars: Any) -> bool:
    """Say whether a column comes back from Arrow as what it was, by an empty piece of it."""
    try:
        back = polars.from_arrow(column.head(0).to_frame().to_arrow())
    except Exception:  # noqa: BLE001 -- pyarrow's and polars' own, and Rust's panics
        return False
    return bool(back.schema == {column.name: column.dtype})


def _to_arrow(frame: Any, polars: Any) -> Any:
    """Convert without a copy, unless strings of which only a part is shown would come whole."""
    with contextlib.suppress(Exception):  # an older pyarrow has not all of the newest types
        table = frame.to_arrow(compat_level=polars.CompatLevel.newest())
        shown = frame.estimated_size() + _VIEW_BYTES * frame.height * frame.width
        if table.get_total_buffer_size() <= 2 * shown + _SPARE_BYTES:
            return table
    return frame.to_arrow()


def _side_by_side(from_arrow: Any, table: Any, rest: Any, names: list[str]) -> Any:
    return from_arrow(table).hstack(rest).select(names)
