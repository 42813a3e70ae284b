"""What a call of memapply is given: checked, and put where the engines find it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from memshare_jupyter.core.names import PageName, check_namespace, parse
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import Elements, View
from memshare_jupyter.errors import (
    InvalidNameError,
    NotOwnerError,
    PageExistsError,
    PageNotFoundError,
)
from memshare_jupyter.worker._frames import columns_of

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


def namespace_for(
    X: Any, fun: Callable[..., Any], namespace: str | None, named: bool
) -> tuple[PageName | None, str]:
    """Return the page that X names, if it does, and the namespace of the call.

    Parameters
    ----------
    X, fun, namespace
        As the user gave them.
    named : bool
        Whether other things than X are looked up by their names, so that there must be a
        namespace to look in.
    """
    page = parse(X, namespace) if isinstance(X, str) else None
    if namespace is not None:
        return page, check_namespace(namespace)
    if page is not None:
        return page, page.namespace
    if named:
        raise ValueError("vars names registered variables; say in which namespace")
    return None, _named_after(fun)


def check_parameters(fun: Callable[..., Any], variables: Iterable[str]) -> None:
    """See to it that `fun` can be called with an item and these variables.

    Raises
    ------
    TypeError
        It takes no such argument, or wants others. Nothing is raised if it does not say what it
        takes, as some builtins do not.
    """
    if not callable(fun):
        raise TypeError(f"fun must be callable, not a {type(fun).__name__}")
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):
        return
    given = list(variables)
    try:
        signature.bind(None, **dict.fromkeys(given))
    except TypeError as error:
        name = getattr(fun, "__name__", type(fun).__name__)
        gives = f"with {', '.join(given)} from vars" if given else "with no vars"
        raise TypeError(
            f"{name}{signature} cannot be applied {gives}: {error}; its first argument is the "
            "item, and its others are named in vars"
        ) from None


def share_items(
    X: Any, margin: int | None, namespace: str, call: contextlib.ExitStack
) -> tuple[Shared, int, Sequence[str] | None]:
    """Share what a call works on.

    Returns
    -------
    Shared
        The matrix, frame or list.
    int
        How many rows, columns or elements it has.
    sequence of str or None
        Their labels.
    """
    if isinstance(X, PageName):
        shared = _attached(*X)
    else:
        value = list(X) if margin is None and isinstance(X, Iterable) else X
        if margin is not None and columns_of(X) is None and np.ndim(X) != 2:
            raise TypeError(f"memapply works on a matrix of two dimensions; X has {np.ndim(X)}")
        shared = _shared({"X": value}, namespace, call)["X"]
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


def share_variables(
    variables: Mapping[str, Any] | Sequence[str], namespace: str, call: contextlib.ExitStack
) -> dict[str, Shared]:
    """Register the values of a mapping for the length of the call, or attach pages by name."""
    if isinstance(variables, Mapping):
        return _shared(variables, namespace, call)
    return {name: _attached(namespace, name) for name in names_of(variables)}


def names_of(variables: Mapping[str, Any] | Sequence[str] | None) -> list[str]:
    """Return the names by which `fun` gets its variables."""
    return [variables] if isinstance(variables, str) else list(variables or ())


def _attached(namespace: str, variable: str) -> Shared:
    return Shared(*registry().refer(namespace, variable))


def _shared(
    values: Mapping[str, Any], namespace: str, call: contextlib.ExitStack
) -> dict[str, Shared]:
    """Register values for the length of a call and attach them; what is attached is shared already.

    A name that is taken, by a page of the user's or by the same call in another notebook, gets a
    number behind it: the function sees the values under the names it asked for all the same.
    """
    shared = {}
    pages: list[str] = []
    call.callback(_release, namespace, pages)
    for variable, value in values.items():
        if isinstance(value, View) and value.shared:
            shared[variable] = Shared(value, value)
            continue
        if not isinstance(value, np.ndarray) and (attached := registry().refer_to(value)):
            shared[variable] = Shared(*attached)
            continue
        page = _register_free(namespace, variable, value, pages)
        shared[variable] = _attached(namespace, page)
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


def _named_after(fun: Callable[..., Any]) -> str:
    name = getattr(fun, "__name__", type(fun).__name__)
    try:
        return "unnamed" if name == "<lambda>" else check_namespace(name)
    except InvalidNameError:
        return "unnamed"


def _described(value: Any) -> str:
    if isinstance(value, Elements):
        return "a list"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return f"a {type(value).__name__}"
