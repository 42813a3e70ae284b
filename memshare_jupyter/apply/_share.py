"""Values put where the engines of a call reach them, for as long as the call takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import Elements, View
from memshare_jupyter.errors import NotOwnerError, PageExistsError, PageNotFoundError
from memshare_jupyter.worker import columns_of

_NAME_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True)
class Shared:
    """A value that engines can reach.

    Attributes
    ----------
    value : object
        As this process has it, attached.
    sent : object
        What to send: unpickling it on an engine attaches the value there, without a copy.
    """

    value: Any
    sent: Any


def share_items(
    X: Any, margin: int | None, namespace: str, call: contextlib.ExitStack
) -> tuple[Shared, int, Sequence[str] | None]:
    """Share what a call works on, as `share` does.

    Returns
    -------
    Shared
        The matrix, frame or list.
    int
        How many rows, columns or elements it has.
    sequence of str or None
        Their labels.
    """
    named = isinstance(X, PageName)
    if margin is None and isinstance(X, Iterable) and not named:
        X = list(X)
    if margin is not None and not named and columns_of(X) is None and np.ndim(X) != 2:
        raise TypeError(f"memapply works on a matrix of two dimensions; X has {np.ndim(X)}")
    shared = share({"X": X}, namespace, call)["X"]
    items = shared.value
    if margin is None:
        if not isinstance(items, Elements):
            raise TypeError("memlapply works on a list of arrays; use memapply for a matrix")
        return shared, len(items), None
    columns = columns_of(items)
    if columns is not None:
        if margin == 1 and columns.matrix is None:
            raise TypeError(
                "the rows of this frame are no arrays, because its columns differ in dtype; "
                "take those of one dtype (as in df.select_dtypes('float64')) or df.to_numpy(float)"
            )
        labels = columns.labels if margin == 2 else None
        return shared, int(items.shape[margin - 1]), labels
    if getattr(items, "ndim", None) != 2:
        what = _described(items)
        raise TypeError(f"memapply works on a matrix of two dimensions; X is {what}")
    return shared, int(items.shape[margin - 1]), None


def share(
    values: Mapping[str, Any], namespace: str, call: contextlib.ExitStack
) -> dict[str, Shared]:
    """Register values for the length of a call and attach them; pages and views are shared already.

    A name that is taken, by a page of the user's or by the same call in another notebook, gets a
    number behind it: the function sees the values under the names it asked for all the same.
    """
    shared = {}
    pages: list[str] = []
    call.callback(_release, namespace, pages)
    for variable, value in values.items():
        if isinstance(value, PageName):
            shared[variable] = Shared(*registry().refer(*value))
            continue
        if isinstance(value, View) and value.shared:
            shared[variable] = Shared(value, value)
            continue
        if not isinstance(value, np.ndarray) and (attached := registry().refer_to(value)):
            shared[variable] = Shared(*attached)
            continue
        page = _register_free(namespace, variable, value, pages)
        shared[variable] = Shared(*registry().refer(namespace, page))
    return shared


def _release(namespace: str, pages: list[str]) -> None:
    for page in pages:
        with contextlib.suppress(PageNotFoundError, NotOwnerError):  # interrupted before it was
            registry().release(namespace, [page])


def _register_free(namespace: str, variable: str, value: Any, pages: list[str]) -> str:
    """Register a value under a free name, which is added to `pages` before it can be taken."""
    for candidate in _candidates(variable):
        taken = {p.variable for p in registry().snapshot().pages if p.namespace == namespace}
        if candidate not in taken:
            pages.append(candidate)
            with contextlib.suppress(PageExistsError):  # taken since we looked
                registry().register(namespace, {candidate: value}, replace=False)
                return candidate
            pages.remove(candidate)
    raise PageExistsError(
        f"cannot register {variable!r} for the call: namespace {namespace!r} has "
        f"{_NAME_ATTEMPTS} pages of that name; release them, or name another namespace"
    )


def _candidates(variable: str) -> Iterator[str]:
    yield variable
    for number in range(2, _NAME_ATTEMPTS + 1):
        yield f"{variable}~{number}"


def _described(value: Any) -> str:
    if isinstance(value, Elements):
        return "a list"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return f"a {type(value).__name__}"
