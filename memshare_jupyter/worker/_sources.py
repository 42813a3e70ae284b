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
import sys
import threading
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, TypeVar

import cloudpickle
import numpy as np

from memshare_jupyter.worker._edited import edited_modules, was_edited

_SHARE_BYTES: Final = 1 << 20
_Cached: Final = type(functools.cache(len))

Share = Callable[["np.ndarray[Any, Any]"], Any]
"""Given a large array, returns what to pickle for it."""
P = TypeVar("P", bound="Pickler")

_pickling: Final = threading.RLock()
"""cloudpickle's list of modules that are sent by value is one for the process."""


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    """Pickles code with the name of its file, and functions that remember their results.

    Parameters
    ----------
    file : BytesIO
        Where to write.
    by_value : bool
        Pickle what modules define that are being edited, and not just its name.
    share : callable, optional
        What to do with large arrays.
    **options
        Those of `pickle.Pickler`.
    """

    def __init__(
        self, file: io.BytesIO, *, by_value: bool, share: Share | None = None, **options: Any
    ) -> None:
        super().__init__(file, **options)
        self._sources: dict[str, str] = {}  # the pickle has each text once, since it is one object
        self._share = share
        self._by_value = by_value
        self.registered: list[ModuleType] = []

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, CodeType):
            make, parts = self.dispatch_table[CodeType](obj)
            name = obj.co_filename
            if name not in self._sources:
                self._sources[name] = _source(name)
            return _code, (make, parts, name, self._sources[name])
        if type(obj) is np.ndarray:
            if self._share and obj.nbytes >= _SHARE_BYTES and not obj.dtype.hasobject:
                return np.asarray, (self._share(obj),)
            return NotImplemented
        if isinstance(obj, _Cached) and self._goes_by_value(obj):
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        if self._by_value and isinstance(obj, FunctionType | type | ModuleType):
            self._send_as_it_is_now(obj)
        return super().reducer_override(obj)

    def _goes_by_value(self, obj: Any) -> bool:
        """Say whether an engine could not find, by its name, a function that is decorated."""
        name = getattr(obj, "__module__", None)
        module = sys.modules.get(name or "")
        found = module
        for part in getattr(obj, "__qualname__", "").split("."):
            found = getattr(found, part, None)
        edited = self._by_value and was_edited(module)
        return name in (None, "__main__") or found is not obj or edited

    def _send_as_it_is_now(self, obj: FunctionType | type | ModuleType) -> None:
        """Have cloudpickle send what a module defines by value, if that was edited."""
        named = obj if isinstance(obj, ModuleType) else sys.modules.get(obj.__module__ or "")
        if named is None or named.__name__ in cloudpickle.list_registry_pickle_by_value():
            return
        if was_edited(named):
            cloudpickle.register_pickle_by_value(named)
            self.registered.append(named)


def dumps(value: Any) -> bytes:
    """Pickle a value by a `Pickler`."""
    return pickled_by(Pickler, value)[0]


def pickled_by(
    kind: Callable[..., P], value: Any, share: Share | None = None, **options: Any
) -> tuple[bytes, P]:
    """Pickle a value by a pickler of a kind; return the pickle and the pickler.

    `pickle.loads` gives code its file's name and its source. What a module defines whose file was
    edited in the life of this process goes by value: engines import a module once, and would go on
    with what it was then. Unless that cannot be pickled.
    """
    shared: dict[int, tuple[Any, Any]] = {}  # the arrays, too: else others could get their ids

    def once(array: np.ndarray[Any, Any]) -> Any:
        assert share is not None  # noqa: S101 -- only then is it passed on
        if id(array) not in shared:
            shared[id(array)] = array, share(array)
        return shared[id(array)][1]

    options["share"] = None if share is None else once
    with _pickling:
        try:
            return _pickled_by(kind, value, by_value=True, **options)
        except Exception:
            if not edited_modules():
                raise
            return _pickled_by(kind, value, by_value=False, **options)


def _pickled_by(kind: Callable[..., P], value: Any, **options: Any) -> tuple[bytes, P]:
    with io.BytesIO() as file:
        pickler = kind(file, **options)
        try:
            pickler.dump(value)
        finally:
            for module in pickler.registered:
                cloudpickle.unregister_pickle_by_value(module)
        return file.getvalue(), pickler


def _cached(fun: Callable[..., Any], parameters: dict[str, Any]) -> Any:
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
