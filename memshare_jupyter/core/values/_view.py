"""View: a numpy array on a page, which keeps the page alive and pickles by reference."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, SupportsIndex

import numpy as np

from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.values._sent import note

_WRITE_FILES: Final = frozenset(
    {
        *("pandas.io.pickle", "shelve", "torch.serialization"),
        *("pickleshare", "IPython.external.pickleshare"),  # %store
    }
)
"""Modules that pickle to files and nothing else."""
_PICKLE_TO_FILES: Final = frozenset({"joblib.numpy_pickle"})
"""Modules whose picklers do so."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a view's bytes are: what another process needs in order to attach them."""

    namespace: str
    variable: str
    uuid: bytes
    edition: int
    mode: str
    address: int
    rebuild: Callable[..., Any]


class View(np.ndarray[Any, Any]):
    """A numpy array on shared memory, attached by name and without a copy.

    Views are made by `retrieve_views` or by ``Namespace[...]``, never directly. Unless it was
    attached with another mode, a view is read-only: the operating system refuses every write to
    it, also from compiled code.

    Slices, reshapes and transposes of a view are views of the same page. Results of
    arithmetic, copies and fancy indexing are plain arrays. The memory stays valid as long as
    the view, or any array that shares its memory, exists, also after the page was released.

    Pickling a view sends a reference of a few hundred bytes instead of the data; unpickling it
    in a process of the same user on the same host attaches the page. So **a pickle in a file holds
    no data**: it cannot be loaded when the page is gone. To store data, use ``numpy.save``, or
    pickle a copy (``x.copy()``). What is known to write files stores the data by itself:
    ``joblib.dump``, pandas' ``to_pickle``, ``shelve``, ``torch.save`` and ``%store``.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import Namespace
    >>> with Namespace("doc") as ns:
    ...     ns["X"] = np.arange(6.0).reshape(2, 3)
    ...     X = ns["X"]
    ...     type(X[:, 1]).__name__, type(X + 1).__name__, float(X.sum())
    ('View', 'ndarray', 15.0)
    """

    _source: Source | None

    @property
    def shared(self) -> bool:
        """Whether the array is on shared memory, as opposed to a result that has its own."""
        return self._source is not None

    @property
    def page(self) -> str | None:
        """The page it is on, as ``namespace.variable``; None for a result with its own memory."""
        source = self._source
        return str(PageName(source.namespace, source.variable)) if source is not None else None

    def __array_finalize__(self, obj: Any) -> None:
        source = getattr(obj, "_source", None)
        # numpy also calls this for fresh results that merely take our type.
        self._source = source if source is not None and np.may_share_memory(self, obj) else None

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = super().__array_function__(func, types, args, kwargs)
        return _settled(result)

    # There is no __array_ufunc__ on purpose: when one raises in a reduction, as x.sum(axis=9)
    # does, numpy (2.4) never lets go of the operands, and the page would stay for good.
    # numpy 1 does not say return_scalar; [()] makes a number of what has no dimensions.
    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = True) -> Any:
        return array[()] if return_scalar else np.asarray(array)

    def __getitem__(self, key: Any) -> Any:
        return _settled(super().__getitem__(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        _refuse_write(self)
        super().__setitem__(key, value)

    def copy(self, order: Any = "C") -> Any:
        """Return a plain, writable array with the same values."""
        return np.array(self, order=order, copy=True, subok=False)

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a plain array of another dtype; a view when nothing had to be copied."""
        return _settled(super().astype(dtype, *args, **kwargs))

    def squeeze(self, axis: Any = None) -> Any:
        """Return a view without the axes of length one."""
        return self.reshape(np.asarray(self).squeeze(axis).shape)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        return copy.deepcopy(np.asarray(self), memo)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        source = self._source
        # With mode "c" nobody else has what was written to it.
        if source is None or source.mode == "c" or goes_to_a_file():
            return np.asarray(self).__reduce_ex__(protocol)
        offset = self.__array_interface__["data"][0] - source.address
        place = (self.dtype, self.shape, self.strides, offset)
        page = (source.namespace, source.variable, source.uuid, source.edition, source.mode)
        note(*page)
        return source.rebuild, (*page, *place)


def goes_to_a_file() -> bool:
    """Say whether the pickler that calls the calling method is known to write to a file.

    Nothing else tells a pickle that is sent from one that is stored, and the file would outlive
    the memory. A pickler written in C is called from the module that uses it; one written in
    Python is itself in the frame.
    """
    frame = sys._getframe(2)
    module = frame.f_globals.get("__name__")
    if module == "pickle":
        pickler = type(frame.f_locals.get("self"))
        return any(base.__module__ in _PICKLE_TO_FILES for base in pickler.__mro__)
    return module in _WRITE_FILES


def _settling(name: str) -> Callable[..., Any]:
    method = getattr(np.ndarray, name)

    def settled(self: View, *args: Any, **kwargs: Any) -> Any:
        return _settled(method(self, *args, **kwargs))

    return _named(settled, name)


def _refusing(name: str) -> Callable[..., Any]:
    method = getattr(np.ndarray, name)

    def refusing(self: View, *args: Any, **kwargs: Any) -> Any:
        _refuse_write(self)
        return method(self, *args, **kwargs)

    return _named(refusing, name)


def _named(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    method.__name__ = name
    method.__qualname__ = f"View.{name}"
    method.__doc__ = f"See `numpy.ndarray.{name}`."
    return method


# numpy gives the results of these our type, also where they are copies.
for _name in (
    *("argpartition", "argsort", "byteswap", "choose", "compress", "dot", "flatten", "ravel"),
    *("repeat", "reshape", "take"),
):
    setattr(View, _name, _settling(_name))
for _name in (
    *("__iadd__", "__iand__", "__ifloordiv__", "__ilshift__", "__imatmul__", "__imod__"),
    *("__imul__", "__ior__", "__ipow__", "__irshift__", "__isub__", "__itruediv__", "__ixor__"),
    *("fill", "partition", "put", "sort"),
):
    setattr(View, _name, _refusing(_name))


def _settled(result: Any) -> Any:
    """Turn a result with memory of its own into a plain array."""
    if isinstance(result, View) and result._source is None:
        return result.view(np.ndarray)
    return result


def _refuse_write(target: Any) -> None:
    if isinstance(target, View) and target._source is not None and not target.flags.writeable:
        name = target.page
        raise ValueError(
            f"this view of {name} is read-only: other processes read the same memory; "
            "work on a copy (x = x.copy()), attach it with mode='c' for a private copy of what you "
            "change, or register the new values under the name"
        )
