"""What one worker does in a call: claim items, apply the function to them, keep the results."""

from __future__ import annotations

import gc
import inspect
import linecache
import traceback
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle
import numpy as np

from memshare_jupyter.compute._threads import one_blas_thread
from memshare_jupyter.compute.queue import Claims, QueueAddress
from memshare_jupyter.core.process import registry

Results = Sequence[Any] | np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """A call as it is sent to one worker: a few hundred bytes, because views go by reference.

    Attributes
    ----------
    items : array of shape (n_rows, n_columns), or sequence
        What to apply the function to.
    margin : {1, 2, None}
        Its rows, its columns, or its elements.
    fun : callable
        Gets an item, and `variables` by keyword.
    variables : dict of str to View
        Further arguments.
    queue : QueueAddress
        Hands out the items.
    worker, engine : int
        The worker's number in this call; the engine's id in the cluster.
    source : tuple of str and list of str
        Name and lines of the cell or file that defines `fun`, for tracebacks on the engine.
    batch : int
        Give `fun` up to so many rows or columns at once, as a matrix; 0 for one at a time.
    """

    items: Any
    margin: int | None
    fun: Callable[..., Any]
    variables: dict[str, Any]
    queue: QueueAddress
    worker: int
    engine: int
    source: tuple[str, list[str]]
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """The first item, or batch of items, at which the function failed on this worker."""

    items: range | None
    engine: int
    error: str
    remote_traceback: str
    pickled: bytes | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker sends back: results by the index of the first of these items."""

    results: dict[int, Results]
    failure: Failure | None = None


def source_of(fun: Callable[..., Any]) -> tuple[str, list[str]]:
    """Return name and lines of the cell or file that defines `fun`."""
    code = getattr(inspect.unwrap(fun), "__code__", None)
    name = code.co_filename if code is not None else ""
    return name, linecache.getlines(name)


def run(pickled_task: bytes) -> bytes:
    """Work on a pickled `Task` until the queue is empty; return a pickled `Outcome`.

    All handles that the task needs end with this call. An exception in the function cancels the
    call for every worker and is part of the outcome; nothing is raised.
    """
    progress = _Progress()
    try:
        return _work(cloudpickle.loads(pickled_task), progress)
    except BaseException as error:  # noqa: BLE001 -- everything is reported to the caller
        answer = Outcome({}, _failure(error, progress))
    # A traceback and its frames refer to each other, and to the views of this call: without
    # this, they would stay until the engine happens to collect its garbage.
    gc.collect()
    return bytes(cloudpickle.dumps(answer))


@dataclass(slots=True)
class _Progress:
    """How far a task is, for the report of a failure."""

    engine: int = -1
    items: range | None = None


def _work(task: Task, progress: _Progress) -> bytes:
    progress.engine = task.engine
    registry().label(f"engine {task.engine}")
    name, lines = task.source
    if lines and not linecache.getlines(name):
        linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
    task = replace(task, items=_items(task))
    results: dict[int, Results] = {}
    work = _one_by_one if task.batch == 0 else _in_batches
    claims = Claims(task.queue, task.worker)
    try:
        with one_blas_thread():
            for chunk in claims:
                work(task, chunk, claims, results, progress)
        progress.items = None
        return _pickled(results, progress)
    except BaseException:
        claims.cancel()
        raise
    finally:
        claims.close()


def _one_by_one(
    task: Task,
    chunk: range,
    claims: Claims,
    results: dict[int, Results],
    progress: _Progress,
) -> None:
    done: list[Any] = []
    results[chunk.start] = done
    for index in chunk:
        if claims.cancelled:
            break
        progress.items = range(index, index + 1)
        done.append(task.fun(task.items[index], **task.variables))
    claims.count(len(done))


def _in_batches(
    task: Task,
    chunk: range,
    claims: Claims,
    results: dict[int, Results],
    progress: _Progress,
) -> None:
    for start in range(chunk.start, chunk.stop, task.batch):
        if claims.cancelled:
            break
        progress.items = some = range(start, min(start + task.batch, chunk.stop))
        # Strided columns are not gathered. For 16 MB of a row-wise matrix that takes 3 ms, whereas
        # functions that work along its rows are as fast without it (a product with a vector 1 ms
        # and 4, a standard deviation 6 and 8); only those that go column by column gain (24, 6).
        batch = task.items[some.start : some.stop]
        found = task.fun(batch if task.margin == 1 else batch.T, **task.variables)
        results[start] = _one_each(found, len(some))
        claims.count(len(some))


def _one_each(found: Any, count: int) -> Results:
    """Check that these are so many results, and let go of the memory that they are views of."""
    try:
        number = None if isinstance(found, str | bytes | Mapping | AbstractSet) else len(found)
    except TypeError:  # no container, or an array of no dimension
        number = None
    if number != count:
        given = f"one {type(found).__name__}" if number is None else str(number)
        raise ValueError(
            f"with batch=True the function must return a sequence or array of {count} results, "
            f"one for each item of this batch, but it returned {given}"
        )
    if isinstance(found, np.ndarray):
        return _own(found)
    return [_own(result) if isinstance(result, np.ndarray) else result for result in found]


def _own(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.base is None else array.copy()


def _items(task: Task) -> Any:
    if task.margin is None:
        return task.items
    # A plain array and not a View: numpy builds slices of it ten times as fast.
    matrix = np.asarray(task.items)
    return matrix if task.margin == 1 else matrix.T


def _pickled(results: dict[int, Results], progress: _Progress) -> bytes:
    try:
        return bytes(cloudpickle.dumps(Outcome(results)))
    except Exception:
        for start, done in results.items():
            for index, result in enumerate(done, start):
                progress.items = range(index, index + 1)
                try:
                    cloudpickle.dumps(result)
                except Exception as error:
                    raise TypeError(
                        f"the result, a {type(result).__name__}, cannot be pickled: {error}"
                    ) from error
        progress.items = None
        raise


def _failure(error: BaseException, progress: _Progress) -> Failure:
    try:
        pickled = cloudpickle.dumps(error)
        cloudpickle.loads(pickled)
    except Exception:  # noqa: BLE001 -- an exception class may refuse in any way it likes
        pickled = None
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next  # begin at the user's code
    text = "".join(traceback.format_exception(type(error), error, frames))
    said = "".join(traceback.format_exception_only(error)).strip()
    return Failure(progress.items, progress.engine, said, text, pickled)
