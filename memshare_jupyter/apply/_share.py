"""Values put where the engines of a call reach them, for as long as the call takes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memshare_jupyter.apply._carry import Labels, carry, readable
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import Elements, View, as_plain, what_is_lost
from memshare_jupyter.errors import (
    NotOwnerError,
    PageExistsError,
    PageNotFoundError,
    UnsupportedValueError,
)
from memshare_jupyter.worker import columns_of


@dataclass(frozen=True, slots=True)
class Shared:
    """A value that engines can reach.

    Attributes
    ----------
    value : object
        As this process has it, attached.
    sent : object
        What to send: unpickling it on an engine attaches the value there, without a copy.
    page : bytes or None
        The uuid of its page, if that is there after the call, too: engines may keep it mapped.
    """

    value: Any
    sent: Any
    page: bytes | None = None


def share_items(
    X: Any, margin: int | None, namespace: str, call: contextlib.ExitStack
) -> tuple[Shared, int, Labels | None]:
    """Share what a call works on, as `share` does.

    Returns
    -------
    Shared
        The matrix, frame or list.
    int
        How many rows, columns or elements it has.
    Labels or None
        What they are called.
    """
    named = isinstance(X, PageName)
    if margin is None:
        X, keys = (X, None) if named else _elements(X)
        shared = share({"X": X}, namespace, call)["X"]
        if not isinstance(shared.value, Elements):
            raise TypeError(
                "memlapply works on a list of arrays, or a dict; use memapply for a matrix"
            )
        return shared, len(shared.value), Labels.of(keys)
    if not named and columns_of(X) is None:
        X = _matrix(X)
    shared = share({"X": X}, namespace, call)["X"]
    items = shared.value
    columns = columns_of(items)
    if columns is not None:
        columns.check()
        if margin == 1 and columns.matrix is None:
            raise TypeError(f"the rows of this frame are no arrays: {columns.why_no_matrix}")
        labels = Labels(columns.names, True) if margin == 2 else Labels.of(columns.rows, True)
        return shared, int(items.shape[margin - 1]), labels
    if (lost := what_is_lost(items)) is not None:
        raise UnsupportedValueError(f"memapply cannot work on {_described(items)}: {lost}")
    if getattr(items, "ndim", None) != 2:
        what = _described(items)
        raise TypeError(f"memapply works on a matrix of two dimensions; X is {what}")
    return shared, int(items.shape[margin - 1]), None


def _elements(X: Any) -> tuple[Any, list[Any] | None]:
    """Return what memlapply works on as a list, and the keys if it is a dict's."""
    if isinstance(X, Elements):
        return X, None
    if columns_of(X) is not None:
        raise TypeError(
            f"memlapply works on a list of arrays, not on a {type(X).__name__}, of which it would "
            "be the columns' names; use memapply(df, 'cols', fun)"
        )
    if isinstance(X, Mapping):
        return list(X.values()), list(X)
    if isinstance(X, set | frozenset | str | bytes) or not isinstance(X, Iterable):
        raise TypeError(f"memlapply works on a list of arrays, not on {_described(X)}")
    if (lost := what_is_lost(X)) is not None:
        raise UnsupportedValueError(f"memlapply cannot work on {_described(X)}: {lost}")
    return list(X), None


def _matrix(X: Any) -> Any:
    """Return a value as the matrix it is, or say why it is none."""
    if isinstance(X, View):
        matrix: np.ndarray[Any, Any] = X
    elif isinstance(X, list | tuple | str | bytes | Mapping | Elements):
        raise TypeError(
            f"memapply works on a matrix of two dimensions; X is {_described(X)}; use memlapply "
            "for its elements, or pass np.array(X)"
        )
    else:
        try:
            matrix = as_plain(X)
        except UnsupportedValueError as error:
            raise UnsupportedValueError(f"memapply cannot work on this X: {error}") from None
    if matrix.ndim != 2:
        raise TypeError(f"memapply works on a matrix of two dimensions; X has {matrix.ndim}")
    return matrix


def share(
    values: Mapping[str, Any], namespace: str, call: contextlib.ExitStack
) -> dict[str, Shared]:
    """Register values for the length of a call and attach them; pages and views are shared already.

    A name that is taken, by a page of the user's or by the same call in another notebook, gets a
    number behind it: the function sees the values under the names it asked for all the same.

    An interrupt is heard at any time: a page is on the list of those to release before it is.
    """
    shared = {}
    pages: list[str] = []
    call.callback(_release, namespace, pages)
    for variable, value in values.items():
        if isinstance(value, PageName):
            attached, reference = registry().refer(*value)
            shared[variable] = Shared(attached, reference, reference.uuid)
            continue
        if isinstance(value, View) and value.shared:
            if (same := readable(value)) is not None:
                source = same._source
                kept = source.uuid if source is not None and source.mode == "r" else None
                shared[variable] = Shared(same, same, kept)
                continue
        elif not isinstance(value, np.ndarray) and (found := registry().refer_to(value)):
            attached, reference = found
            shared[variable] = Shared(attached, reference, reference.uuid)
            continue
        known = carry(value)
        page = _register_free(namespace, variable, known, pages)
        shared[variable] = Shared(*registry().refer(namespace, page))
    return shared


def _release(namespace: str, pages: list[str]) -> None:
    for page in pages:
        with contextlib.suppress(PageNotFoundError, NotOwnerError):  # interrupted before it was
            registry().release(namespace, [page])


def _register_free(namespace: str, variable: str, value: Any, pages: list[str]) -> str:
    """Register a value under a free name, which is added to `pages` before it can be taken."""
    while True:
        taken = {p.variable for p in registry().snapshot().pages if p.namespace == namespace}
        free = next(name for name in _candidates(variable) if name not in taken)
        pages.append(free)
        with contextlib.suppress(PageExistsError):  # taken since we looked
            registry().register(namespace, {free: value}, replace=False)
            return free
        pages.remove(free)


def _candidates(variable: str) -> Iterator[str]:
    yield variable
    for number in itertools.count(2):
        yield f"{variable}~{number}"


def _described(value: Any) -> str:
    if isinstance(value, Elements):
        return "a list"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return f"a {type(value).__name__}"
