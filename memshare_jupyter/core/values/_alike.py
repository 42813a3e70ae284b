"""Many elements of one form, such as short vectors or numbers, which stand in a page as one array.

To describe an element by itself, and to rebuild it from that, takes 20 µs; for a list of many small
ones that is more than most functions of them take.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np

from memshare_jupyter.core.values import _arrays as arrays
from memshare_jupyter.core.values import _gate
from memshare_jupyter.core.values._arrays import ArrayBuilder
from memshare_jupyter.core.values._layout import ALIGNMENT, Layout, Stack

_LEAST: Final = 16
_SMALL_BYTES: Final = 4096
_NUMBERS: Final[dict[type, str]] = {int: "<i8", float: "<f8", bool: "|b1"}


def describe(items: Sequence[Any], layout: Layout) -> tuple[dict[str, Any], int] | None:
    """Place elements that are alike; None if they are not, or too few.

    Returns
    -------
    form : dict
        Of the first array, and how many bytes lie between two. Of numbers it has no shape.
    unshared_bytes : int
        How many of their bytes each process makes anew.
    """
    kinds = set(map(type, items))
    if len(items) < _LEAST or len(kinds) != 1:
        return None
    (kind,) = kinds
    if kind in _NUMBERS:
        return _numbers(items, _NUMBERS[kind], layout)
    if _gate.is_array(items[0]) and _can_be_stacked(items):
        stack = Stack(items, _step(items[0]))
        first = items[0]
        strides = arrays.packed_strides(first.shape, first.itemsize, range(first.ndim))
        form = {
            "dtype": arrays.encode_dtype(first.dtype),
            "shape": first.shape,
            "strides": strides,
            "offset": layout.place(stack),
            "step": stack.step_bytes,
        }
        return form, 0
    return None


def _numbers(items: Sequence[Any], dtype: str, layout: Layout) -> tuple[dict[str, Any], int] | None:
    try:
        data = np.array(items, dtype).tobytes()
    except OverflowError:
        return None
    form = {"dtype": dtype, "shape": (), "strides": (), "offset": layout.place(data)}
    return {**form, "step": np.dtype(dtype).itemsize}, len(data)


def _can_be_stacked(items: Sequence[np.ndarray[Any, Any]]) -> bool:
    """Say whether arrays are small, of one form, and none of them the same as another."""
    first = items[0]
    dtype, shape = first.dtype, first.shape
    if not (0 < first.nbytes <= _SMALL_BYTES and first.ndim and _gate.is_plain(dtype)):
        return False
    if any(one.shape != shape or one.dtype != dtype for one in items):
        return False
    if len(shape) > 1 and not all(one.flags.c_contiguous for one in items):
        return False
    if len(set(map(id, items))) < len(items):
        return False
    parts = [one for one in items if one.base is not None]
    return len({one.ctypes.data for one in parts}) == len(parts)


def _step(array: np.ndarray[Any, Any]) -> int:
    return -(-array.nbytes // ALIGNMENT) * ALIGNMENT


class Alike:
    """Elements that are alike, on their page.

    Parameters
    ----------
    form : dict
        As `describe` made it.
    length, page_bytes : int
        How many they should be, and what there is.
    make : callable
        Makes an array on the page.

    Raises
    ------
    ValueError, TypeError, KeyError, ArithmeticError, MemoryError, RecursionError
        The form is not one that `describe` makes, or reaches outside the page.
    """

    def __init__(
        self, form: dict[str, Any], length: int, page_bytes: int, make: ArrayBuilder
    ) -> None:
        dtype, shape, strides, offset = arrays.checked(form, page_bytes)
        step, nbytes = operator.index(form["step"]), math.prod(shape) * dtype.itemsize
        if min(length, step - nbytes) < 0 or offset + length * step > page_bytes:
            raise ValueError(f"{length} arrays of {nbytes} bytes, {step} apart, do not fit")
        self._numbers = not shape
        self._lines = np.asarray(make(dtype, (length, *shape), (step, *strides), offset))
        self._place = dtype, shape, strides
        self._offset, self._step = offset, step
        self._make = make

    def __getitem__(self, i: int) -> Any:
        if self._numbers:
            return self._lines[i].item()
        return self._make(*self._place, self._offset + i * self._step)

    def some(self, start: int, stop: int) -> Collection[Any]:
        """Return some of them: plain arrays, or numbers."""
        some = self._lines[start:stop]
        return some.tolist() if self._numbers else some
