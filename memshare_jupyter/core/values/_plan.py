"""A value as it will stand in a page: a descriptor and the buffers it describes.

A page holds one value. Its *descriptor* is a small JSON object that says how to rebuild the
value from the page's bytes; it stands behind the data in the page, so a page describes itself.

==================  ===========================================================================
kind                descriptor
==================  ===========================================================================
``array``           form of one array, see `arrays`
``list``, ``tuple``  the number of elements and the offset of a table of (offset, length) pairs,
                    each the place of one element's own descriptor: element *i* is reached
                    without reading the others. Or the form of one array, see `_alike`
``dict``            the same for its values; its keys are a pickle
``value``           a number, short text, or None: itself, since lists may have a great many
``pickle``          anything else: the place of a pickle, and those of its buffers
==================  ===========================================================================
"""

from __future__ import annotations

import contextlib
import functools
import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from memshare_jupyter.core import _descriptors
from memshare_jupyter.core.values import _alike, _gate, _objects, _subclasses
from memshare_jupyter.core.values import _arrays as arrays
from memshare_jupyter.core.values._about import About
from memshare_jupyter.core.values._elements import ELEMENT, Elements
from memshare_jupyter.core.values._layout import Layout
from memshare_jupyter.errors import MemshareError, UnsupportedValueError

_CONTAINERS: Final[dict[type, str]] = {list: "list", Elements: "list", tuple: "tuple", dict: "dict"}
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
_JSON_BITS: Final = 1024
_JSON_CHARACTERS: Final = 1024
_DEEPEST: Final = 20
"""Containers inside containers, at the most, of which each has a table. What is deeper is one
pickle, which takes no recursion to read: so whatever could be planned can be attached."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A value as it will stand in a page.

    Attributes
    ----------
    layout : Layout
        Its data.
    descriptor : bytes
        How to rebuild it.
    about : About
        What lists say of it.
    """

    layout: Layout
    descriptor: bytes
    about: About

    @classmethod
    def of(cls, value: object) -> Plan:
        """Plan a value at hand. Copies pickled objects' small parts, no array.

        Pickling runs code of others, and a large object of an unknown class is even rebuilt once
        to measure what of it is shared: no lock of ours may be held meanwhile.

        Raises
        ------
        UnsupportedValueError
            The value, or something in it, cannot be shared.
        """
        describer = _Describer(Layout())
        try:
            form = describer.form(value)
        except (MemshareError, MemoryError):
            raise
        except Exception as error:  # a class may refuse to be pickled in any way it likes
            if isinstance(error, OSError):
                _descriptors.raise_if_run_out(error)  # to import what it needs, as a rule
            raise _refusal(value, error) from error
        about = _about(value, form["kind"], describer.unshared_bytes)
        return cls(describer.layout, _json(form), about)

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype[Any], order: str) -> Plan:
        """Plan an array of zeros for its owner to fill."""
        if not _gate.is_plain(dtype):
            raise UnsupportedValueError(f"cannot share an array of dtype {dtype}: no plain data")
        layout = Layout()
        form = arrays.describe_empty(dtype, shape, order, layout)
        about = About("array", str(dtype), order, shape)
        return cls(layout, _json({"kind": "array", **form}), about)

    @classmethod
    def file(cls, path: Path) -> Plan:
        """Plan the array of a ``.npy`` file, to go from there straight into the page."""
        layout = Layout()
        form, about = arrays.describe_file(path, layout)
        return cls(layout, _json({"kind": "array", **form}), about)

    def stands_in(self, descriptor: bytes, page: memoryview, address: int) -> bool:
        """Say whether the value is the one of a page, unchanged: an object attached before.

        The page must be one that nobody writes to.

        Parameters
        ----------
        descriptor : bytes
            The page's.
        page, address : memoryview, int
            Its bytes, and where they are mapped.
        """
        return self.descriptor == descriptor and self.layout.stands_in(page, address)

    @property
    def size_bytes(self) -> int:
        """Bytes of data."""
        return self.layout.size_bytes

    @property
    def unshared_bytes(self) -> int:
        """How many of them are not shared: whoever attaches the page makes them anew."""
        return self.about.unshared_bytes


