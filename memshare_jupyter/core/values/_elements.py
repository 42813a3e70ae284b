"""From the bytes of a page back to its value, or to the elements of a list one by one."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import operator
import pickle
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

from memshare_jupyter.core.values import _arrays as arrays
from memshare_jupyter.core.values._alike import Alike
from memshare_jupyter.core.values._arrays import ArrayBuilder
from memshare_jupyter.core.values._sent import note
from memshare_jupyter.core.values._view import goes_to_a_file
from memshare_jupyter.errors import (
    HeaderMismatchError,
    MemshareError,
    ReadOnlyPageError,
    UnsupportedValueError,
)

ELEMENT: Final = struct.Struct("<QQ")
"""Offset and length of the descriptor of one element."""
_ONE_ARRAY_BYTES: Final = 1024
"""Descriptors up to this length are read once, if they are of an array: most say the same."""


def build(
    descriptor: bytes,
    page: memoryview,
    make: ArrayBuilder,
    *,
    trusted: bool = False,
    to_write: bool = False,
) -> Any:
    """Rebuild a value on the bytes of its page.

    Unpickling runs code of others: no lock of ours may be held meanwhile.

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
    to_write : bool
        Whether what is written to the value must reach the page, as mode "r+" promises.

    Returns
    -------
    object
        The value: arrays as `View`, and a list as the `Elements` that build what is asked for.

    Raises
    ------
    HeaderMismatchError
        The descriptor is not one of ours, or reaches outside the page.
    ReadOnlyPageError
        It is to be written to, and is an object that may keep to itself what is written to it.
    UnsupportedValueError
        A pickled object cannot be rebuilt here, for example because its package is missing.
    MemoryError
        There is no memory for what the object has for itself.
    """
    with _readable():
        if len(descriptor) <= _ONE_ARRAY_BYTES:
            form = _array_of(descriptor, len(page))
            if form is not None:
                return make(*form)
        builder = _Builder(page, make, trusted=trusted, to_write=to_write)
        form = json.loads(descriptor)
        return builder.elements(form) if form["kind"] == "list" else builder.value(form)


@functools.lru_cache(maxsize=1024)
def _array_of(descriptor: bytes, page_bytes: int) -> arrays.Form | None:
    form = json.loads(descriptor)
    return arrays.checked(form, page_bytes) if form["kind"] == "array" else None


class Elements(Sequence[Any]):
    """The elements of a shared list, each built on the page when it is asked for.

    Pickling sends a reference once `by_reference` was told how, as pickling a view does.
    """

    def __init__(
        self,
        length: int,
        build_one: Callable[[int], Any],
        build_some: Callable[[int, int], Collection[Any]] | None = None,
    ) -> None:
        self._length = length
        self._build_one = build_one
        self._build_some = build_some
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

    def __iter__(self) -> Iterator[Any]:
        for i in range(self._length):
            yield self[i]

    def some(self, start: int, stop: int) -> Collection[Any] | None:
        """Return some of them, if that is faster than to ask for each; arrays are plain ones."""
        return None if self._build_some is None else self._build_some(start, stop)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reduced is None or goes_to_a_file():
            return list, (list(self),)
        function, *args = self._reduced
        note(*args)
        return function, tuple(args)


def whole(value: Any) -> Any:
    """Return a value with all elements of a list built, so that none can fail afterwards.

    Raises
    ------
    MemshareError
        As `build` does. Nothing that was built is kept.
    """
    return list(value) if isinstance(value, Elements) else value


class _Builder:
    """Builds values from their forms on one page."""

    def __init__(
        self, page: memoryview, make: ArrayBuilder, *, trusted: bool, to_write: bool
    ) -> None:
        self._page = page
        self._make = make
        self._trusted = trusted
        self._to_write = to_write

    def value(self, form: dict[str, Any]) -> Any:
        kind = form["kind"]
        if kind == "array":
            return self._make(*arrays.checked(form, len(self._page)))
        if kind == "value":
            return form["value"]
        if kind == "pickle":
            if self._to_write and not form["writes_last"]:
                raise ReadOnlyPageError(
                    f"cannot write to a {form['class']} on shared memory: it may keep to this "
                    "process what is written to it; share its arrays instead (a dict of them), "
                    "or attach it with mode='c' to write to a private copy"
                )
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
        length = operator.index(form["length"])
        if "alike" in form:
            alike = Alike(form["alike"], length, len(self._page), self._make)
            return Elements(length, alike.__getitem__, alike.some)
        table = operator.index(form["table"])
        if min(length, table) < 0 or table + length * ELEMENT.size > len(self._page):
            raise ValueError(f"a table of {length} at byte {table} does not fit its page")

        # No closure: the traceback of an error would keep it, and by it the page.
        return Elements(length, functools.partial(self._element, table))

    def _element(self, table: int, i: int) -> Any:
        place = ELEMENT.unpack_from(self._page, table + i * ELEMENT.size)
        return self.value(json.loads(bytes(self._bytes(place))))

    def _unpickled(self, form: dict[str, Any]) -> Any:
        if not self._trusted:
            raise ValueError("it has a pickle, and the page was not made by this user")
        data = self._bytes(form["data"])
        buffers = [self._bytes(place) for place in form["buffers"]]
        what = form["class"]
        try:
            return _Unpickler(io.BytesIO(data), buffers=buffers).load()
        except (MemoryError, MemshareError):
            raise
        except _NotHere as error:
            raise UnsupportedValueError(f"the page holds a {what}: {error}") from error.__cause__
        except ImportError as error:
            raise UnsupportedValueError(f"the page holds a {what}: {_missing(error)}") from error
        except Exception as error:
            raise UnsupportedValueError(
                f"the page holds a {what}, which cannot be rebuilt here: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _bytes(self, place: Sequence[int]) -> memoryview:
        offset, length = map(operator.index, place)
        if min(offset, length) < 0 or offset + length > len(self._page):
            raise ValueError(f"{length} bytes at {offset} are not in the page")
        return self._page[offset : offset + length]


class _NotHere(Exception):  # noqa: N818 -- a message on its way
    """What a pickle names cannot be found in this process."""


class _Unpickler(pickle.Unpickler):
    """Tells what is missing here from what fails while it is rebuilt."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except ImportError as error:
            raise _NotHere(_missing(error)) from error
        except AttributeError as error:
            raise _NotHere(
                f"this process has no {name} in its module {module}; define it in a module that "
                "both processes can import"
            ) from error


def _missing(error: ImportError) -> str:
    module = error.name or "a module"
    return f"{module} cannot be imported here ({error}); install what it needs"


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except MemshareError:
        raise
    except (
        *(ArithmeticError, KeyError, RecursionError, TypeError, ValueError),
        struct.error,
    ) as error:
        raise HeaderMismatchError(f"the page's descriptor cannot be read: {error}") from error
