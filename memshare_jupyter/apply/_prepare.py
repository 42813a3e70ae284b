"""The first step of a call: what it is given is checked, named, and put where engines find it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import numpy as np

from memshare_jupyter.apply._carry import Labels, warn_of_generators
from memshare_jupyter.apply._interrupts import uninterrupted
from memshare_jupyter.apply._names import Names, names_given
from memshare_jupyter.apply._out import Out
from memshare_jupyter.apply._share import Shared, share, share_items
from memshare_jupyter.core import quantities
from memshare_jupyter.core.names import PageName, check_namespace
from memshare_jupyter.errors import InvalidNameError
from memshare_jupyter.worker import Seeds, Task, columns_of, matrix_of, name_of, pickled

_KINDS: Final = {1: "row", 2: "column", None: "element"}
_BATCH_BYTES: Final = 16 << 20
"""What a function makes of a batch is often as large as the batch; this much for each engine."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that can be sent.

    Attributes
    ----------
    title : str
        What it does, for people.
    task : Task
        What to send to every engine.
    count : int
        How many items there are.
    labels : Labels or None
        What they are called.
    out : Out
        What becomes of the results.
    attached : list of Shared
        What has to be kept for as long as engines may attach it.
    """

    title: str
    task: Task
    count: int
    labels: Labels | None
    out: Out
    attached: list[Shared]

    @property
    def pages(self) -> list[bytes]:
        """The pages, by uuid, that are there after the call, too."""
        return [shared.page for shared in self.attached if shared.page is not None]

    def label_of(self, index: int) -> str | None:
        """Return what people call an item, if they call it anything."""
        return None if self.labels is None else self.labels[index]


def prepare(
    X: Any,
    margin: int | None,
    fun: Callable[..., Any],
    namespace: str | None,
    variables: Mapping[str, Any] | Sequence[str] | None,
    *,
    out: Any,
    on_error: str,
    batch: bool,
    seed: Any,
    call: contextlib.ExitStack,
) -> Prepared:
    """Check the arguments of `memapply` and share what it works on until the end of `call`.

    Raises
    ------
    TypeError, ValueError, MemshareError
        As `memapply` does.
    """
    names = Names(namespace)
    items = names.items(X)
    page = items if isinstance(items, PageName) else None
    where = _namespace(namespace, page, fun, variables)
    given = names.variables(variables, where)
    seeds = None if seed is None else Seeds.of(seed)
    if seeds is not None and "rng" in given:
        raise ValueError("with seed= the function gets its generator as rng; rename that of vars")
    _check_parameters(fun, [*given, "rng"] if seeds is not None else given)
    becomes = Out(out, namespace or (None if "." in str(out) else where))
    becomes.check(on_error)
    closures: list[Shared] = []
    sent, generators = pickled(fun, partial(_shared_for_the_call, closures, call))
    warn_of_generators(generators)
    shared, count, labels = share_items(items, margin, where, call)
    known = share(given, where, call)
    becomes.check(on_error, count)
    whose = page or getattr(shared.value, "page", None) or "X"
    return Prepared(
        title=f"{name_of(fun)} over {quantities.count(count, _KINDS[margin])} of {whose}",
        task=Task(
            value=shared.sent,
            margin=margin,
            fun=cast("Callable[..., Any]", sent),
            variables={name: one.sent for name, one in known.items()},
            batch=_batch_items(shared.value, count) if batch else 0,
            keep_going=on_error == "return",
            seeds=seeds,
        ),
        count=count,
        labels=labels,
        out=becomes,
        attached=[shared, *known.values(), *closures],
    )


def _shared_for_the_call(
    attached: list[Shared], call: contextlib.ExitStack, array: np.ndarray[Any, Any]
) -> Any:
    """Share a large array that the function mentions; return what to send instead."""
    with uninterrupted():
        shared = share({"array": array}, "closures", call)["array"]
        attached.append(shared)
    return shared.sent


def _namespace(
    namespace: str | None,
    page: PageName | None,
    fun: Callable[..., Any],
    variables: Mapping[str, Any] | Sequence[str] | None,
) -> str:
    """Return where the call looks names up and registers what it needs."""
    if namespace is not None:
        return check_namespace(namespace)
    if page is not None:
        return page.namespace
    if not isinstance(variables, Mapping) and names_given(variables):
        raise ValueError("vars names registered variables; say in which namespace")
    name = name_of(fun)
    try:
        return "unnamed" if name == "<lambda>" else check_namespace(name)
    except InvalidNameError:
        return "unnamed"


def _check_parameters(fun: Callable[..., Any], variables: Iterable[str]) -> None:
    """See to it that `fun` can be called with an item and these variables.

    Raises
    ------
    TypeError
        It takes no such argument, or wants others. Nothing is raised if it does not say what it
        takes, as some builtins do not.
    """
    if not callable(fun):
        raise TypeError(f"fun must be callable, not a {type(fun).__name__}")
    (_bind_known if _is_of_module(fun) else _bind)(fun, tuple(variables))


def _bind(fun: Callable[..., Any], given: tuple[str, ...]) -> None:
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, **dict.fromkeys(given))
    except TypeError as error:
        gives = f"with {', '.join(given)} from vars" if given else "with no vars"
        if "'rng'" in str(error) and "rng" in given:
            raise TypeError(
                f"{name_of(fun)}{signature} takes no argument rng, by which seed= gives it its "
                "random generator: add it, or leave seed away"
            ) from None
        if "'rng'" in str(error):
            error = TypeError(f"{error}; seed= gives it the generator rng")
        raise TypeError(
            f"{name_of(fun)}{signature} cannot be applied {gives}: {error}; its first argument is "
            "the item, and its others are named in vars"
        ) from None


_bind_known = functools.lru_cache(maxsize=64)(_bind)


def _is_of_module(fun: Callable[..., Any]) -> bool:
    """Say whether an imported module has it: those of cells would keep what they refer to."""
    module = getattr(fun, "__module__", None)
    if not isinstance(module, str) or module == "__main__":
        return False
    return getattr(sys.modules.get(module), name_of(fun), None) is fun


def _batch_items(value: Any, count: int) -> int:
    """Return how many rows or columns a batch may have."""
    matrix = matrix_of(value)
    if matrix is None:
        columns = columns_of(value)
        why = "" if columns is None else columns.why_no_matrix
        raise TypeError(f"batch=True needs a matrix, and this frame is none: {why}, or leave batch")
    return max(1, count * _BATCH_BYTES // max(np.asarray(matrix).nbytes, 1))
