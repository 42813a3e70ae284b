"""What in a notebook holds the arrays of a page that was let go: names, results, the last error.

An array knows where its memory is; so does a table of Arrow or polars. Whatever else holds them,
frames of pandas, lists, models, figures, is asked for what it refers to, as the garbage collector
asks it.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from traceback import walk_tb
from types import FrameType, FunctionType, ModuleType
from typing import Any, Final

import numpy as np

_MOST_OBJECTS: Final = 20_000
_PATIENCE_S: Final = 1.0
"""More is not looked at: a sentence is not worth it."""
_LEAVES: Final = (str, bytes, int, float, complex, bool, type(None), type, ModuleType, FrameType)
_LAST_RESULTS: Final = ("_", "__", "___")
_MACHINERY: Final = frozenset(
    {
        *("IPython", "ipykernel", "ipyparallel", "ipywidgets", "traitlets", "comm", "anywidget"),
        *("zmq", "tornado", "asyncio", "threading", "concurrent", "weakref", "logging"),
    }
)
"""From these everything can be reached, also what they do not hold."""


def holders_of(
    places: Sequence[range], names: Iterable[str], variables: Mapping[str, Any]
) -> list[str]:
    """Return what people call those that hold memory, and how to end each.

    Parameters
    ----------
    places : sequence of range
        The memory, by its addresses.
    names : iterable of str
        The user's variables.
    variables : mapping of str to value
        All variables of the notebook.

    Examples
    --------
    >>> a = np.ones(3)
    >>> at = a.__array_interface__["data"][0]
    >>> holders_of([range(at, at + 24)], ["a", "b"], {"a": [a], "b": a.copy()})
    ['a (del a)']
    """
    search = _Search(places, variables)
    found = [f"{name} (del {name})" for name in names if search.finds(variables[name])]
    results = variables.get("Out")
    if isinstance(results, dict):
        numbers = [number for number, value in results.items() if search.finds(value)]
        found += [f"Out[{number}] (%reset -f out)" for number in numbers]
    kept = [(variables.get(n), getattr(sys.displayhook, n, None)) for n in _LAST_RESULTS]
    if search.finds(kept):
        found.append(f"{', '.join(_LAST_RESULTS)} (until there are three further results)")
    error = getattr(sys, "last_value", None)
    if isinstance(error, BaseException) and search.finds(error):
        found.append("the traceback of the last error (until there is another one)")
    return found


def holds(places: Sequence[range], value: Any, variables: Mapping[str, Any]) -> bool:
    """Say whether a value, or something that it refers to, holds some of the memory."""
    return _Search(places, variables).finds(value)


class _Search:
    """Looks for memory in what values refer to."""

    def __init__(self, places: Sequence[range], variables: Mapping[str, Any]) -> None:
        self._places = places
        self._variables = variables
        self._until = time.monotonic() + _PATIENCE_S

    def finds(self, value: Any) -> bool:
        """Say whether a value holds some of the memory, as far as that can be seen."""
        waiting, seen = [value], {id(self._variables)}
        while waiting and len(seen) < _MOST_OBJECTS and time.monotonic() < self._until:
            one = waiting.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            if any(self._is_here(address) for address in _addresses(one)):
                return True
            waiting += self._referents(one)
        return False

    def _is_here(self, address: int) -> bool:
        return any(address in place for place in self._places)

    def _referents(self, one: Any) -> Iterable[Any]:
        if isinstance(one, BaseException):
            frames = [frame for frame, _ in walk_tb(one.__traceback__)]
            inner = [f for f in frames if f.f_code.co_name != "<module>"]
            values = [value for frame in inner for value in frame.f_locals.values()]
            return [one.__cause__, one.__context__, *one.args, *values]
        if isinstance(one, FunctionType):
            return [one.__closure__, one.__defaults__]
        if isinstance(one, _LEAVES) or _package(one) in _MACHINERY:
            return []
        return gc.get_referents(one)


def _addresses(value: Any) -> Iterator[int]:
    """Return where the memory of an array or of the columns of a table is."""
    if isinstance(value, memoryview | mmap.mmap):
        with contextlib.suppress(ValueError):  # it is closed, or in no one piece
            value = np.frombuffer(value, np.uint8)
    if isinstance(value, np.ndarray):
        yield value.__array_interface__["data"][0]
    elif _package(value) == "polars":
        yield from _of_polars(value)
    elif _package(value) == "pyarrow":
        yield from _of_arrow(value)


def _of_polars(value: Any) -> Iterator[int]:
    for column in getattr(value, "get_columns", lambda: [value])():
        if hasattr(column, "to_arrow"):
            with contextlib.suppress(Exception):  # a type that Arrow does not have
                yield from _of_arrow(column.to_arrow())


def _of_arrow(value: Any) -> Iterator[int]:
    if hasattr(value, "address"):
        yield value.address
    for part in getattr(value, "columns", getattr(value, "chunks", ())):
        yield from _of_arrow(part)
    if hasattr(value, "buffers"):
        yield from (buffer.address for buffer in value.buffers() if buffer is not None)


def _package(value: Any) -> str:
    return str(type(value).__module__).partition(".")[0]
