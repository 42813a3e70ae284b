"""What one worker does in a call: claim items, apply the function to them, keep the results."""

from __future__ import annotations

import gc
import inspect
import linecache
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np

from memshare_jupyter.compute.queue import Claims, QueueAddress
from memshare_jupyter.core.process import registry


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
    """

    items: Any
    margin: int | None
    fun: Callable[..., Any]
    variables: dict[str, Any]
    queue: QueueAddress
    worker: int
    engine: int
    source: tuple[str, list[str]]


@dataclass(frozen=True, slots=True)
class Failure:
    """The first item at which the function failed on this worker."""

    index: int | None
    engine: int
    error: str
    remote_traceback: str
    pickled: bytes | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker sends back: results by the index of the first item of each chunk."""

    results: dict[int, list[Any]]
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
    index: int | None = None


def _work(task: Task, progress: _Progress) -> bytes:
    progress.engine = task.engine
    registry().label(f"engine {task.engine}")
    name, lines = task.source
    if lines and not linecache.getlines(name):
        linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
    items = _items(task)
    results: dict[int, list[Any]] = {}
    claims = Claims(task.queue, task.worker)
    try:
        for chunk in claims:
            results[chunk.start] = done = []
            for index in chunk:
                if claims.cancelled:
                    break
                progress.index = index
                done.append(task.fun(items[index], **task.variables))
            claims.count(len(done))
        progress.index = None
        return _pickled(results, progress)
    except BaseException:
        claims.cancel()
        raise
    finally:
        claims.close()


def _items(task: Task) -> Any:
    if task.margin is None:
        return task.items
    # A plain array and not a View: numpy builds slices of it ten times as fast.
    matrix = np.asarray(task.items)
    return matrix if task.margin == 1 else matrix.T


def _pickled(results: dict[int, list[Any]], progress: _Progress) -> bytes:
    try:
        return bytes(cloudpickle.dumps(Outcome(results)))
    except Exception:
        for start, done in results.items():
            for progress.index, result in enumerate(done, start):
                try:
                    cloudpickle.dumps(result)
                except Exception as error:
                    raise TypeError(
                        f"the result, a {type(result).__name__}, cannot be pickled: {error}"
                    ) from error
        progress.index = None
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
    return Failure(progress.index, progress.engine, said, text, pickled)
