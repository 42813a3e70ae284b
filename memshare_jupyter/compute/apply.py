"""What one worker does in a call: claim items, apply the function to them, keep the results."""

from __future__ import annotations

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
    index: int | None = None
    engine = -1
    claims = None
    results: dict[int, list[Any]] = {}
    try:
        task: Task = cloudpickle.loads(pickled_task)
        engine = task.engine
        registry().label(f"engine {engine}")
        name, lines = task.source
        if lines and not linecache.getlines(name):
            linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
        claims = Claims(task.queue, task.worker)
        items = _items(task)
        for chunk in claims:
            results[chunk.start] = done = []
            for index in chunk:
                if claims.cancelled:
                    break
                done.append(task.fun(items[index], **task.variables))
            claims.count(len(done))
        index = None
        return _pickled(Outcome(results), results)
    except BaseException as error:  # noqa: BLE001 -- everything is reported to the caller
        if claims is not None:
            claims.cancel()
        at = error.index if isinstance(error, _ResultError) else index
        return bytes(cloudpickle.dumps(Outcome({}, _failure(error, at, engine))))
    finally:
        if claims is not None:
            claims.close()


class _ResultError(TypeError):
    """A result cannot be sent back."""

    index: int


def _items(task: Task) -> Any:
    if task.margin is None:
        return task.items
    # A plain array and not a View: numpy builds slices of it ten times as fast.
    matrix = np.asarray(task.items)
    return matrix if task.margin == 1 else matrix.T


def _pickled(outcome: Outcome, results: dict[int, list[Any]]) -> bytes:
    try:
        return bytes(cloudpickle.dumps(outcome))
    except Exception as error:  # a result may refuse in any way it likes
        for start, done in results.items():
            for i, result in enumerate(done, start):
                try:
                    cloudpickle.dumps(result)
                except Exception as reason:  # noqa: BLE001 -- likewise
                    refused = _ResultError(
                        f"the result, a {type(result).__name__}, cannot be pickled: {reason}"
                    )
                    refused.index = i
                    raise refused from error
        raise


def _failure(error: BaseException, index: int | None, engine: int) -> Failure:
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
    return Failure(index, engine, said, text, pickled)
