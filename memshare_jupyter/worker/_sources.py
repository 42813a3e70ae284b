"""Sources: functions go to engines so that a traceback there shows the line that failed.

What is sent by value (functions of a notebook, lambdas, nested functions, helpers of
``__main__``) is sent by cloudpickle, which from 3.1.3 on calls the file of all code
``<dynamic-code>``. So the pickler here has each code object keep the name of its file,
whatever cloudpickle makes of it. Source goes with it only if that is no file that an engine
of this host can read as well: a cell, mostly. What is sent by name needs neither.
"""

from __future__ import annotations

import io
import linecache
import os
from collections.abc import Callable
from types import CodeType
from typing import Any

import cloudpickle


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._sources: dict[str, str] = {}  # the pickle has each text once, since it is one object

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, CodeType):
            return super().reducer_override(obj)
        make, parts = self.dispatch_table[CodeType](obj)
        name = obj.co_filename
        if name not in self._sources:
            self._sources[name] = _source(name)
        return _code, (make, parts, name, self._sources[name])


def dumps(value: Any) -> bytes:
    """Pickle a value by cloudpickle; `pickle.loads` gives code its file's name and its source."""
    with io.BytesIO() as file:
        _Pickler(file).dump(value)
        return file.getvalue()


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
