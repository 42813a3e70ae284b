"""A value <-> a descriptor and the buffers it describes.

A page holds one value. Its *descriptor* is a small JSON object that says how to rebuild the
value from the page's bytes; it stands behind the data in the page, so a page describes itself.

==================  ===========================================================================
kind                descriptor
==================  ===========================================================================
``array``           form of one array, see `arrays`
``list``, ``tuple``  the number of elements and the offset of a table of (offset, length) pairs,
                    each the place of one element's own descriptor: element *i* is reached
                    without reading the others
``dict``            the same for its values; its keys are a pickle
``pickle``          anything else: the place of a pickle, and those of its buffers
==================  ===========================================================================

Pickles are made by protocol 5 with out-of-band buffers (PEP 574): the arrays inside a frame, a
sparse matrix or a model stand in the page like any other, and the rebuilt object uses them there.
"""

from __future__ import annotations

import contextlib
import io
import json
import operator
import pickle
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from memshare_jupyter.core.values import _arrays as arrays
from memshare_jupyter.core.values._arrays import ArrayBuilder
from memshare_jupyter.core.values._layout import Layout
from memshare_jupyter.core.values._summary import Summary
from memshare_jupyter.core.values._view import View
from memshare_jupyter.errors import HeaderMismatchError, MemshareError, UnsupportedValueError

_ELEMENT: Final = struct.Struct("<QQ")
_ARRAY_TYPES: Final = (np.ndarray, np.memmap, View)


class Plan:
    """A value as it will stand in a page. Copies pickled objects' small parts, no array.

    Parameters
    ----------
    value : object
        What to share.

    Attributes
    ----------
    layout : Layout
        Its data.
    descriptor : bytes
        How to rebuild it.
    summary : Summary
        What lists show.

    Raises
    ------
    UnsupportedValueError
        The value, or something in it, cannot be shared.
    """

    def __init__(self, value: object) -> None:
        self.layout = Layout()
        with _explained(value):
            form = _describe(value, self.layout)
        self.descriptor = _json(form)
        self.summary = _summary(value, form["kind"])

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype[Any], order: str) -> Plan:
        """Plan an array of zeros for its owner to fill."""
        if not arrays.is_plain(dtype):
            raise UnsupportedValueError(f"cannot share an array of dtype {dtype}: no plain data")
        made = cls.__new__(cls)
        made.layout = Layout()
        form = arrays.describe_empty(dtype, shape, order, made.layout)
        made.descriptor = _json({"kind": "array", **form})
        made.summary = Summary("array", str(dtype), order, shape)
        return made

    @classmethod
    def file(cls, path: Path) -> Plan:
        """Plan the array of a ``.npy`` file, to go from there straight into the page."""
        made = cls.__new__(cls)
        made.layout = Layout()
        form, made.summary = arrays.describe_file(path, made.layout)
        made.descriptor = _json({"kind": "array", **form})
        return made

    @property
    def size_bytes(self) -> int:
        """Bytes of data."""
        return self.layout.size_bytes


def build(descriptor: bytes, page: memoryview, make: ArrayBuilder, *, trusted: bool = False) -> Any:
    """Rebuild a value on the bytes of its page.

    Parameters
    ----------
    descriptor : bytes
        As `Plan` made it.
    page : memoryview
        The page's bytes. Of a list only what is asked for is read.
    make : callable
        Makes an array from dtype, shape, strides and offset.
    trusted : bool
        Whether pickles may be loaded, which can execute anything: only if the page is known to
        be made by this user.

    Returns
    -------
    object
        The value: arrays as `View`, and a list as the `Elements` that build what is asked for.

    Raises
    ------
    HeaderMismatchError
        The descriptor is not one of ours, or reaches outside the page.
    UnsupportedValueError
        A pickled object cannot be rebuilt here, for example because its package is missing.
    """
    builder = _Builder(page, make, trusted=trusted)
    with _readable():
        form = json.loads(descriptor)
        return builder.elements(form) if form["kind"] == "list" else builder.value(form)


class Elements(Sequence[Any]):
    """The elements of a shared list, each built on the page when it is asked for.

    Pickling sends a reference once `by_reference` was told how, as pickling a view does.
    """

    def __init__(self, length: int, build_one: Callable[[int], Any]) -> None:
        self._length = length
        self._build_one = build_one
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
            return self._build_one(at)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reduced is None:
            return list, (list(self),)
        function, *args = self._reduced
        return function, tuple(args)


