"""What a call takes along that `pickle` would refuse, or name by a module that engines have not.

A function is pickled by `_sources.dumps` on its own, so that what is wrong with it can be said at
once. Values for shared memory that are of classes of the notebook are *carried*: pickled by
cloudpickle, their arrays beside the pickle, where they are shared as those of any other object.
"""

from __future__ import annotations

import inspect
import pickle
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from memshare_jupyter.core.values import is_array, package_of
from memshare_jupyter.worker._sources import Pickler, Share, pickled_by

_SIMPLE: Final = frozenset({int, float, complex, bool, str, bytes, type(None), range})
_TABLES: Final = frozenset({"numpy", "polars", "pyarrow", "scipy"})
"""Packages whose objects hold none of the notebook's, but for arrays of objects."""


class Pickled:
    """A pickle that is unpickled with what it is part of."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.data,)


class _Noting(Pickler):
    """Notes what is sent by value, and generators of random numbers."""

    def __init__(self, file: Any, *, beside: bool = False, **options: Any) -> None:
        self.buffers: list[pickle.PickleBuffer] = []  # the arrays, if they go beside the pickle
        super().__init__(file, buffer_callback=self.buffers.append if beside else None, **options)
        self.by_value = False
        self.generators: dict[str, None] = {}

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.random.Generator | np.random.RandomState | random.Random):
            self.generators[f"{package_of(obj)}'s {type(obj).__name__}"] = None
        reduced = super().reducer_override(obj)
        if isinstance(reduced, tuple) and callable(obj):
            self.by_value = True
        return reduced


def pickled(fun: Callable[..., Any], share: Share) -> tuple[Pickled, list[str]]:
    """Pickle a function, large arrays as `share` says; say which random generators it has.

    Raises
    ------
    TypeError
        Something that it uses cannot be pickled; the message names that.
    """
    try:
        data, pickler = pickled_by(_Noting, fun, share)
    except Exception as error:
        culprits = _culprits(fun)
        what = f"it uses {' and '.join(culprits)}, which " if culprits else "it "
        raise TypeError(
            f"{getattr(fun, '__name__', type(fun).__name__)} cannot be sent to engines: {what}"
            f"cannot be pickled ({error}); make such things inside the function, or pass what it "
            "needs of them by vars"
        ) from error
    return Pickled(data), list(pickler.generators)


def _culprits(fun: Callable[..., Any]) -> list[str]:
    try:
        used = inspect.getclosurevars(inspect.unwrap(fun))
    except (TypeError, ValueError):
        return []
    found = []
    for kind, names in (("the global", used.globals), ("the variable", used.nonlocals)):
        for name, value in names.items():
            try:
                pickled_by(_Noting, value)
            except Exception:  # noqa: BLE001 -- an object may refuse in any way it likes
                found.append(f"{kind} {name!r} (a {type(value).__name__})")
    return found


class _Carried:
    """A value that is pickled by cloudpickle, wherever it is put."""

    def __init__(self, data: bytes, buffers: list[np.ndarray[Any, Any]]) -> None:
        self._parts = data, buffers

    def __reduce__(self) -> tuple[Any, ...]:
        return _uncarried, self._parts


def _uncarried(data: bytes, buffers: list[np.ndarray[Any, Any]]) -> Any:
    return pickle.loads(data, buffers=buffers)  # noqa: S301 -- the caller's


def carried(value: Any) -> tuple[Any, list[str]]:
    """Return what to register for a value, and which generators of random numbers it has.

    That is the value itself, unless it has functions or classes in it that other processes
    cannot import.
    """
    if _is_simple(value) or _is_table(value):
        return value, []
    if type(value) in (list, tuple, dict):
        inside = value.values() if isinstance(value, dict) else value
        if are_simple(inside):
            return value, []
    try:
        data, pickler = pickled_by(_Noting, value, beside=True)
    except Exception:  # noqa: BLE001 -- whoever registers it will say what is wrong with it
        return value, []
    if not pickler.by_value:
        return value, list(pickler.generators)
    arrays = [np.frombuffer(buffer.raw(), np.uint8) for buffer in pickler.buffers]
    return _Carried(data, arrays), list(pickler.generators)


def are_simple(values: Iterable[Any]) -> bool:
    """Say whether all values are numbers, texts or arrays: those need nothing to be taken along."""
    return all(map(_is_simple, {type(value): value for value in values}.values()))


def _is_simple(value: Any) -> bool:
    return type(value) in _SIMPLE or is_array(value)


def _is_table(value: Any) -> bool:
    package = package_of(value)
    if package == "pandas":
        dtypes: Any = getattr(value, "dtypes", None)
        kinds = list(dtypes) if getattr(value, "ndim", 0) == 2 else [dtypes]
        return not any(kind is None or getattr(kind, "hasobject", False) for kind in kinds)
    return package in _TABLES and not isinstance(value, np.random.Generator | np.random.RandomState)
