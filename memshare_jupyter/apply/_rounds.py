"""Rounds: one call on its engines, until every item has a result or the call has an error.

It goes in rounds. In the first all engines work on the queue of all items. If engines died in a
round, what they had claimed and not finished is the queue of the next, for those that are left.
"""

from __future__ import annotations

import contextlib
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Final

from memshare_jupyter.apply._collect import Results
from memshare_jupyter.apply._interrupts import uninterrupted
from memshare_jupyter.apply._queue import Queue
from memshare_jupyter.apply._recovery import Recovery, died_text
from memshare_jupyter.apply._run import Run
from memshare_jupyter.engines import Engine, Messages
from memshare_jupyter.errors import ClusterError, MemApplyError
from memshare_jupyter.worker import Failure, Place, Task, dumps, killed, layout
from memshare_jupyter.worker import run as run_on_engine

_POLL_S: Final = 0.05
_GRACE_S: Final = 0.2
"""Engines stop by themselves before their next item; one that has not by then gets a signal."""

_GIVE_UP_S: Final = 0.25


class Rounds:
    """A call on its engines.

    Parameters
    ----------
    run : Run
        Whether it shall stop; told how far it is.
    engines : sequence of Engine
        Who shall work.
    task : Task
        What to do.
    results : Results
        Where the results go.
    label_of : callable
        Returns what people call an item, or None.
    watch : callable
        Called every twentieth of a second.

    Attributes
    ----------
    lost : list of int
        The engines that died.
    """

    def __init__(
        self,
        run: Run,
        engines: Sequence[Engine],
        task: Task,
        results: Results,
        label_of: Callable[[int], str | None],
        watch: Callable[[], None],
    ) -> None:
        self._run = run
        self._engines = list(engines)
        self._task = task
        self._results = results
        self._label_of = label_of
        self._watch = watch
        self._recovery = Recovery(run.total, task.batch)
        self._worked: list[int] = []  # in region i, engine number self._worked[i] left results
        self.lost: list[int] = []

    @property
    def regions(self) -> int:
        """How many regions of the results were given out."""
        return len(self._worked)

    def work(self) -> None:
        """Work until all results are there.

        Raises
        ------
        MemApplyError
            The function failed, or an item killed engines, and the task is not to keep going.
        ClusterError
            All engines died, or one cannot run this package.
        concurrent.futures.CancelledError
            The run was cancelled.
        """
        task = dumps(self._task)
        ranges: Sequence[tuple[int, int]] = ()
        while True:
            died = self._round(task, ranges)
            if not self._task.keep_going:
                for error in self.given_up().values():
                    raise error
            recorded = [r for region in range(self.regions) for r in self._results.recorded(region)]
            left = self._recovery.left(recorded)
            if not left:
                return
            self._refuse_if_hopeless(died, sum(map(len, left)))
            ranges = self._recovery.ranges(recorded, len(self._engines))

    def engine_of(self, region: int) -> int:
        """Return which engine left the results of a region."""
        return self._worked[region]

    def given_up(self) -> dict[range, MemApplyError]:
        """Return errors for the items at which one engine after another died."""
        return {
            items: killed(items, engines, self._label_of(items.start))
            for items, engines in self._recovery.given_up.items()
        }

    def _round(self, task: bytes, ranges: Sequence[tuple[int, int]]) -> list[int]:
        """Have the engines work on a queue until it is empty; return those that died."""
        engines, first = self._engines, self.regions
        messages = Messages()
        queue: Queue | None = None
        with contextlib.ExitStack() as this:
            try:
                with uninterrupted():
                    total, workers = self._run.total, len(engines)
                    queue = Queue(workers, ranges or layout.chunks(total, workers))
                    this.callback(queue.close)
                    this.enter_context(self._progress_of(queue))
                    blocks = queue.address, self._results.address, self._results.area_address
                    address = layout.Address(*blocks, total, workers, tuple(ranges))
                    for worker, engine in enumerate(engines):
                        self._worked.append(engine.number)
                        place = Place(address, worker, first + worker, engine.number)
                        messages.send(engine, run_on_engine, task, pickle.dumps(place))
                self._wait(messages)
            except BaseException:
                if queue is not None:
                    self._stop(queue, messages)
                raise
            if _failures(messages):
                self._stop(queue, messages)
                raise min(_failures(messages), key=_rank).as_error(self._label_of)
            claimed, done = queue.claimed(), queue.done()
        for worker, engine in enumerate(engines):
            if engine in messages.died:
                self._recovery.died(engine.number, claimed[worker], done[worker])
        self._engines = [engine for engine in engines if engine not in messages.died]
        self.lost += (died := [engine.number for engine in messages.died])
        return died

    def _wait(self, messages: Messages) -> None:
        """Wait for all answers, or the first failure."""
        while not messages.wait(_POLL_S) and not _failures(messages):
            self._watch()
            if self._run.stopping.is_set():
                done, total = self._run.progress, self._run.total
                raise CancelledError(f"cancelled after {done:,} of {total:,} items")

    def _stop(self, queue: Queue, messages: Messages) -> None:
        """Stop the engines. A second interrupt of the user's signals them at once."""
        queue.cancel()
        with contextlib.suppress(KeyboardInterrupt, ClusterError):
            if messages.wait_for_all(_GRACE_S):
                return
        with contextlib.suppress(KeyboardInterrupt, ClusterError):
            messages.interrupt()
            messages.wait_for_all(_GIVE_UP_S)

    @contextlib.contextmanager
    def _progress_of(self, queue: Queue) -> Iterator[None]:
        """Tell the run how many items each engine has done, now and afterwards."""
        numbers = [engine.number for engine in self._engines]
        everybody = self._run.engines  # of the run itself nothing is kept: that would be a cycle
        before = self._finished()

        def done_by_engine() -> list[int]:
            now = dict(zip(numbers, queue.done(), strict=True))
            return [before[number] + now.get(number, 0) for number in everybody]

        self._run.watch(done_by_engine)
        try:
            yield
        finally:
            after = self._finished()
            self._run.watch(lambda: [after[number] for number in everybody])

    def _finished(self) -> Counter[int]:
        finished: Counter[int] = Counter()
        for region, engine in enumerate(self._worked):
            finished[engine] += sum(map(len, self._results.recorded(region)))
        return finished

    def _refuse_if_hopeless(self, died: list[int], left: int) -> None:
        not_done = f"{left:,} of {self._run.total:,} items were not done"
        if not died:
            raise ClusterError(f"{not_done}, although no engine failed; try again")
        if not self._engines:
            raise ClusterError(
                f"{died_text(self.lost)} during the call, and no engine is left: {not_done}. They "
                "may have run out of memory; start engines again, and use fewer or smaller items",
                engine=died[-1],
            )


def _failures(messages: Messages) -> list[Failure]:
    found = [pickle.loads(answer) for answer in messages.answers]  # noqa: S301 -- our engines'
    return [failure for failure in found if failure is not None]


def _rank(failure: Failure) -> tuple[bool, bool, int]:
    # The first in the order of items, so that a call fails alike however it was shared out; an
    # engine that was stopped for it is no reason.
    interrupted = failure.error.startswith("KeyboardInterrupt")
    return interrupted, failure.items is None, failure.items.start if failure.items else 0
