"""memapply and memlapply: share what a call needs, run it on the engines, clean up."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import cloudpickle
import numpy as np

from memshare_jupyter import cluster as clusters
from memshare_jupyter.compute.apply import Outcome, Task, run, source_of
from memshare_jupyter.compute.queue import Queue
from memshare_jupyter.core.names import PageName, check_namespace, parse
from memshare_jupyter.core.process import registry
from memshare_jupyter.core.values import Elements
from memshare_jupyter.core.view import View
from memshare_jupyter.errors import InvalidNameError, MemApplyError, PageExistsError
from memshare_jupyter.progress import Progress

if TYPE_CHECKING:
    from memshare_jupyter.cluster import AnyCluster

_MARGINS: Final[Mapping[Any, int]] = {1: 1, "rows": 1, 2: 2, "cols": 2}
_NAME_ATTEMPTS: Final = 20
_BATCH_BYTES: Final = 16 << 20
"""What a function makes of a batch is often as large as the batch; this much for each engine."""


def memapply(
    X: Any,
    margin: Literal[1, 2, "rows", "cols"],
    fun: Callable[..., Any],
    namespace: str | None = None,
    cluster: AnyCluster = None,
    vars: Mapping[str, Any] | Sequence[str] | None = None,  # noqa: A002 -- the reference's name
    max_cores: int | None = None,
    *,
    batch: bool = False,
    progress_after: float | None = 2.0,
) -> list[Any]:
    """Apply a function to each row or column of a shared matrix, on all engines.

    The engines attach the matrix by name, without a copy, and share out the rows or columns
    among themselves as they go.

    Parameters
    ----------
    X : array of shape (n_rows, n_columns), or str
        The matrix: an array is registered for the call, a view is used as it is; a string names
        a page, as a variable of `namespace` or as ``"namespace.variable"``.
    margin : {1, "rows", 2, "cols"}
        What to apply the function to.
    fun : callable
        Called as ``fun(v, **vars)`` with one row or column, a read-only array of one dimension.
        May be a lambda or a closure: it is sent by cloudpickle.
    namespace : str, optional
        Where names are looked up and what the call needs is registered; by default that of the
        page `X`, else the name of `fun`, and ``"unnamed"`` for a lambda.
    cluster : Client, DirectView, Cluster, LocalCluster or None
        ipyparallel's, with engines on this host, or what `local_cluster` returned. With None a
        local cluster is started, kept for later calls, and ended with this process.
    vars : mapping of str to value, or sequence of str
        Further arguments of `fun`: values to register for the call, or names of variables that
        are registered in `namespace` already.
    max_cores : int, optional
        Use at most so many engines; by default all, and of a local cluster the cores less one.
    batch : bool, default: False
        Give `fun` many rows or columns at once, for functions that work along whole matrices: a
        read-only matrix of shape (k, n_columns), or (n_rows, k) for columns, for which it
        returns a sequence or an array of k results. How many it gets differs from call to call:
        at least one and at most 16 MB, where a single one is not larger. Nothing is copied for
        it. Columns of a row-wise matrix lie far apart then; a function that goes through them
        one by one is four times as fast on ``np.asfortranarray(batch)``.
    progress_after : float or None, default: 2.0
        After so many seconds show a bar of the items done, in a notebook or a terminal; None for
        never.

    Returns
    -------
    list
        The results, in the order of the rows or columns.

    Raises
    ------
    MemApplyError
        `fun` failed, or gave another number of results than a batch has items: the message names
        the row, the column or the range of them, and the engine's traceback is shown. The other
        engines stop at once.
    PageNotFoundError
        `X` or `vars` names a page that does not exist.
    ClusterError
        There are no engines, or one of them died.

    Notes
    -----
    What the call registered it releases, also when it fails. Interrupting it stops the engines
    before their next item or batch. During a call each engine uses one BLAS thread.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import memapply
    >>> X = np.arange(6.0).reshape(2, 3)
    >>> def scaled_sum(column, weights):
    ...     return float(column @ weights)
    >>> memapply(X, "cols", scaled_sum, vars={"weights": np.array([1.0, 10.0])})
    [30.0, 41.0, 52.0]
    >>> memapply(X, "cols", lambda columns: columns.max(axis=0).tolist(), batch=True)
    [3.0, 4.0, 5.0]
    """
    try:
        which = _MARGINS[margin]
    except (KeyError, TypeError):
        raise ValueError(f"margin must be 1 or 'rows', 2 or 'cols', not {margin!r}") from None
    return _apply(X, which, fun, namespace, cluster, vars, max_cores, batch, progress_after)


def memlapply(
    X: Any,
    fun: Callable[..., Any],
    namespace: str | None = None,
    cluster: AnyCluster = None,
    vars: Mapping[str, Any] | Sequence[str] | None = None,  # noqa: A002 -- the reference's name
    max_cores: int | None = None,
    *,
    progress_after: float | None = 2.0,
) -> list[Any]:
    """Apply a function to each element of a shared list of arrays, on all engines.

    Parameters
    ----------
    X : list of arrays, or str
        The list, or the name of a page that holds one; as in `memapply`.
    fun, namespace, cluster, vars, max_cores, progress_after
        As in `memapply`; `fun` gets one element, a read-only array.

    Returns
    -------
    list
        The results, in the order of the elements.

    Raises
    ------
    MemApplyError, PageNotFoundError, ClusterError
        As in `memapply`.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import memlapply
    >>> memlapply([np.eye(2), np.ones((2, 3))], lambda el: float(el.sum()))
    [2.0, 6.0]
    """
    return _apply(X, None, fun, namespace, cluster, vars, max_cores, False, progress_after)


def _apply(*call: Any) -> list[Any]:
    try:
        return _run(*call)
    except BaseException as error:
        # A notebook keeps the last traceback, whose frames would keep this call's views alive.
        traceback.clear_frames(error.__traceback__)
        raise


def _run(
    X: Any,
    margin: int | None,
    fun: Callable[..., Any],
    namespace: str | None,
    cluster: AnyCluster,
    variables: Mapping[str, Any] | Sequence[str] | None,
    max_cores: int | None,
    batch: bool,
    progress_after: float | None,
) -> list[Any]:
    if not callable(fun):
        raise TypeError(f"fun must be callable, not a {type(fun).__name__}")
    page = parse(X, namespace) if isinstance(X, str) else None
    if namespace is None and page is not None:
        namespace = page.namespace
    if namespace is None and variables and not isinstance(variables, Mapping):
        raise ValueError("vars names registered variables; say in which namespace")
    with contextlib.ExitStack() as call:
        where = _namespace_of(fun) if namespace is None else check_namespace(namespace)
        items = _shared_items(page or X, margin, where, call)
        count = len(items) if margin is None else items.shape[margin - 1]
        shared = _shared_variables(variables, where, call)
        if count == 0:
            return []
        targets = clusters.engines(cluster, max_cores)[:count]
        queue = Queue(count, len(targets))
        call.callback(queue.close)
        source = source_of(fun)
        at_once = _batch_items(items, count) if batch else 0
        tasks = [
            cloudpickle.dumps(
                Task(items, margin, fun, shared, queue.address, worker, engine, source, at_once)
            )
            for worker, (_, engine) in enumerate(targets)
        ]
        progress = Progress(queue, progress_after)
        call.callback(progress.close)
        answers = clusters.call(targets, run, tasks, queue.cancel, progress.update)
        return _gathered([cloudpickle.loads(answer) for answer in answers], count)


def _gathered(outcomes: list[Outcome], count: int) -> list[Any]:
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    if failures:
        # The first in the order of items, so that a call fails alike however it was shared out.
        failure = min(failures, key=lambda f: (f.items is None, f.items.start if f.items else 0))
        error = MemApplyError(
            f"fun failed {_place(failure.items)} on engine {failure.engine}: {failure.error}",
            index=failure.items.start if failure.items else None,
            items=failure.items,
            engine=failure.engine,
            remote_traceback=failure.remote_traceback,
        )
        error.add_note(f"\non engine {failure.engine}:\n{failure.remote_traceback}")
        raise error from pickle.loads(failure.pickled) if failure.pickled else None  # noqa: S301 -- from our own engine
    results: list[Any] = [None] * count
    for outcome in outcomes:
        for start, done in outcome.results.items():
            results[start : start + len(done)] = done
    return results


def _place(items: range | None) -> str:
    if items is None:
        return "before its first item"
    if len(items) == 1:
        return f"at index {items.start}"
    return f"in the batch of items {items.start} to {items.stop - 1}"


def _batch_items(matrix: Any, count: int) -> int:
    """Return how many rows or columns a batch may have."""
    return max(1, count * _BATCH_BYTES // max(np.asarray(matrix).nbytes, 1))


def _shared_items(X: Any, margin: int | None, namespace: str, call: contextlib.ExitStack) -> Any:
    """Return the view, or the elements, that a call works on."""
    if isinstance(X, PageName):
        items = registry().attach(*X, hold=False)
    elif isinstance(X, View) and X.shared:
        items = X
    else:
        value = list(X) if margin is None and isinstance(X, Iterable) else X
        if margin is not None and np.ndim(X) != 2:
            raise TypeError(f"memapply works on a matrix of two dimensions; X has {np.ndim(X)}")
        items = _registered({"X": value}, namespace, call)["X"]
    if margin is None:
        if not isinstance(items, Elements):
            raise TypeError("memlapply works on a list of arrays; use memapply for a matrix")
    elif isinstance(items, Elements) or items.ndim != 2:
        found = "a list" if isinstance(items, Elements) else f"an array of shape {items.shape}"
        raise TypeError(f"memapply works on a matrix of two dimensions; X is {found}")
    return items


def _shared_variables(
    variables: Mapping[str, Any] | Sequence[str] | None,
    namespace: str,
    call: contextlib.ExitStack,
) -> dict[str, Any]:
    if not variables:
        return {}
    if isinstance(variables, Mapping):
        attached = _registered(variables, namespace, call)
    else:
        names = [variables] if isinstance(variables, str) else variables
        attached = {name: registry().attach(namespace, name, hold=False) for name in names}
    return {k: list(v) if isinstance(v, Elements) else v for k, v in attached.items()}


def _registered(
    values: Mapping[str, Any], namespace: str, call: contextlib.ExitStack
) -> dict[str, Any]:
    """Register values for the length of a call and attach them.

    A name that is taken, by a page of the user's or by the same call in another notebook, gets a
    number behind it: the function sees the values under the names it asked for all the same.
    """
    attached = {}
    for variable, value in values.items():
        if isinstance(value, View) and value.shared:
            attached[variable] = value
            continue
        page = _register_free(namespace, variable, value)
        call.callback(registry().release, namespace, [page])
        attached[variable] = registry().attach(namespace, page, hold=False)
    return attached


def _register_free(namespace: str, variable: str, value: Any) -> str:
    for candidate in _candidates(variable):
        taken = {p.variable for p in registry().snapshot().pages if p.namespace == namespace}
        if candidate not in taken:
            with contextlib.suppress(PageExistsError):  # taken since we looked
                registry().register(namespace, {candidate: value}, replace=False)
                return candidate
    raise PageExistsError(
        f"cannot register {variable!r} for the call: namespace {namespace!r} has "
        f"{_NAME_ATTEMPTS} pages of that name; release them, or name another namespace"
    )


def _candidates(variable: str) -> Iterator[str]:
    yield variable
    for number in range(2, _NAME_ATTEMPTS + 1):
        yield f"{variable}~{number}"


def _namespace_of(fun: Callable[..., Any]) -> str:
    name = getattr(fun, "__name__", type(fun).__name__)
    try:
        return "unnamed" if name == "<lambda>" else check_namespace(name)
    except InvalidNameError:
        return "unnamed"
