"""What one worker does in a call: claim items, apply the function to them, keep the results."""

from __future__ import annotations

import contextlib
import gc
import pickle
import time
import traceback
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy import ndarray

from memshare_jupyter.core import quantities
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import Elements
from memshare_jupyter.worker import _kept
from memshare_jupyter.worker._arena import Arena
from memshare_jupyter.worker._claims import Claims
from memshare_jupyter.worker._failures import Failure, name_of
from memshare_jupyter.worker._frames import columns_of
from memshare_jupyter.worker._gathering import is_gathered
from memshare_jupyter.worker._items import Items
from memshare_jupyter.worker._posts import Posted
from memshare_jupyter.worker._said import Listener, Said, listening
from memshare_jupyter.worker._task import Place, Task
from memshare_jupyter.worker._threads import one_thread
from memshare_jupyter.worker._watch import Watched, watched
from memshare_jupyter.worker._writer import NotPicklable, Writer, at_once

_in_call: int | None = None
_STEP_S: Final = 1e-4


def engine_of_this_call() -> int | None:
    """Return the engine of which this process works in a call at this moment; None for none."""
    return _in_call


def run(pickled_task: bytes, pickled_place: bytes) -> bytes:
    """Work on a `Task` as `run_in` does, with the caller's memory open for this call only."""
    arena = Arena()
    try:
        return run_in(arena, pickled_task, pickled_place)
    finally:
        arena.close()


def run_in(
    arena: Arena, pickled_task: bytes, pickled_place: bytes, pages: Collection[bytes] = ()
) -> bytes:
    """Work on a `Task` until the queue is empty; return (None or a `Failure`, `Said`), pickled.

    All handles that the task needs end with this call, but for those on `pages`, which the arena
    keeps. An exception in the function cancels the call for every worker, unless it is to keep
    going; nothing is raised.
    """
    global _in_call  # noqa: PLW0603 -- a process does one thing at a time
    outer = _in_call
    worker = _Worker(arena)
    failure = place = None
    had = registry().used_views
    try:
        place = pickle.loads(pickled_place)  # noqa: S301 -- from the caller
        _in_call = worker.engine = place.engine
        worker.work(pickled_task, place, pages)
    except BaseException as error:
        failure = worker.failure_of(error)
        traceback.clear_frames(error.__traceback__)  # of what fun was given, here and now
        if place is not None and place.here and not isinstance(error, Exception):
            raise  # it is for the call around this one
    finally:
        _in_call = outer
    said = worker.said
    del worker
    if registry().used_views > had:
        # What the function made refers to itself, as a traceback does and its frames, and to the
        # views of this call: without this, they would stay until this process happens to collect
        # its garbage.
        gc.collect()
    _kept.look()
    return pickle.dumps((failure, said))


