"""Arrays of a class of their own: rebuilt on shared memory, with what the class adds."""

from __future__ import annotations

import copyreg
import pickle
from typing import Any

import numpy as np

from memshare_jupyter.core.values._gate import class_of, is_masked_array
from memshare_jupyter.errors import UnsupportedValueError

Reduced = tuple[Any, ...]


def reduce(value: np.ndarray[Any, Any]) -> Reduced | None:
    """Return how to rebuild an array of a subclass from plain arrays, as `pickle` wants it.

    numpy pickles subclasses in band, with a copy of their data, and forgets their attributes.

    Returns
    -------
    tuple or None
        None for a class whose own pickling does something else than to keep its attributes.
    """
    if is_masked_array(value) and type(value) is np.ma.MaskedArray:
        return _reduce_masked(value)
    return _reduce_by_view(value) if _is_view_with_attributes(value) else None


def refuse_unknown(value: np.ndarray[Any, Any]) -> None:
    """Refuse an array of a class that cannot be put on shared memory."""
    if value.dtype.kind == "T" or reduce(value) is None:
        raise UnsupportedValueError(
            f"cannot share a {class_of(value)}: what its class adds to an array cannot be rebuilt "
            "on shared memory; share its numbers, np.asarray(x), and the rest beside them"
        )


def _reduce_masked(value: Any) -> Reduced:
    mask = np.ma.getmask(value)
    parts = (
        np.asarray(np.ma.getdata(value)),
        None if mask is np.ma.nomask else np.asarray(mask),
        value._fill_value,
        value.hardmask,
        value._optinfo,
        value._basedict,
    )
    return masked, parts


def masked(
    data: np.ndarray[Any, Any],
    mask: np.ndarray[Any, Any] | None,
    fill_value: Any,
    hard: bool,
    optinfo: dict[str, Any],
    basedict: dict[str, Any],
) -> Any:
    """Put a masked array together on the memory of its data and its mask."""
    made: Any = np.ma.MaskedArray(data, hard_mask=hard)
    if mask is not None:
        made._mask = mask  # not by the constructor, which would look through it
    made._fill_value = fill_value
    made._optinfo.update(optinfo)
    made._basedict.update(basedict)
    return made


def _reduce_by_view(value: np.ndarray[Any, Any]) -> Reduced:
    plain = value.view(np.ndarray)
    attributes = getattr(value, "__dict__", None) or None
    return np.ndarray.view, (plain, type(value)), attributes, None, None, _set_attributes


def _set_attributes(made: Any, attributes: dict[str, Any]) -> None:
    # Not by __setstate__, which of an array takes the data.
    made.__dict__.update(attributes)


def _is_view_with_attributes(value: np.ndarray[Any, Any]) -> bool:
    """Say whether a view of the plain array and the attributes are all there is to `value`.

    Of a class that pickles itself in its own way one element is asked: whether it comes back
    from that with the class and the attributes that it has by our way.
    """
    cls = type(value)
    if copyreg._slotnames(cls):  # type: ignore[attr-defined]  # as the pickle module does
        return False
    ways = ("__reduce__", "__reduce_ex__", "__setstate__")
    try:
        sample = _rebuilt(np.zeros((1,) * value.ndim, value.dtype), value)
        if type(sample) is not cls:
            return False
        if all(getattr(cls, way) is getattr(np.ndarray, way) for way in ways):
            return True
        back = pickle.loads(pickle.dumps(sample, 5))  # noqa: S301 -- we have just made it
        return type(back) is cls and _same(getattr(back, "__dict__", {}), vars(sample))
    except Exception:  # noqa: BLE001 -- a class may dislike our sample in any way
        return False


def _rebuilt(plain: np.ndarray[Any, Any], like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    made: np.ndarray[Any, Any] = plain.view(type(like))
    if attributes := getattr(like, "__dict__", None):
        _set_attributes(made, attributes)
    return made


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and pickle.dumps(one, 5) == pickle.dumps(other, 5)
