"""memapply and memlapply, as users call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from memshare_jupyter.apply._call import apply

if TYPE_CHECKING:
    import numpy as np

    from memshare_jupyter.engines import AnyCluster

_MARGINS: Final[Mapping[Any, int]] = {1: 1, "rows": 1, 2: 2, "cols": 2}


def memapply(
    X: Any,
    margin: Literal[1, 2, "rows", "cols"],
    fun: Callable[..., Any],
    namespace: str | None = None,
    cluster: AnyCluster = None,
    vars: Mapping[str, Any] | Sequence[str] | None = None,  # noqa: A002 -- the reference's name
    max_cores: int | None = None,
    *,
    out: str | np.ndarray[Any, Any] = "list",
    on_error: Literal["raise", "return"] = "raise",
    batch: bool = False,
    block: bool = True,
    progress_after: float | None = 2.0,
    seed: int | Sequence[int] | np.random.SeedSequence | None = None,
    hands: int | None = None,
    quiet: bool = False,
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
        ipyparallel's, with engines on this host or on several, or what `local_cluster` returned.
        With None it is what ``%memshare cluster NAME`` chose, else a local cluster, which is
        started, kept for later calls, and ended with this process.
        Each host gets what the call needs once, and keeps it until it is released. A Client of
        dask.distributed does as well: each of its workers is an engine.
    vars : mapping of str to value, or sequence of str
        Further arguments of `fun`: values to register for the call, or names of variables that
        are registered in `namespace` already.
    max_cores : int, optional
        Use at most so many engines in this call; by default all. A local cluster has one less than
        this process may use cores, but two where there are two; `local_cluster` starts more.
    out : str or ndarray, default: "list"
        ``"list"``: return a list. ``"array"``: the results are numbers, or arrays of one shape;
        return them as one array, which the engines wrote. ``"series"``, ``"frame"``: a Series of
        the results, or a DataFrame of results that have several values each, with the labels of
        the frame `X`; as with ``DataFrame.apply``, what becomes of a column is a column. An array
        that can be written to, as ``ns.empty("s", n)`` is, with a place for each item: when all
        results are there they are written to it, and it is returned. Anything else is a name, as
        a variable of `namespace` or as ``"namespace.variable"``: the array stays registered under
        it, and a view is returned. Of no items the array has shape ``(0,)`` and dtype float64.
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
    seed : int, sequence of int or SeedSequence, optional
        Give `fun` a further argument `rng`, a `numpy.random.Generator` for each item, made of
        ``SeedSequence(seed, spawn_key=(index,))``: the results depend neither on how many engines
        there are nor on how often they die. With `batch` it is a list of them, one for each item.
    hands : int, optional
        For clusters of hundreds of engines, whose controller would be the bottleneck: start one
        engine on each host, and have it start so many processes there, which do its work. They
        stay for later calls, until the client is closed.
    quiet : bool, default: False
        Show nothing of what `fun` prints, logs or warns of. Otherwise it appears here at the end,
        with its engine and item; a warning once for each place, with how often it came.

    Returns
    -------
    list, ndarray of shape (n_items, ...), View, Series, DataFrame or Run
        The results in the order of the rows or columns, as `out` and `block` say.

    Raises
    ------
    MemApplyError
        `fun` failed, or gave another number of results than a batch has items: the message names
        the row, the column or the range of them, and the engine's traceback is shown. The other
        engines stop at once. Also if an item killed two engines.
    ValueError
        `margin`, `max_cores` or `hands` is none of these; or `hands` is given and the engines are
        those of the local cluster.
    TypeError
        `fun` does not take what `vars` gives, or cannot be sent to engines: the message names what
        of it cannot. Nothing was run. Also if the results fit no array; they are then in the
        error's attribute `results`, as whenever something fails after the last item.
    UnsupportedValueError
        `X` would lose something as an array, such as a mask, a unit or missing values, or is
        sparse; the message says what to do.
    PageExistsError
        `out` names a page of another process. Nothing was run.
    PageNotFoundError
        `X` or `vars` names a page that does not exist.
    NotEnoughMemoryError
        What is to be shared, or the array of the results, does not fit.
    ClusterError
        There are no engines, all of them died, or the cluster is gone. Or an engine differs from
        this process in what a call needs: Python, this package or runtime directory.
    concurrent.futures.CancelledError
        The run was cancelled, from the panel or by its `Run.cancel`.

    Warns
    -----
    UserWarning
        `fun` or `vars` have a generator of random numbers in them. Each engine gets a copy of it,
        and they all draw the same numbers: pass `seed`.
    RuntimeWarning
        Engines died, or hosts took no part. The others did their work, and the results are
        complete.

    Notes
    -----
    Results own their memory: none of them refers to a page, so they can be written to and pickled.
    What the call registered it releases, also when it fails. Interrupting it stops the engines:
    before their next item or batch, and those that are in a long one inside it. Half a second
    later they are idle; what else they have to do is not touched. They stop as well when this
    process is gone. During a call each engine uses one thread for linear algebra.

    Engines of the local cluster follow this process: its ``sys.path``, its working directory. One
    that dies is replaced. A module whose file was saved since this process began is sent as it is
    here. An array of 1 MB or more that `fun` mentions is shared for the call, and read-only there.
    In a function that engines work on, a call without `cluster` is done by that engine itself.

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
    >>> memapply(X, "cols", lambda column, rng: int(rng.integers(100)), seed=7)
    [30, 68, 39]
    """
    try:
        which = _MARGINS[margin]
    except (KeyError, TypeError):
        raise ValueError(f"margin must be 1 or 'rows', 2 or 'cols', not {margin!r}") from None
    return apply(
        *(X, which, fun, namespace, cluster, vars, max_cores),
        out=out,
        on_error=on_error,
        batch=batch,
        block=block,
        progress_after=progress_after,
        seed=seed,
        hands=hands,
        quiet=quiet,
    )


def memlapply(
    X: Any,
    fun: Callable[..., Any],
    namespace: str | None = None,
    cluster: AnyCluster = None,
    vars: Mapping[str, Any] | Sequence[str] | None = None,  # noqa: A002 -- the reference's name
    max_cores: int | None = None,
    *,
    out: str | np.ndarray[Any, Any] = "list",
    on_error: Literal["raise", "return"] = "raise",
    block: bool = True,
    progress_after: float | None = 2.0,
    seed: int | Sequence[int] | np.random.SeedSequence | None = None,
    hands: int | None = None,
    quiet: bool = False,
) -> Any:
    """Apply a function to each element of a shared list of arrays, on all engines.

    Parameters
    ----------
    X : list of arrays, dict of them, or str
        The list, or the name of a page that holds one; as in `memapply`. Of a dict the values are
        the elements, and the keys what errors and ``out="series"`` call them.
    fun : callable
        Called as ``fun(el, **vars)`` with one element, a read-only array. An engine reads the
        elements that it works on and no others.
    namespace, cluster, vars, max_cores, out, on_error, block, progress_after : optional
        As in `memapply`.
    seed, hands, quiet : optional
        Likewise.

    Returns
    -------
    list, ndarray of shape (n_items, ...), View, Series, DataFrame or Run
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
    return apply(
        *(X, None, fun, namespace, cluster, vars, max_cores),
        out=out,
        on_error=on_error,
        batch=False,
        block=block,
        progress_after=progress_after,
        seed=seed,
        hands=hands,
        quiet=quiet,
    )