class _Builder:
    """Builds values from their forms on one page."""

    def __init__(self, page: memoryview, make: ArrayBuilder, *, trusted: bool) -> None:
        self._page = page
        self._make = make
        self._trusted = trusted

    def value(self, form: dict[str, Any]) -> Any:
        kind = form["kind"]
        if kind == "array":
            return arrays.build(form, len(self._page), self._make)
        if kind == "pickle":
            return self._unpickled(form)
        items = list(self.elements(form))
        if kind == "tuple":
            return tuple(items)
        if kind == "dict":
            return dict(zip(self._unpickled(form["keys"]), items, strict=True))
        if kind == "list":
            return items
        raise ValueError(f"unknown kind {kind!r}")

    def elements(self, form: dict[str, Any]) -> Elements:
        length, table = operator.index(form["length"]), operator.index(form["table"])
        if min(length, table) < 0 or table + length * _ELEMENT.size > len(self._page):
            raise ValueError(f"a table of {length} at byte {table} does not fit its page")

        def build_one(i: int) -> Any:
            place = _ELEMENT.unpack_from(self._page, table + i * _ELEMENT.size)
            return self.value(json.loads(bytes(self._bytes(place))))

        return Elements(length, build_one)

    def _unpickled(self, form: dict[str, Any]) -> Any:
        if not self._trusted:
            raise ValueError("it has a pickle, and the page was not made by this user")
        data = self._bytes(form["data"])
        buffers = [self._bytes(place) for place in form["buffers"]]
        try:
            return pickle.loads(data, buffers=buffers)  # noqa: S301 -- made by this user, see above
        except Exception as error:
            raise UnsupportedValueError(
                f"the page holds an object that cannot be rebuilt here ({error}); install what it "
                "needs, or define its class in a module that this process can import"
            ) from error

    def _bytes(self, place: Sequence[int]) -> memoryview:
        offset, length = map(operator.index, place)
        if min(offset, length) < 0 or offset + length > len(self._page):
            raise ValueError(f"{length} bytes at {offset} are not in the page")
        return self._page[offset : offset + length]


class _Pickler(pickle.Pickler):
    """Pickles with buffers out of band, also where a class does not do so by itself."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.ndarray and value.dtype.kind in "mM":
            # numpy pickles dates in band, because the buffer protocol has no code for them.
            return np.ndarray.view, (value.view(np.int64), value.dtype)
        polars = sys.modules.get("polars")
        if polars is not None and type(value) is polars.DataFrame and "pyarrow" in sys.modules:
            # polars pickles to a copy of all data; by way of Arrow nothing is copied.
            return polars.from_arrow, (value.to_arrow(),)
        return NotImplemented


def _describe(value: Any, layout: Layout) -> dict[str, Any]:
    kind = type(value)
    if kind in _ARRAY_TYPES and arrays.is_plain(value.dtype):
        return {"kind": "array", **arrays.describe(value, layout)}
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.dtype.kind != "T":
        raise UnsupportedValueError(
            f"cannot share an array of dtype {value.dtype}: its elements are Python objects, "
            "which only this process can read; convert it first, as in a.astype(float) or "
            "a.astype('U'), or share a list of its elements (a.tolist())"
        )
    if kind is list or kind is tuple:
        return {"kind": kind.__name__, **_describe_elements(value, range(len(value)), layout)}
    if kind is dict:
        keys = _describe_pickle(list(value), layout)
        return {"kind": "dict", "keys": keys, **_describe_elements(value.values(), value, layout)}
    return {"kind": "pickle", **_describe_pickle(value, layout)}


def _describe_elements(items: Any, keys: Any, layout: Layout) -> dict[str, Any]:
    forms = []
    for key, item in zip(keys, items, strict=True):
        try:
            forms.append(_json(_describe(item, layout)))
        except UnsupportedValueError as error:
            raise UnsupportedValueError(f"element {key!r}: {error}") from error
    places = [(layout.place(text, alignment=1), len(text)) for text in forms]
    table = b"".join(_ELEMENT.pack(*place) for place in places)
    return {"length": len(forms), "table": layout.place(table)}


def _describe_pickle(value: Any, layout: Layout) -> dict[str, Any]:
    buffers: list[pickle.PickleBuffer] = []
    data = io.BytesIO()
    _Pickler(data, protocol=5, buffer_callback=buffers.append).dump(value)
    places = [(layout.place(raw), raw.nbytes) for raw in (buffer.raw() for buffer in buffers)]
    text = data.getvalue()
    return {"data": (layout.place(text, alignment=1), len(text)), "buffers": places}


def _summary(value: Any, kind: str) -> Summary:
    if kind == "array":
        return Summary(kind, str(value.dtype), arrays.order(value), value.shape)
    if kind != "pickle":
        return Summary(kind, shape=(len(value),))
    package = type(value).__module__.partition(".")[0]
    name = type(value).__qualname__
    dtype, shape = "", None
    with contextlib.suppress(Exception):  # attributes of that name may mean anything
        shape = tuple(operator.index(n) for n in value.shape)
    with contextlib.suppress(Exception):
        dtype = str(np.dtype(value.dtype))
    return Summary(name if package == "builtins" else f"{package}.{name}", dtype, "", shape)


@contextlib.contextmanager
def _explained(value: object) -> Iterator[None]:
    try:
        yield
    except MemshareError:
        raise
    except Exception as error:  # a class may refuse to be pickled in any way it likes
        raise UnsupportedValueError(
            f"cannot share a {type(value).__name__}: it cannot be pickled ({error}); pass arrays, "
            "frames, or containers of them"
        ) from error


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except MemshareError:
        raise
    except (
        *(ArithmeticError, KeyError, MemoryError, RecursionError, TypeError, ValueError),
        struct.error,
    ) as error:
        raise HeaderMismatchError(f"the page's descriptor cannot be read: {error}") from error


def _json(form: Any) -> bytes:
    return json.dumps(form, separators=(",", ":")).encode()