class _Worker:
    """One worker in a call, and how far it is: that is for the report of a failure."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.engine = -1
        self._function = "the function"
        self._from = self._width = 0
        self._done: list[Any] = []  # results of the items from there on
        self._enough = self._step = 1
        mine = weakref.ref(self)  # a cycle would keep what was attached
        self._listener = Listener(lambda: -1 if (w := mine()) is None or not w._width else w._at)

    @property
    def _at(self) -> int:
        return self._from + len(self._done)

    @_at.setter
    def _at(self, item: int) -> None:
        self._from, self._done = item, []

    def work(self, pickled_task: bytes, place: Place, pages: Collection[bytes]) -> None:
        queue = Claims if place.address.posts is None else Posted
        self._claims = queue(self._arena, place.address, place.worker)
        watching: contextlib.AbstractContextManager[Watched]
        watching = contextlib.nullcontext(Watched(self._claims))
        if not place.here:
            registry().label(f"engine {place.engine}")
            watching = watched(self._claims)
        try:
            with watching as self._watched, listening(self._listener), one_thread():
                if place.world is not None:
                    place.world.follow()
                task = pickle.loads(pickled_task)  # noqa: S301 -- from the caller
                self._arena.keep(pages)
                self._begin(task, place)
        except BaseException:
            self._claims.cancel()
            raise
        finally:
            self._claims.close()

    def _begin(self, task: Task, place: Place) -> None:
        self._task = task
        self._function = name_of(task.fun)
        self._variables = {
            key: list(v) if isinstance(v, Elements) else v for key, v in task.variables.items()
        }
        self._fun = self._with_variables()
        self._items = Items(task.value, task.margin, place.address.workers)
        substitute = self._substitute if task.keep_going else None
        self._results = Writer(self._arena, place.address, place.region, substitute)
        try:
            self._watched.arm()
            self._work()
        finally:
            self._watched.armed = False
            self._results.close()
            del self._results  # it refers to this worker, too

    @property
    def said(self) -> Said:
        """What was printed and warned of so far."""
        self._listener.said.engine = self.engine
        return self._listener.said

    def failure_of(self, error: BaseException) -> Failure:
        """Describe what happened to the item, or the batch of items, it is at."""
        printed = self._listener.last(self._at) if self._width else ""
        whose = (self.items, self.engine, self._function)
        return Failure.of(error, *whose, __file__, printed)

    @property
    def items(self) -> range | None:
        """The item, or the batch of items, it is at."""
        return range(self._at, self._at + self._width) if self._width else None

    def _with_variables(self) -> Callable[[Any], Any]:
        fun, variables, seeds = self._task.fun, self._variables, self._task.seeds
        if seeds is not None:
            mine = weakref.proxy(self)
            return lambda item: fun(item, **variables, rng=seeds.generator(mine._at))
        return partial(fun, **variables) if variables else fun

    def _work(self) -> None:
        work = self._one_by_one if self._task.batch == 0 else self._in_batches
        for chunk in self._claims:
            work(chunk)
            self._listener.displays.look()
            # With nothing to do at the moment there is time for it.
            self._write(self._results.flush_if_due if chunk else self._results.flush)
        self._write(self._results.flush)
        self._width = 0

    def _one_by_one(self, chunk: range) -> None:
        self._width = 1
        self._done, self._enough = self._results.begin(chunk.start), 1
        self._from = chunk.start
        for items in self._items.each(chunk):
            if not self._several(iter(items), len(items)):
                break

    def _several(self, items: Iterator[Any], count: int) -> bool:
        """Do so many items, some at a time; say whether nobody wants the worker to stop.

        What this costs is what an item costs if the function does nothing. So whether to stop is
        looked at, and the items are counted, once in a step of a fraction of a millisecond, and
        when the thread that watches finds that a step takes longer.
        """
        claims, due = self._claims, self._watched.due
        clock, step = time.perf_counter, self._step
        while count:
            if claims.stop[0]:
                return False
            # No more than can be kept until they are written down.
            step = min(step, count, max(1, self._enough - len(self._done)))
            claims.step[0] = step
            before, begin = len(self._done), clock()
            last = self._apply(islice(items, step))
            took_s, done = clock() - begin, self._done
            new = len(done) - before
            claims.done[0] += new
            count -= new
            if ndarray in (type(done[before]), type(done[-1])):
                own_parts(done, before, last)
            if due[0] or len(done) >= self._enough:
                self._look(due)
            if took_s < _STEP_S:
                step *= 2
            elif took_s > 4 * _STEP_S:
                step = max(1, step // 2)
            self._step = step
        return True

    def _apply(self, items: Iterator[Any]) -> Any:
        """Apply the function to items, as far as nothing is due meanwhile; return the last one."""
        item = None
        fun, append, due = self._fun, self._done.append, self._watched.due
        keep_going = self._task.keep_going
        while True:
            try:
                for item in items:
                    append(fun(item))
                    if due[0]:
                        break
                return item
            except Exception as error:
                if not keep_going:
                    raise
                append(_as_result(error, self))

    def _look(self, due: bytearray) -> None:
        """Write down what there is, if there is much or it has waited for long."""
        self._enough = at_once(self._done[-1])
        if due[0] or len(self._done) >= self._enough:
            due[0] = 0
            self._listener.displays.look()
            following = self._at
            self._write(self._results.flush)
            self._done, self._from = self._results.begin(following), following

    def _in_batches(self, chunk: range) -> None:
        for start in range(chunk.start, chunk.stop, self._task.batch):
            if self._claims.stop[0]:
                break
            some = range(start, min(start + self._task.batch, chunk.stop))
            self._at, self._width = start, len(some)
            found: Sequence[Any] | np.ndarray[Any, Any]
            try:
                if self._task.seeds is not None:
                    self._variables["rng"] = [self._task.seeds.generator(i) for i in some]
                given = self._task.fun(self._items.batch(some), **self._variables)
                found = _one_each(given, len(some))
            except Exception as error:
                if not self._task.keep_going:
                    raise
                found = [_as_result(error, self)] * len(some)
            self._write(self._results.add, start, found)
            self._claims.done[0] += len(some)
            self._write(self._results.flush_if_due)

    def _substitute(self, index: int, error: Exception) -> Failure:
        self._at, self._width = index, 1
        return _as_result(error, self)

    def _write(self, write: Callable[..., None], *args: Any) -> None:
        try:
            write(*args)
        except NotPicklable as refused:
            self._at, self._width = refused.index, 1
            raise refused.error from None


def _as_result(error: Exception, worker: _Worker) -> Failure:
    """Return what stands for a result that could not be had, traceback included."""
    worker._claims.failed[0] += worker._width
    return worker.failure_of(error)


def _one_each(found: Any, count: int) -> Sequence[Any] | np.ndarray[Any, Any]:
    """Check that these are so many results, and let go of the memory that they are views of."""
    if columns_of(found) is not None:
        raise ValueError(
            f"with batch=True the function returned a {type(found).__name__}, which is a sequence "
            "of its columns' names; return its rows, as in df.to_numpy(), or a list"
        )
    try:
        number = None if isinstance(found, str | bytes | Mapping | AbstractSet) else len(found)
        if number is not None and not isinstance(found, np.ndarray):
            found = list(found)
            number = len(found)
    except TypeError:  # no container, or an array of no dimension
        number = None
    if number != count:
        results = quantities.count(count, "result")
        given = f"one {type(found).__name__}" if number is None else str(number)
        raise ValueError(
            f"with batch=True the function must return a sequence or array of {results}, "
            f"one for each item of this batch, but it returned {given}"
        )
    if isinstance(found, np.ndarray):
        return _own(found)
    return [_own(result) if isinstance(result, np.ndarray) else result for result in found]


def _own(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.base is None else array.copy()


def own_parts(results: list[Any], first: int, item: Any) -> None:
    """Have results, of this item and those before it, keep no more memory than they need.

    A part of an array of the function's own would keep all of that; one of the item's, as it is
    in shared memory, keeps nothing. A part of a gathered item is copied if it is small.
    """
    for at in range(first, len(results)):
        result = results[at]
        if type(result) is ndarray and result.base is not None:
            base: Any = result.base
            if not isinstance(base, ndarray) or 2 * result.nbytes >= base.nbytes:
                continue
            if base is not getattr(item, "base", None) or is_gathered(base):
                results[at] = result.copy()
