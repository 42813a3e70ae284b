"""memapply and memlapply: share what a call needs, run it on the engines, clean up."""

from __future__ import annotations

import contextlib
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from memshare_jupyter import arguments
from memshare_jupyter import cluster as clusters
from memshare_jupyter.compute.apply import Task
from memshare_jupyter.compute.items import matrix_of
from memshare_jupyter.compute.results import Results
from memshare_jupyter.core import segment
from memshare_jupyter.core.names import PageName, parse
from memshare_jupyter.core.process import registry
from memshare_jupyter.execution import Execution, died_text
from memshare_jupyter.interrupts import uninterrupted
from memshare_jupyter.progress import Progress
from memshare_jupyter.runs import Run

if TYPE_CHECKING:
    from memshare_jupyter.cluster import AnyCluster

_MARGINS: Final[Mapping[Any, int]] = {1: 1, "rows": 1, 2: 2, "cols": 2}
_KINDS: Final = {1: "rows", 2: "columns", None: "elements"}
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
    out: str = "list",
    on_error: Literal["raise", "return"] = "raise",
    batch: bool = False,
    block: bool = True,
    progress_after: float | None = 2.0,
) -> Any:
    """Apply a function to each row or column of a shared matrix, on all engines.

    The engines attach the matrix by name, without a copy, and share out the rows or columns
    among themselves as they go.

    Parameters
    ----------
    X : array of shape (n_rows, n_columns), DataFrame, or str
        The matrix: an array is registered for the call, a view is used as it is; a string names
        a page, as a variable of `namespace` or as ``"namespace.variable"``. Of a frame (pandas,
        polars or an Arrow table) each column is an item, with its own dtype, and errors call it
        by its label; rows only if all columns of a pandas frame are one block of numbers.
    margin : {1, "rows", 2, "cols"}
        What to apply the function to.
    fun : callable
        Called as ``fun(v, **vars)`` with one row or column, a read-only array of one dimension.
        May be a lambda or a closure: it is sent by cloudpickle. Columns of a row-wise matrix, or
        rows of a column-wise one, are gathered into contiguous memory first when that turns out
        to be faster.
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
    out : str, default: "list"
        ``"list"``: return a list. ``"array"``: the results are numbers, or arrays of one shape;
        return them as one array, which the engines wrote. Anything else is a name, as a variable
        of `namespace` or as ``"namespace.variable"``: that array stays registered under it, and
        a view is returned.
    on_error : {"raise", "return"}, default: "raise"
        Whether an exception of `fun` ends the call, or stands in the place of the item's result.
    batch : bool, default: False
        Give `fun` many rows or columns at once, for functions that work along whole matrices: a
        read-only matrix of shape (k, n_columns), or (n_rows, k) for columns, for which it
        returns a sequence or an array of k results. How many it gets differs from call to call:
        at least one and at most 16 MB, where a single one is not larger. Nothing is copied for
        it. Columns of a row-wise matrix lie far apart then; a function that goes through them
        one by one is four times as fast on ``np.asfortranarray(batch)``.
    block : bool, default: True
        Wait for the results. Otherwise return a `Run` at once, a future that tells how far it is.
    progress_after : float or None, default: 2.0
        After so many seconds show a bar of the items done, in a notebook or a terminal; None for
        never.

    Returns
    -------
    list, ndarray of shape (n_items, ...), View or Run
        The results in the order of the rows or columns, as `out` and `block` say.

    Raises
    ------
    MemApplyError
        `fun` failed, or gave another number of results than a batch has items: the message names
        the row, the column or the range of them, and the engine's traceback is shown. The other
        engines stop at once. Also if an item killed two engines.
    TypeError
        `fun` does not take what `vars` gives. Nothing was run.
    PageNotFoundError
        `X` or `vars` names a page that does not exist.
    NotEnoughMemoryError
        What is to be shared, or the array of the results, does not fit.
    ClusterError
        There are no engines, or all of them died.
    concurrent.futures.CancelledError
        The run was cancelled, from the panel or by its `Run.cancel`.

    Warns
    -----
    RuntimeWarning
        Engines died. The others did their work, and the results are complete.

    Notes
    -----
    What the call registered it releases, also when it fails. Interrupting it stops the engines:
    before their next item or batch, and those that are in a long one by a signal. Half a second
    later they are idle. During a call each engine uses one BLAS thread.

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
    >>> memapply(X, "rows", np.sort, out="array")
    array([[0., 1., 2.],
           [3., 4., 5.]])
    """
    try:
        which = _MARGINS[margin]
    except (KeyError, TypeError):
        raise ValueError(f"margin must be 1 or 'rows', 2 or 'cols', not {margin!r}") from None
    return _apply(
        *(X, which, fun, namespace, cluster, vars, max_cores),
        out=out,
        on_error=on_error,
        batch=batch,
        block=block,
        progress_after=progress_after,
    )


