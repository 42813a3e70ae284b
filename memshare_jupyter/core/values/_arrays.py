"""An array of plain data <-> its form: dtype, shape, strides and place in a page, as JSON."""

from __future__ import annotations

import functools
import json
import math
import re
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from memshare_jupyter.core.values._layout import FilePart, Layout
from memshare_jupyter.core.values._summary import Summary
from memshare_jupyter.errors import UnsupportedValueError

_DTYPE: Final = re.compile(r"[<>|][biufcmMSUV]\d*(\[\w+\])?", re.ASCII)
"""What ``dtype.str`` looks like for dtypes that are plain data."""


class ArrayBuilder(Protocol):
    """Makes an array on the bytes of a page."""

    def __call__(
        self, dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...], offset: int
    ) -> np.ndarray[Any, Any]: ...


@functools.lru_cache(256)
def is_plain(dtype: np.dtype[Any]) -> bool:
    """Say whether the bytes are the values, and numpy can name the dtype on the other side."""
    if dtype.hasobject or dtype.kind == "T":
        return False
    try:
        return _decode_dtype(json.loads(json.dumps(_encode_dtype(dtype)))) == dtype
    except TypeError:
        return False


def describe(array: np.ndarray[Any, Any], layout: Layout) -> dict[str, Any]:
    """Place an array and return its form. Its memory layout is kept, gaps are not."""
    axes = _memory_order(array)
    strides = [0] * array.ndim
    step = array.itemsize
    for axis in reversed(axes):
        strides[axis] = step
        step *= array.shape[axis]
    return {
        "dtype": _encode_dtype(array.dtype),
        "shape": array.shape,
        "strides": strides,
        "offset": layout.place(array.transpose(axes)),
    }


def describe_empty(
    dtype: np.dtype[Any], shape: tuple[int, ...], order: str, layout: Layout
) -> dict[str, Any]:
    """Reserve room for an array that its owner will fill, and return its form."""
    return _form(dtype, shape, order, layout.reserve(math.prod(shape) * dtype.itemsize))


def describe_file(path: Path, layout: Layout) -> tuple[dict[str, Any], Summary]:
    """Place the array of a ``.npy`` file, without reading it, and return its form and summary.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    UnsupportedValueError
        It is no ``.npy`` file, is cut short, or holds Python objects.
    """
    try:
        # The header only: the mapping of the data ends with this function.
        found = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise UnsupportedValueError(
            f"cannot share {path}: {error}; it must be a .npy file of plain data, as numpy.save "
            "writes it"
        ) from None
    dtype, shape = found.dtype, found.shape
    memory_order = "F" if found.flags.f_contiguous and not found.flags.c_contiguous else "C"
    offset = layout.place(FilePart(path, found.offset, found.nbytes))
    summary = Summary("array", str(dtype), memory_order, shape)
    return _form(dtype, shape, memory_order, offset), summary


def _form(
    dtype: np.dtype[Any], shape: tuple[int, ...], memory_order: str, offset: int
) -> dict[str, Any]:
    axes = range(len(shape)) if memory_order == "C" else reversed(range(len(shape)))
    strides = [0] * len(shape)
    step = dtype.itemsize
    for axis in reversed(list(axes)):
        strides[axis] = step
        step *= shape[axis]
    code = _encode_dtype(dtype)
    return {"dtype": code, "shape": shape, "strides": strides, "offset": offset}


def build(form: dict[str, Any], page_bytes: int, make: ArrayBuilder) -> np.ndarray[Any, Any]:
    """Make the array of a form.

    Raises
    ------
    ValueError, TypeError, KeyError, ArithmeticError, MemoryError, RecursionError
        The form is not one that `describe` makes, or reaches outside the page.
    """
    dtype = _decode_dtype(form["dtype"])
    if dtype.hasobject:
        raise ValueError(f"dtype {dtype} has pointers, which mean nothing in another process")
    shape, strides, offset = tuple(form["shape"]), tuple(form["strides"]), form["offset"]
    end = offset + math.prod(shape) * dtype.itemsize
    if min((0, offset, *shape, *strides)) < 0 or len(shape) != len(strides) or end > page_bytes:
        raise ValueError(f"an array of shape {shape} at byte {offset} does not fit its page")
    if math.prod(shape) and end < offset + dtype.itemsize + sum(
        (n - 1) * s for n, s in zip(shape, strides, strict=True)
    ):
        raise ValueError(f"strides {strides} reach outside an array of shape {shape}")
    return make(dtype, shape, strides, offset)


def _memory_order(array: np.ndarray[Any, Any]) -> list[int]:
    """Axes from the slowest to the fastest in memory, so that the layout is kept."""
    if array.flags.c_contiguous:
        return list(range(array.ndim))
    if array.flags.f_contiguous:
        return list(reversed(range(array.ndim)))
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def order(array: np.ndarray[Any, Any]) -> str:
    """Return the memory layout: ``"C"``, ``"F"`` or ``"other"``."""
    axes = _memory_order(array)
    if axes == sorted(axes):
        return "C"
    return "F" if axes == sorted(axes, reverse=True) else "other"


def _encode_dtype(dtype: np.dtype[Any]) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": _encode_dtype(base), "shape": shape}
    if dtype.fields is None:
        return dtype.str
    fields = [(name, *dtype.fields[name]) for name in dtype.names or ()]
    return {
        "names": [name for name, *_ in fields],
        "formats": [_encode_dtype(of) for _, of, *_ in fields],
        "offsets": [offset for _, _, offset, *_ in fields],
        "titles": [title[0] if title else None for _, _, _, *title in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def _decode_dtype(code: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any]
    if isinstance(code, str):
        # numpy reads much more than it writes, some of it by way of Python's parser.
        if not _DTYPE.fullmatch(code):
            raise ValueError(f"{code!r} is no dtype")
        dtype = np.dtype(code)
        return dtype
    if "base" in code:
        return np.dtype((_decode_dtype(code["base"]), tuple(code["shape"])))
    form: Any = {key: code[key] for key in ("names", "offsets", "itemsize")}
    form["formats"] = [_decode_dtype(of) for of in code["formats"]]
    if any(title is not None for title in code["titles"]):
        form["titles"] = code["titles"]
    dtype = np.dtype(form, align=code["aligned"])
    return dtype
