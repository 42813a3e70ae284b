"""A value <-> a descriptor and the buffers it describes.

A page holds one value. Its *descriptor* is a small JSON object that says how to rebuild the
value from the page's bytes; it stands behind the data in the page, so a page describes itself.

=========  ====================================================================================
kind       descriptor
=========  ====================================================================================
``array``  dtype, shape, strides (bytes) and offset of one array
``list``   the number of elements and the offset of a table of (offset, length) pairs, each the
           place of one element's own descriptor: element *i* is reached without reading others
=========  ====================================================================================
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from memshare_jupyter.core.view import View
from memshare_jupyter.errors import HeaderMismatchError, UnsupportedValueError

ALIGNMENT: Final = 64
_BLOCK_BYTES: Final = 4 << 20
_ELEMENT: Final = struct.Struct("<QQ")
_DTYPE: Final = re.compile(r"[<>|][biufcmMSUV]\d*(\[\w+\])?", re.ASCII)
"""What ``dtype.str`` looks like for dtypes that are plain data."""
_ARRAY_TYPES: Final = (np.ndarray, np.memmap, View)


class ArrayBuilder(Protocol):
    """Makes an array on the bytes of a page."""

    def __call__(  # noqa: D102 -- said above
        self, dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...], offset: int
    ) -> np.ndarray[Any, Any]: ...


@dataclass(slots=True)
class Plan:
    """Where every byte of a value goes in its page, before there is one."""

    descriptor: bytes = b""
    summary: dict[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    _parts: list[tuple[int, np.ndarray[Any, Any] | bytes]] = field(default_factory=list)

    def place(self, part: np.ndarray[Any, Any] | bytes) -> int:
        """Reserve room for `part` at the next aligned offset and return that offset."""
        offset = -(-self.size_bytes // ALIGNMENT) * ALIGNMENT
        self._parts.append((offset, part))
        self.size_bytes = offset + (part.nbytes if isinstance(part, np.ndarray) else len(part))
        return offset

    def blocks(self) -> Iterator[tuple[int, Any]]:
        """Yield (offset, contiguous buffer) in ascending order; no array is copied whole."""
        for offset, part in self._parts:
            if isinstance(part, bytes):
                yield offset, part
                continue
            at = offset
            for block in _contiguous_blocks(part):
                yield at, block
                at += block.nbytes


def plan(value: object) -> Plan:
    """Say how `value` is laid out in a page; reads no data.

    Raises
    ------
    UnsupportedValueError
        The value, or an element of the list, is no array of plain data.
    """
    result = Plan()
    if isinstance(value, list | tuple):
        descriptor = _plan_list(value, result)
        result.summary = {"kind": "list", "shape": [len(value)]}
    else:
        array = _checked(value)
        descriptor = _plan_array(array, result)
        result.summary = {
            "kind": "array",
            "dtype": str(array.dtype),
            "shape": list(array.shape),
            "order": _order(array),
        }
    result.descriptor = _json(descriptor)
    return result


def build(descriptor: bytes, page: memoryview, make: ArrayBuilder) -> Any:
    """Rebuild a value on the bytes of its page.

    Parameters
    ----------
    descriptor : bytes
        As `plan` made it.
    page : memoryview
        The page's bytes; only those of list tables and element descriptors are read here.
    make : callable
        Makes an array from dtype, shape, strides and offset.

    Returns
    -------
    View or Elements
        The array; of a list, a sequence that builds each element when it is asked for.

    Raises
    ------
    HeaderMismatchError
        The descriptor is not one of ours, or reaches outside the page.
    """
    with _readable():
        form = json.loads(descriptor)
        if form["kind"] == "array":
            return _build_array(form, len(page), make)
        if form["kind"] == "list":
            length, table = operator.index(form["length"]), operator.index(form["table"])
            if min(length, table) < 0 or table + length * _ELEMENT.size > len(page):
                raise ValueError(f"a table of {length} at byte {table} does not fit its page")
            return Elements(length, table, page, make)
        raise ValueError(f"unknown kind {form['kind']!r}")


class Elements(Sequence[Any]):
    """The elements of a shared list, each built on the page when it is asked for.

    Pickling sends a reference once `by_reference` was told how, as pickling a view does.
    """

    def __init__(self, length: int, table: int, page: memoryview, make: ArrayBuilder) -> None:
        self._length = length
        self._table = table
        self._page = page
        self._make = make
        self._reduced: tuple[Any, ...] | None = None

    def by_reference(self, *reduced: Any) -> Elements:
        """Set what pickling sends: a function and its arguments; returns the object itself."""
        self._reduced = reduced
        return self

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(self._length))]
        at = i + self._length if i < 0 else i
        if not 0 <= at < self._length:
            raise IndexError(f"no element {i} in a list of {self._length}")
        with _readable():
            offset, length = _ELEMENT.unpack_from(self._page, self._table + at * _ELEMENT.size)
            form = json.loads(bytes(self._page[offset : offset + length]))
            return _build_array(form, len(self._page), self._make)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reduced is None:
            return list, (list(self),)
        function, *args = self._reduced
        return function, tuple(args)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (
        *(ArithmeticError, KeyError, MemoryError, RecursionError, TypeError, ValueError),
        struct.error,
    ) as error:
        raise HeaderMismatchError(f"the page's descriptor cannot be read: {error}") from error


def _checked(value: object) -> np.ndarray[Any, Any]:
    if type(value) not in _ARRAY_TYPES:
        raise UnsupportedValueError(
            f"cannot share a {type(value).__name__}; "
            "pass a numpy array (numpy.asarray(value)) or a list of numpy arrays"
        )
    assert isinstance(value, np.ndarray)  # noqa: S101 -- tells the type checker what was checked
    if _is_plain(value.dtype):
        return value
    raise UnsupportedValueError(
        f"cannot share an array of dtype {value.dtype}: its elements are not plain data; "
        "convert it first, as in a.astype(float) or a.astype('U')"
    )


def _is_plain(dtype: np.dtype[Any]) -> bool:
    """Say whether the bytes are the values, and numpy can name the dtype on the other side."""
    if dtype.hasobject or dtype.kind == "T":
        return False
    try:
        return _decode_dtype(json.loads(_json(_encode_dtype(dtype)))) == dtype
    except TypeError:
        return False


def _plan_array(array: np.ndarray[Any, Any], result: Plan) -> dict[str, Any]:
    axes = _memory_order(array)
    strides = [0] * array.ndim
    step = array.itemsize
    for axis in reversed(axes):
        strides[axis] = step
        step *= array.shape[axis]
    return {
        "kind": "array",
        "dtype": _encode_dtype(array.dtype),
        "shape": array.shape,
        "strides": strides,
        "offset": result.place(array.transpose(axes)),
    }


def _plan_list(value: Sequence[object], result: Plan) -> dict[str, Any]:
    descriptors = []
    for i, item in enumerate(value):
        try:
            descriptors.append(_json(_plan_array(_checked(item), result)))
        except UnsupportedValueError as error:
            raise UnsupportedValueError(f"element {i}: {error}") from error
    table = b"".join(_ELEMENT.pack(result.place(text), len(text)) for text in descriptors)
    return {"kind": "list", "length": len(value), "table": result.place(table)}


def _build_array(form: dict[str, Any], page_bytes: int, make: ArrayBuilder) -> Any:
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


def _order(array: np.ndarray[Any, Any]) -> str:
    axes = _memory_order(array)
    if axes == sorted(axes):
        return "C"
    return "F" if axes == sorted(axes, reverse=True) else "other"


def _contiguous_blocks(array: np.ndarray[Any, Any]) -> Iterator[Any]:
    """Yield the bytes of `array` in C order; only what is not contiguous is gathered."""
    if array.nbytes == 0:
        return
    if array.flags.c_contiguous:
        yield _bytes(array)
        return
    row_bytes = array[:1].nbytes
    if row_bytes > _BLOCK_BYTES and array.ndim > 1:
        for row in array:
            yield from _contiguous_blocks(row)
        return
    rows = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, len(array), rows):
        yield _bytes(np.ascontiguousarray(array[start : start + rows]))


def _bytes(array: np.ndarray[Any, Any]) -> memoryview:
    # By way of uint8, because the buffer protocol refuses dates and other dtypes.
    return array.reshape(-1).view(np.uint8).data


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


def _json(form: Any) -> bytes:
    return json.dumps(form, separators=(",", ":")).encode()