def memlapply(
    X: Any,
    fun: Callable[..., Any],
    namespace: str | None = None,
    cluster: AnyCluster = None,
    vars: Mapping[str, Any] | Sequence[str] | None = None,  # noqa: A002 -- the reference's name
    max_cores: int | None = None,
    *,
    out: str = "list",
    on_error: Literal["raise", "return"] = "raise",
    block: bool = True,
    progress_after: float | None = 2.0,
) -> Any:
    """Apply a function to each element of a shared list of arrays, on all engines.

    Parameters
    ----------
    X : list of arrays, or str
        The list, or the name of a page that holds one; as in `memapply`.
    fun, namespace, cluster, vars, max_cores, out, on_error, block, progress_after
        As in `memapply`; `fun` gets one element, a read-only array. An engine reads the elements
        that it works on and no others.

    Returns
    -------
    list, ndarray of shape (n_items, ...), View or Run
        The results in the order of the elements, as `out` and `block` say.

    Raises
    ------
    MemApplyError, TypeError, PageNotFoundError, NotEnoughMemoryError, ClusterError
        As in `memapply`.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import memlapply
    >>> memlapply([np.eye(2), np.ones((2, 3))], lambda el: float(el.sum()))
    [2.0, 6.0]
    """
    return _apply(
        *(X, None, fun, namespace, cluster, vars, max_cores),
        out=out,
        on_error=on_error,
        batch=False,
        block=block,
        progress_after=progress_after,
    )


def _apply(
    X: Any,
    margin: int | None,
    fun: Callable[..., Any],
    namespace: str | None,
    cluster: AnyCluster,
    variables: Mapping[str, Any] | Sequence[str] | None,
    max_cores: int | None,
    **options: Any,
) -> Any:
    try:
        call = _Call(X, margin, fun, namespace, cluster, variables, max_cores, **options)
        if options["block"]:
            result = call.finish()
            call.warn_of_losses(stacklevel=4)
            return result
    except BaseException as error:
        # A notebook keeps the last traceback, whose frames would keep this call's views alive.
        traceback.clear_frames(error.__traceback__)
        raise
    threading.Thread(target=call.finish_in_thread, name=repr(call.run), daemon=True).start()
    return call.run


