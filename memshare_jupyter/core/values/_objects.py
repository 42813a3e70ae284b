"""Objects that are not arrays: pickled, with the arrays inside them standing in the page.

Pickles are made by protocol 5 with out-of-band buffers (PEP 574). Every array inside, strided
or contiguous, of a class of its own or a view of another page, is placed like one that stands
alone: its data, once. What the rebuilt object does not use in the page is measured.
"""

from __future__ import annotations

import ctypes
import io
import pickle
import weakref
from typing import Any, Final

import numpy as np

from memshare_jupyter.core.values import _arrays as arrays
from memshare_jupyter.core.values import _arrow, _gate, _subclasses
from memshare_jupyter.core.values._elements import Elements
from memshare_jupyter.core.values._gate import package_of
from memshare_jupyter.core.values._layout import Layout

_USES_ITS_BUFFERS: Final = frozenset({"builtins", "numpy", "pandas", "polars", "pyarrow", "scipy"})
"""Packages whose objects are known to stay on the buffers that they are rebuilt from."""
_WORTH_A_TRIAL: Final = 1 << 20


def describe(value: object, layout: Layout) -> tuple[dict[str, Any], int]:
    """Place an object; return its form, and how many of its bytes are not shared.

    These are what the pickle holds itself, and arrays that the object's class copies when it is
    rebuilt. To know that, a large object of an unknown class is rebuilt once.
    """
    text = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    pickler = _Pickler(text, buffers)
    pickler.dump(value)
    found = [pickler.array_of(buffer) for buffer in buffers]
    places = [(layout.place_array(array), array.nbytes) for array in found]
    data = text.getvalue()
    form = {
        "data": (layout.place(data, alignment=1), len(data)),
        "buffers": places,
        "class": _gate.class_of(value),
        "writes_last": _gate.writes_last(value),
    }
    return form, len(data) + _copied_bytes(value, data, found)


class _Pickler(pickle.Pickler):
    """Pickles with all arrays out of band, also where a class does not do so by itself."""

    def __init__(self, text: io.BytesIO, buffers: list[pickle.PickleBuffer]) -> None:
        # Not a method of ours: that would be a cycle, and keep what was pickled until it is found.
        super().__init__(text, protocol=5, buffer_callback=buffers.append)
        self._arrays: dict[int, np.ndarray[Any, Any]] = {}

    def reducer_override(self, value: Any) -> Any:
        """Reduce arrays of every kind, and tables and frames, to what stands in the page."""
        if isinstance(value, np.ndarray):
            return self._reduce_array(value)
        if type(value) is Elements:  # as data: a reference would depend on another page's life
            return list, (list(value),)
        return _arrow.reduce(value) or NotImplemented

    def _reduce_array(self, array: np.ndarray[Any, Any]) -> Any:
        if not array.nbytes or array.dtype.hasobject or array.dtype.kind == "T":
            return NotImplemented
        if not _gate.is_array(array):
            return _subclasses.reduce(array) or NotImplemented
        axes = arrays.memory_order(array)
        strides = arrays.packed_strides(array.shape, array.itemsize, axes)
        # The pickle names a buffer; that it is the array's, gathered, is for the layout to know.
        named = pickle.PickleBuffer(bytearray())
        self._arrays[id(named)] = arrays.in_memory_order(array, axes)
        return np.ndarray, (array.shape, array.dtype, named, 0, strides)

    def array_of(self, buffer: pickle.PickleBuffer) -> np.ndarray[Any, Any]:
        """Return what stands in the page for a buffer of the pickle, after pickling."""
        array = self._arrays.get(id(buffer))
        return np.asarray(buffer.raw()) if array is None else array


def _copied_bytes(value: object, data: bytes, placed: list[np.ndarray[Any, Any]]) -> int:
    """Return how many bytes of its arrays an object leaves unused when it is rebuilt on them."""
    package = package_of(value)
    if package in _USES_ITS_BUFFERS or sum(array.nbytes for array in placed) < _WORTH_A_TRIAL:
        return 0
    sources = [_source(array) for array in placed]
    used = [weakref.ref(source) for source in sources]
    try:
        buffers = (memoryview(source).toreadonly() for source in sources)
        made = pickle.loads(data, buffers=buffers)  # noqa: S301 -- just made
    except Exception:  # noqa: BLE001 -- whoever attaches it will be told
        return 0
    sources.clear()
    copied = sum(array.nbytes for array, ref in zip(placed, used, strict=True) if ref() is None)
    del made
    return copied


def _source(array: np.ndarray[Any, Any]) -> Any:
    """Return the bytes of an array as an object that lives while something built on them does.

    Not as an array: numpy lets one that is built on another keep what that one is built on.
    """
    if not array.flags.c_contiguous:
        # Zeros instead of a copy: memory that costs nothing until somebody writes to it.
        array = np.zeros(array.nbytes, np.uint8)
    source = (ctypes.c_char * array.nbytes).from_address(array.__array_interface__["data"][0])
    source.array = array  # type: ignore[attr-defined]
    return source
