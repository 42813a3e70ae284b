"""What counts as an array of plain data, and what to do with what does not.

Every room asks here: pages and items, results and mutual information give one answer.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import Any, Final, TypeGuard

import numpy as np

from memshare_jupyter.core.values import _arrays as arrays
from memshare_jupyter.core.values._view import View
from memshare_jupyter.errors import UnsupportedValueError

_ARRAY_TYPES: Final = frozenset({np.ndarray, np.memmap, View})
_UNCHANGING: Final = frozenset(
    {str, bytes, int, float, complex, bool, type(None), type(Ellipsis), range, slice}
)


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Say whether the bytes are the values, and numpy can name the dtype on the other side."""
    return _is_plain(dtype, dtype.type.__qualname__)


@functools.lru_cache(256)
def _is_plain(dtype: np.dtype[Any], scalar: str) -> bool:
    # By scalar, too: two dtypes are equal though their elements are of different classes.
    if dtype.hasobject or dtype.kind == "T":
        return False
    try:
        decoded = arrays.decode_dtype(json.loads(json.dumps(arrays.encode_dtype(dtype))))
    except (TypeError, ValueError):
        return False
    return decoded == dtype and decoded.type.__qualname__ == scalar


def is_array(value: object) -> bool:
    """Say whether `value` is an array and nothing more: numpy's own, a memmap or a `View`."""
    return type(value) in _ARRAY_TYPES


def as_plain(value: object) -> np.ndarray[Any, Any]:
    """Return a value as a plain array of plain data, without a copy, if that loses nothing.

    Parameters
    ----------
    value : object
        An array, or anything that `numpy.asarray` takes.

    Returns
    -------
    numpy.ndarray
        On the memory of `value` if it is an array. Whether it can be written to is as before.

    Raises
    ------
    UnsupportedValueError
        Something would be lost, such as a mask or a unit, or the result would hold Python
        objects. The message says what to do.
    """
    lost = what_is_lost(value)
    if lost is not None:
        raise UnsupportedValueError(f"a {class_of(value)} is no plain array: {lost}")
    array = np.asarray(value)
    if not is_plain(array.dtype):
        refuse_objects(array)
        raise UnsupportedValueError(
            f"an array of dtype {array.dtype} is not plain data; convert it first, as in "
            "a.astype(float) or a.astype('U')"
        )
    return array


def is_masked_array(value: object) -> TypeGuard[np.ma.MaskedArray[Any, Any]]:
    """Say whether a value is one of `numpy.ma`, which is not loaded for it.

    Whoever has such an array has loaded that. To name it in `numpy` would import it here and now,
    in the middle of an act, which an interrupt or a fork leaves locked for ever.
    """
    return isinstance(value, getattr(sys.modules.get("numpy.ma.core"), "MaskedArray", ()))


def what_is_lost(value: object) -> str | None:
    """Say what `numpy.asarray` would drop of a value, and what to do; None if nothing."""
    if is_masked_array(value):
        if not np.ma.is_masked(value):
            return None
        return (
            "its mask would be lost; fill what is masked, as in x.filled(np.nan), or leave it out "
            "(x.compressed())"
        )
    if is_array(value) or type(value) is np.recarray:
        return None
    if isinstance(value, np.ndarray):
        return (
            "what its class adds, such as a unit or another meaning of an index, would be lost; "
            "pass np.asarray(x)"
        )
    if is_sparse(value):
        return "it is sparse; pass x.toarray()"
    return _what_is_missing(value)


def is_sparse(value: object) -> bool:
    """Say whether a value is a sparse matrix or array of scipy's."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(value))


def _what_is_missing(value: Any) -> str | None:
    """Say what is wrong with missing values that only the dtype of a pandas object can say."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, pandas.Series | pandas.Index | pandas.DataFrame):
        return None
    columns = [column for _, column in value.items()] if value.ndim == 2 else [value]
    if any(not isinstance(c.dtype, np.dtype) and bool(c.isna().any()) for c in columns):
        return (
            "its missing values (pd.NA) would become objects; fill them or name a number for "
            "them, as in x.to_numpy(float, na_value=np.nan)"
        )
    return None


def refuse_objects(value: object) -> None:
    """Refuse an array whose elements are Python objects, also one of a class of its own."""
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.dtype.kind != "T":
        raise UnsupportedValueError(
            f"cannot share an array of dtype {value.dtype}: its elements are Python objects, "
            "which only this process can read; convert it first, as in a.astype(float) or "
            "a.astype('U'), or share a list of its elements (a.tolist())"
        )


def writes_last(value: object) -> bool:
    """Say whether all that can be written to an object rebuilt on a page is in the page.

    A frame or a model may answer a write with a copy of its own, and an array without a mask
    makes one when an element is masked: such writes would stay in the process that makes them.
    """
    if is_masked_array(value):
        return np.ma.getmask(value) is not np.ma.nomask
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject and value.dtype.kind != "T"
    return type(value) in _UNCHANGING or isinstance(value, np.generic)


def package_of(value: object) -> str:
    """Return the package of an object's class; empty if it does not say.

    What Cython compiles has a class whose ``__module__`` is a descriptor, for its objects.
    """
    module = type(value).__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


def class_of(value: object) -> str:
    """Return package and class of an object, as ``pandas.DataFrame``; of a builtin the class."""
    package = package_of(value)
    name = type(value).__qualname__
    return name if package == "builtins" else f"{package}.{name}"