class _Call:
    """One call, from its arguments to its results."""

    def __init__(
        self,
        X: Any,
        margin: int | None,
        fun: Callable[..., Any],
        namespace: str | None,
        cluster: AnyCluster,
        variables: Mapping[str, Any] | Sequence[str] | None,
        max_cores: int | None,
        *,
        out: str,
        on_error: str,
        batch: bool,
        block: bool,
        progress_after: float | None,
    ) -> None:
        named = bool(variables) and not isinstance(variables, Mapping)
        page, where = arguments.namespace_for(X, fun, namespace, named)
        arguments.check_parameters(fun, arguments.names_of(variables))
        self._page = _page_of(out, namespace or (None if "." in str(out) else where))
        _check_on_error(on_error, out)
        with contextlib.ExitStack() as stack:
            with uninterrupted():
                shared, count, labels = arguments.share_items(page or X, margin, where, stack)
                known = arguments.share_variables(variables or {}, where, stack)
            self._attached = [shared, known]  # kept for as long as the engines may attach them
            at_once = _batch_items(shared.value, count) if batch else 0
            engines = clusters.engines(cluster, max_cores)[:count] if count else []
            name = getattr(fun, "__name__", type(fun).__name__)
            whose = page or getattr(shared.value, "page", None) or "X"
            title = f"{name} over {count:,} {_KINDS[margin]} of {whose}"
            self.run = Run(title, count, [number for _, number in engines])
            with uninterrupted():
                self.run.begin()
                stack.callback(self.run.end)
                self._results = Results(count, self._area(out))
                stack.callback(self._results.close)
            progress = Progress(self.run, progress_after if block else None)
            stack.callback(progress.close)
            self._execution = Execution(
                *(self.run, engines),
                Task(
                    *(shared.sent, margin, fun, {k: v.sent for k, v in known.items()}),
                    *(at_once, on_error == "return"),
                ),
                self._results,
                lambda index: None if labels is None else labels[index],
                progress.update,
            )
            self._stack = stack.pop_all()

    def finish(self) -> Any:
        """Work, clean up and return the results."""
        try:
            try:
                if self.run.total:
                    self._execution.work()
                result = self._result()
            finally:
                with uninterrupted():
                    self._stack.close()
            self._attached.clear()
        except BaseException as error:
            self._attached.clear()
            traceback.clear_frames(error.__traceback__)
            self.run.set_exception(error)
            raise
        self.run.set_result(result)
        return result

    def finish_in_thread(self) -> None:
        """Do the same where nobody waits."""
        with contextlib.suppress(BaseException):  # it is the run's
            self.finish()
            self.warn_of_losses(stacklevel=2)

    def warn_of_losses(self, stacklevel: int) -> None:
        """Say which engines died, if any did."""
        if lost := self._execution.lost:
            warnings.warn(
                f"{died_text(lost)} during the call, perhaps for lack of memory; the others did "
                "what was not finished, and the results are complete",
                RuntimeWarning,
                stacklevel=stacklevel,
            )

    def _area(self, out: str) -> tuple[segment.Backend, str] | None:
        """Return where the array of the results is to be made, if there is to be one."""
        if out == "list":
            return None
        return segment.anonymous() if self._page is None else segment.choose()

    def _result(self) -> Any:
        results, regions = self._results, self._execution.regions
        form = results.complete(regions)
        if form is None:
            found = self._found(regions)
            if results.area is None:
                return found
            array = _stacked(found)
        elif self._page is None:
            return results.mapped(form)
        if self._page is None:
            return array
        if form is None:
            registry().register(self._page.namespace, {self._page.variable: array})
        else:
            dtype, shape = form
            registry().adopt(*self._page, results.take_area(), (self.run.total, *shape), dtype)
        return registry().attach(*self._page, hold=False)

    def _found(self, regions: int) -> list[Any]:
        found: list[Any] = [None] * self.run.total
        self._results.put(found, regions)
        for items, error in self._execution.given_up().items():
            found[items.start : items.stop] = [error] * len(items)
        return found


def _page_of(out: str, namespace: str | None) -> PageName | None:
    """Return the page that is to have the results, if one is."""
    if not isinstance(out, str):
        raise TypeError(f"out must be 'list', 'array' or a name, not {out!r}")
    return None if out in ("list", "array") else parse(out, namespace)


def _check_on_error(on_error: str, out: str) -> None:
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error must be 'raise' or 'return', not {on_error!r}")
    if on_error == "return" and out != "list":
        raise ValueError(
            "on_error='return' puts exceptions among the results, which an array cannot hold; "
            "leave out='list', or on_error='raise'"
        )


def _batch_items(value: Any, count: int) -> int:
    """Return how many rows or columns a batch may have."""
    matrix = matrix_of(value)
    if matrix is None:
        raise TypeError(
            "batch=True needs a matrix, and the columns of this frame are not one; pass "
            "df.to_numpy(), or leave batch out"
        )
    return max(1, count * _BATCH_BYTES // max(np.asarray(matrix).nbytes, 1))


def _stacked(results: list[Any]) -> np.ndarray[Any, Any]:
    """Make one array of results that the engines could not."""
    shapes = [np.shape(result) for result in results]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                "out='array' needs results of one shape: that of item 0 has shape "
                f"{shapes[0]}, that of item {index} {shape}; leave out='list'"
            )
    array = np.array(results)
    if array.dtype.hasobject:
        raise TypeError(
            "out='array' needs numbers or arrays of them as results, not "
            f"{type(results[0]).__name__}; leave out='list'"
        )
    return array
