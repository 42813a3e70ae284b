"""Sources: functions go to engines so that a traceback there shows the line that failed.

What is sent by value (functions of a notebook, lambdas, nested functions, helpers of
``__main__``) is sent by cloudpickle, which from 3.1.3 on calls the file of all code
``<dynamic-code>``. So the pickler here has each code object keep the name of its file,
whatever cloudpickle makes of it. Source goes with it only if that is no file that an engine
of this host can read as well: a cell, mostly. What is sent by name needs neither.
"""

from __future__ import annotations

import functools
import io
import linecache
import os
from collections.abc import Callable
from types import CodeType
from typing import Any, Final, TypeVar

import cloudpickle

_Cached: Final = type(functools.cache(len))
P = TypeVar("P", bound="Pickler")


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    """Pickles code with the name of its file, and functions that remember their results."""

    def __init__(self, file: io.BytesIO, **options: Any) -> None:
        super().__init__(file, **options)
        self._sources: dict[str, str] = {}  # the pickle has each text once, since it is one object

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _Cached):
            # By its own pickling a name, which engines have not if it is one of the notebook.
            fun = obj.__wrapped__
            if not cloudpickle.cloudpickle._should_pickle_by_reference(fun):
                return _remembering, (fun, obj.cache_parameters())
        if not isinstance(obj, CodeType):
            return super().reducer_override(obj)
        make, parts = self.dispatch_table[CodeType](obj)
        name = obj.co_filename
        if name not in self._sources:
            self._sources[name] = _source(name)
        return _code, (make, parts, name, self._sources[name])


def dumps(value: Any) -> bytes:
    """Pickle a value by cloudpickle; `pickle.loads` gives code its file's name and its source."""
    return pickled_by(Pickler, value)[0]


def pickled_by(kind: Callable[..., P], value: Any, *options: Any) -> tuple[bytes, P]:
    """Pickle a value by a pickler of a kind; return the pickle and the pickler."""
    with io.BytesIO() as file:
        pickler = kind(file, *options)
        pickler.dump(value)
        return file.getvalue(), pickler


def _remembering(fun: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(fun)


def _source(name: str) -> str:
    # Of a file that was edited since, engines show the lines that Python would show here.
    return "" if os.path.isabs(name) and os.path.isfile(name) else "".join(linecache.getlines(name))


def _code(
    make: Callable[..., CodeType], parts: tuple[Any, ...], name: str, source: str
) -> CodeType:
    """Make code anew, on an engine. Its source replaces that of an earlier cell of this name."""
    if source:
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    return make(*parts).replace(co_filename=name)
