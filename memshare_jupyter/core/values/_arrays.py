"""An array of plain data <-> its form: dtype, shape, strides and place in a page, as JSON."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from memshare_jupyter.core.values._about import About
from memshare_jupyter.core.values._layout import FilePart, Layout
from memshare_jupyter.errors import UnsupportedValueError

_DTYPE: Final = re.compile(r"[<>|][biufcmMSUV]\d*(\[\w+\])?", re.ASCII)
"""What ``dtype.str`` looks like for dtypes that are plain data."""


class ArrayBuilder(Protocol):
    """Makes an array on the bytes of a page."""

    def __call__(
        self, dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...], offset: int
    ) -> np.ndarray[Any, Any]: ...


def describe(array: np.ndarray[Any, Any], layout: Layout) -> dict[str, Any]:
    """Place an array and return its form. Its memory layout is kept, gaps are not."""
    axes = memory_order(array)
    offset = layout.place_array(in_memory_order(array, axes))
    return _form(array.dtype, array.shape, axes, offset)


def describe_empty(
    dtype: np.dtype[Any], shape: tuple[int, ...], order: str, layout: Layout
) -> dict[str, Any]:
    """Reserve room for an array that its owner will fill, and return its form."""
    offset = layout.reserve(math.prod(shape) * dtype.itemsize)
    return _form(dtype, shape, _axes(len(shape), order), offset)


def describe_file(path: Path, layout: Layout) -> tuple[dict[str, Any], About]:
    """Place the array of a ``.npy`` file, without reading it; return its form and what it is.

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
    in_file = "F" if found.flags.f_contiguous and not found.flags.c_contiguous else "C"
    offset = layout.place(FilePart(path, found.offset, found.nbytes))
    about = About("array", str(dtype), in_file, shape)
    return _form(dtype, shape, _axes(len(shape), in_file), offset), about


def _form(
    dtype: np.dtype[Any], shape: tuple[int, ...], axes: Sequence[int], offset: int
) -> dict[str, Any]:
    strides = packed_strides(shape, dtype.itemsize, axes)
    return {"dtype": encode_dtype(dtype), "shape": shape, "strides": strides, "offset": offset}


def packed_strides(shape: tuple[int, ...], itemsize: int, axes: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of an array without gaps, `axes` going from the slowest to the fastest."""
    strides = [0] * len(shape)
    step = itemsize
    for axis in reversed(axes):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


Form = tuple[np.dtype[Any], tuple[int, ...], tuple[int, ...], int]
"""Dtype, shape, strides and offset of an array in its page."""


def checked(form: dict[str, Any], page_bytes: int) -> Form:
    """Read the form of an array.

    Raises
    ------
    ValueError, TypeError, KeyError, ArithmeticError, MemoryError, RecursionError
        The form is not one that `describe` makes, or reaches outside the page.
    """
    dtype = decode_dtype(form["dtype"])
    if dtype.hasobject:
        raise ValueError(f"dtype {dtype} has pointers, which mean nothing in another process")
    # Numbers, before anything is multiplied by them: a text would become a very long one.
    shape, strides = (tuple(map(operator.index, form[of])) for of in ("shape", "strides"))
    offset = operator.index(form["offset"])
    end = offset + math.prod(shape) * dtype.itemsize
    if min((0, offset, *shape, *strides)) < 0 or len(shape) != len(strides) or end > page_bytes:
        raise ValueError(f"an array of shape {shape} at byte {offset} does not fit its page")
    if math.prod(shape) and end < offset + dtype.itemsize + sum(
        (n - 1) * s for n, s in zip(shape, strides, strict=True)
    ):
        raise ValueError(f"strides {strides} reach outside an array of shape {shape}")
    return dtype, shape, strides, offset


def memory_order(array: np.ndarray[Any, Any]) -> Sequence[int]:
    """Axes from the slowest to the fastest in memory, so that the layout is kept."""
    if array.flags.c_contiguous:
        return _axes(array.ndim, "C")
    if array.flags.f_contiguous:
        return _axes(array.ndim, "F")
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def in_memory_order(array: np.ndarray[Any, Any], axes: Sequence[int]) -> np.ndarray[Any, Any]:
    """Turn an array so that its elements in C order are those in memory."""
    return array if array.flags.c_contiguous else array.transpose(axes)


def _axes(ndim: int, order: str) -> Sequence[int]:
    return range(ndim) if order == "C" else range(ndim - 1, -1, -1)


def order(array: np.ndarray[Any, Any]) -> str:
    """Return the memory layout: ``"C"``, ``"F"`` or ``"other"``."""
    axes = list(memory_order(array))
    if axes == sorted(axes):
        return "C"
    return "F" if axes == sorted(axes, reverse=True) else "other"


def encode_dtype(dtype: np.dtype[Any]) -> Any:
    """Return a dtype as what JSON can say; only of one without objects it is the whole truth."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": encode_dtype(base), "shape": shape}
    if dtype.fields is None:
        return dtype.str
    fields = [(name, *dtype.fields[name]) for name in dtype.names or ()]
    return {
        "names": [name for name, *_ in fields],
        "formats": [encode_dtype(of) for _, of, *_ in fields],
        "offsets": [offset for _, _, offset, *_ in fields],
        "titles": [title[0] if title else None for _, _, _, *title in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
        "record": dtype.type is np.record,
    }


def decode_dtype(code: Any) -> np.dtype[Any]:
    """Read what `encode_dtype` made."""
    dtype: np.dtype[Any]
    if isinstance(code, str):
        # numpy reads much more than it writes, some of it by way of Python's parser.
        if not _DTYPE.fullmatch(code):
            raise ValueError(f"{code!r} is no dtype")
        dtype = np.dtype(code)
        return dtype
    if "base" in code:
        return np.dtype((decode_dtype(code["base"]), tuple(code["shape"])))
    form: Any = {key: code[key] for key in ("names", "offsets", "itemsize")}
    form["formats"] = [decode_dtype(of) for of in code["formats"]]
    if any(title is not None for title in code["titles"]):
        form["titles"] = code["titles"]
    dtype = np.dtype(form, align=code["aligned"])
    return np.dtype((np.record, dtype)) if code["record"] else dtype
