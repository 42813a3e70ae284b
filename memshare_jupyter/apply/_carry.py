"""What values become on their way into shared memory, and what people call the items."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memshare_jupyter.apply._users_line import users_line
from memshare_jupyter.core.values import View
from memshare_jupyter.errors import PageNotFoundError
from memshare_jupyter.worker import are_simple, carried

_COMPARED_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Labels:
    """What the items of a call are called.

    Attributes
    ----------
    names : sequence
        Of the items, in their order.
    of_frame : bool
        Whether they are columns or rows of a frame.
    """

    names: Sequence[Any]
    of_frame: bool = False

    @classmethod
    def of(cls, names: Sequence[Any] | None, of_frame: bool = False) -> Labels | None:
        """Return the labels, if there are any."""
        return None if names is None else cls(names, of_frame)

    def __getitem__(self, index: int) -> str:
        return str(self.names[index])


def carry(value: Any) -> Any:
    """Return what to register for a value: itself, or what takes classes of the notebook along.

    Of a list each element is looked at, so that engines can still read one without the others.

    Warns
    -----
    UserWarning
        It has a generator of random numbers in it.
    """
    if type(value) is list and are_simple(value):
        return value
    if type(value) is list:
        pairs = [carried(one) for one in value]
        known: Any = [one for one, _ in pairs]
        found = [name for _, names in pairs for name in names]
    else:
        known, found = carried(value)
    warn_of_generators(found)
    return known


def warn_of_generators(found: Sequence[str]) -> None:
    """Say what is wrong with sending a generator of random numbers to several engines."""
    for name in dict.fromkeys(found):
        warnings.warn_explicit(
            f"the function uses {name}, of which each engine gets a copy: they all draw the same "
            "numbers. Pass seed=, and take the generator rng as an argument: fun(v, ..., rng)",
            UserWarning,
            *users_line(),
        )


def readable(view: View) -> View | None:
    """Return a view that engines can share: itself, or of a private copy (mode "c") the page's.

    None for a private copy that was written to, or whose page is gone: then its numbers are
    nowhere else.
    """
    source = view._source
    if source is None or source.mode != "c":
        return view
    offset = view.__array_interface__["data"][0] - source.address
    place = (view.dtype, view.shape, view.strides, offset)
    page = (source.namespace, source.variable, source.uuid, source.edition, "r")
    same: View | None = None
    with contextlib.suppress(PageNotFoundError):
        same = replace(source).rebuild(*page, *place)
    return same if same is not None and _equal_bytes(np.asarray(view), np.asarray(same)) else None


def _equal_bytes(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Compare without a copy of either, but for some rows at a time."""
    if one.ndim == 0 or not one.size:
        return one.tobytes() == other.tobytes()
    if one.flags.f_contiguous and not one.flags.c_contiguous:
        one, other = one.T, other.T
    step = max(1, _COMPARED_BYTES * len(one) // max(one.nbytes, 1))
    return all(
        one[i : i + step].tobytes() == other[i : i + step].tobytes()
        for i in range(0, len(one), step)
    )