class _Describer:
    """Places a value and all that is in it, and returns how to find it again."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.unshared_bytes = 0
        self._inside: list[int] = []

    def form(self, value: Any) -> dict[str, Any]:
        if self._inside and _is_json(value):
            return self._value(value)
        if _gate.is_array(value) and _gate.is_plain(value.dtype):
            return {"kind": "array", **arrays.describe(value, self.layout)}
        _gate.refuse_objects(value)
        if isinstance(value, np.ndarray) and not _gate.is_array(value):
            _subclasses.refuse_unknown(value)
        kind = _CONTAINERS.get(type(value))
        if kind is None or len(self._inside) >= _DEEPEST:
            return {"kind": "pickle", **self._object(value)}
        if id(value) in self._inside:
            raise UnsupportedValueError(f"cannot share a {kind} that holds itself")
        self._inside.append(id(value))
        try:
            if kind != "dict":
                return {"kind": kind, **self._elements(value, range(len(value)))}
            keys = self._object(list(value))
            return {"kind": kind, "keys": keys, **self._elements(value.values(), value)}
        finally:
            self._inside.pop()

    def _elements(self, items: Iterable[Any], keys: Iterable[Any]) -> dict[str, Any]:
        items = list(items)
        if (alike := _alike.describe(items, self.layout)) is not None:
            form, unshared_bytes = alike
            self.unshared_bytes += unshared_bytes
            return {"length": len(items), "alike": form}
        forms = []
        for key, item in zip(keys, items, strict=True):
            try:
                forms.append(_json(self.form(item)))
            except UnsupportedValueError as error:
                raise UnsupportedValueError(f"element {key!r}: {error}") from error
        places = [(self.layout.place(text, alignment=1), len(text)) for text in forms]
        table = b"".join(ELEMENT.pack(*place) for place in places)
        return {"length": len(forms), "table": self.layout.place(table)}

    def _value(self, value: object) -> dict[str, Any]:
        form = {"kind": "value", "value": value}
        self.unshared_bytes += len(_json(form))
        return form

    def _object(self, value: object) -> dict[str, Any]:
        form, unshared_bytes = _objects.describe(value, self.layout)
        self.unshared_bytes += unshared_bytes
        return form


def _about(value: Any, kind: str, unshared_bytes: int) -> About:
    if kind == "array":
        # Structured ones are equal though they are shown otherwise, as records or aligned.
        shown = str(value.dtype) if value.dtype.names else _shown(value.dtype)
        return About(kind, shown, arrays.order(value), value.shape)
    if kind not in {"pickle", "value"}:
        return About(kind, shape=(len(value),), unshared_bytes=unshared_bytes)
    dtype, shape = "", None
    with contextlib.suppress(Exception):  # attributes of that name may mean anything
        shape = tuple(operator.index(n) for n in value.shape)
    with contextlib.suppress(Exception):
        dtype = str(np.dtype(value.dtype))
    with contextlib.suppress(Exception):
        dtype = dtype or _common(value.dtypes)
    return About(_gate.class_of(value), dtype, "", shape, unshared_bytes)


@functools.lru_cache(256)
def _shown(dtype: np.dtype[Any]) -> str:
    return str(dtype)


def _common(dtypes: Iterable[Any]) -> str:
    """Return the dtype of a frame whose columns agree; else nothing."""
    if isinstance(dtypes, Mapping):  # as xarray has them
        dtypes = dtypes.values()
    found = set(dtypes)
    return str(found.pop()) if len(found) == 1 else ""


def _is_json(value: object) -> bool:
    """Say whether JSON gives back exactly this value."""
    kind = type(value)
    if kind is int:
        return value.bit_length() <= _JSON_BITS  # type: ignore[attr-defined,no-any-return]
    if kind is str:
        return len(value) <= _JSON_CHARACTERS  # type: ignore[arg-type]
    return kind is float or kind is bool or value is None


def _refusal(value: object, error: Exception) -> UnsupportedValueError:
    what = f"cannot share a {type(value).__name__}"
    if isinstance(error, RecursionError):
        return UnsupportedValueError(
            f"{what}: it is nested too deeply; share its arrays in a flat dict or list"
        )
    return UnsupportedValueError(
        f"{what}: it cannot be pickled ({error}); pass arrays, frames, or containers of them"
    )


def _json(form: Any) -> bytes:
    return _ENCODER.encode(form).encode()
