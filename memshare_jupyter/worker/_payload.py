"""Results as bytes: what leaves a worker owns its memory, and each can be read without the others.

Results of builtin kinds and plain arrays travel together in one pickle. Of any other each has a
pickle of its own, because its class may be one that only this process can rebuild: then it alone
is lost. Nothing in them refers to a page: that would keep the page for as long as the result, and
a pickle of it in a file would be empty next week.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

import cloudpickle
import numpy as np

from memshare_jupyter.core.values import Elements, View

_LENGTH: Final = struct.Struct("<Q")
_SMALL_BYTES: Final = 4096
_CONTAINERS: Final = frozenset({tuple, list, dict})
_BUILTIN: Final = frozenset({int, float, complex, bool, str, bytes, type(None)})


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    """Pickles views, and arrays that cannot be written to, as arrays of their own."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is View or (kind is np.ndarray and not obj.flags.writeable):
            return np.array(obj, subok=False).__reduce_ex__(5)
        if kind is Elements:
            return list, (list(obj),)
        return super().reducer_override(obj)


def dumps(value: Any) -> bytes:
    """Pickle a value so that it owns its memory wherever it is loaded."""
    with io.BytesIO() as file:
        _Pickler(file, protocol=5).dump(value)
        return file.getvalue()


class Each:
    """Pickles of results, one by one.

    Attributes
    ----------
    payload : bytes
        All of them; `loads` reads it.
    """

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._pickler = _Pickler(self._file, protocol=5)

    def add(self, result: Any) -> None:
        """Add a result, or nothing and raise what pickling it raises."""
        start = self._file.tell()
        self._file.write(_LENGTH.pack(0))
        try:
            self._pickler.clear_memo()  # what they share is in each, else one could not go missing
            self._pickler.dump(result)
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(_LENGTH.pack(end - start - _LENGTH.size))
        self._file.seek(end)

    @property
    def payload(self) -> bytes:
        return self._file.getvalue()


def loads(payload: bytes) -> Iterator[memoryview]:
    """Yield the pickle of each result."""
    rest = memoryview(payload)
    while rest:
        (length,) = _LENGTH.unpack_from(rest)
        rest = rest[_LENGTH.size :]
        yield rest[:length]
        rest = rest[length:]


def together(results: Sequence[Any] | np.ndarray[Any, Any]) -> Any:
    """Return what gives the same results when iterated over, and can be read by any process.

    None if that is not known: then each of them goes by itself.
    """
    if isinstance(results, np.ndarray):
        return None if results.dtype.hasobject or type(results) is not np.ndarray else results
    kinds = set(map(type, results))
    if len(kinds) == 1 and all(map(_is_number, kinds)):
        return np.array(results)
    if kinds <= {np.ndarray, View}:
        return _arrays(results)
    if kinds <= _BUILTIN:
        return results
    if kinds <= _BUILTIN | _CONTAINERS:
        containers = [result for result in results if type(result) in _CONTAINERS]
        mappings = [result for result in containers if type(result) is dict]
        inside = chain(chain.from_iterable(containers), *(map(dict.values, mappings)))
        kinds = (kinds - _CONTAINERS) | set(map(type, inside))
    return results if all(kind in _BUILTIN or _is_number(kind) for kind in kinds) else None


def _arrays(results: Sequence[Any]) -> Any:
    """Return arrays as one, if they are small and of one form; None for arrays of objects."""
    forms = {(result.dtype, result.shape) for result in results}
    if any(dtype.hasobject for dtype, _ in forms):
        return None
    dtype, shape = next(iter(forms))
    if len(forms) == 1 and len(shape) == 1 and shape[0] * dtype.itemsize <= _SMALL_BYTES:
        return Rows(np.array(results, dtype))
    return results


class Rows:
    """Arrays of one form: pickled as one, and each with memory of its own when iterated over."""

    def __init__(self, rows: np.ndarray[Any, Any]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[np.ndarray[Any, Any]]:
        return (row.copy() for row in self._rows)


def _is_number(kind: type) -> bool:
    return issubclass(kind, np.generic) and np.dtype(kind).kind in "biufc"


def load(pickled: bytes | memoryview) -> Any:
    """Load what one of our engines has pickled."""
    return pickle.loads(pickled)  # noqa: S301 -- our engines'
