"""Rounds: one call on its engines, until every item has a result or the call has an error.

It goes in rounds. In the first all engines work on the queue of all items. If engines died in a
round, what they had claimed and not finished is the queue of the next, for those that are left.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Final

from memshare_jupyter.apply._collect import Results
from memshare_jupyter.apply._interrupts import uninterrupted
from memshare_jupyter.apply._queue import Queue
from memshare_jupyter.apply._recovery import Recovery, died_text
from memshare_jupyter.apply._run import Run
from memshare_jupyter.apply._stopping import GRACE_S, stop, working
from memshare_jupyter.core.quantities import count
from memshare_jupyter.engines import Engine, Messages, kept_for
from memshare_jupyter.errors import ClusterError, MemApplyError
from memshare_jupyter.worker import Failure, Place, Said, World, layout

_POLL_S: Final = 0.05


class Rounds:
    """A call on its engines.

    Parameters
    ----------
    run : Run
        Whether it shall stop; told how far it is.
    engines : sequence of Engine
        Who shall work.
    task : bytes
        What to do: a pickled `Task`.
    results : Results
        Where the results go.
    pages : sequence of bytes
        What engines may keep views of, by uuid.
    batch, keep_going
        As the task says.
    label_of : callable
        Returns what people call an item, or None.
    watch : callable
        Called every twentieth of a second.
    replace : callable or None
        Given the engines that there were, starts others for those that died.

    Attributes
    ----------
    lost : list of int
        The engines that died.
    left_out : list of str
        Which hosts took no part and why: none.
    said : list of Said
        What the function printed and warned of, by engine.
    """

    def __init__(
        self,
        run: Run,
        engines: Sequence[Engine],
        task: bytes,
        results: Results,
        *,
        pages: Sequence[bytes],
        batch: int,
        keep_going: bool,
        label_of: Callable[[int], str | None],
        watch: Callable[[], None],
        replace: Callable[[Sequence[int]], list[Engine]] | None,
    ) -> None:
        self._run = run
        self._engines = list(engines)
        self._task = task
        self._results = results
        self._pages = pages
        self._label_of = label_of
        self._watch = watch
        self._replace = replace
        self._keep_going = keep_going
        self._lines = kept_for(self._engines)
        self._recovery = Recovery(run.total, batch)
        self._failures: list[Failure] = []
        self.said: list[Said] = []
        self._worked: list[int] = []  # in region i, engine number self._worked[i] left results
        self.lost: list[int] = []
        self.left_out: list[str] = []

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
        ranges: Sequence[tuple[int, int]] = ()
        while True:
            died = self._round(self._task, ranges)
            if not self._keep_going:
                for error in self.given_up().values():
                    raise error
            recorded = self._recorded()
            left = self._recovery.left(recorded)
            if not left:
                return
            if died and self._replace is not None:
                self._take_on(len(died))
            self._refuse_if_hopeless(died, sum(map(len, left)))
            ranges = self._recovery.ranges(recorded, len(self._engines))

    def engine_of(self, region: int) -> int:
        """Return which engine left the results of a region."""
        return self._worked[region]

    def _take_on(self, number: int) -> None:
        """Have so many new engines in the next round."""
        assert self._replace is not None  # noqa: S101 -- asked before
        try:
            new = self._replace(self._worked)[:number]
        except ClusterError:
            if not self._engines:
                raise
            return  # those that are left do it
        self._engines += new
        self._run.engines += tuple(engine.number for engine in new)

    def given_up(self) -> dict[range, MemApplyError]:
        """Return errors for the items at which one engine after another died."""
        return self._recovery.errors(self._run.title, self._label_of)

    def _round(self, task: bytes, ranges: Sequence[tuple[int, int]]) -> list[int]:
        """Have the engines work on a queue until it is empty; return those that died."""
        engines, first = self._engines, self.regions
        messages = Messages()
        self._failures = []
        self._run.stream.again()
        queue: Queue | None = None
        with contextlib.ExitStack() as this:
            try:
                with uninterrupted():
                    total, workers = self._run.total, len(engines)
                    shares = (ranges,) if ranges else layout.shares(total, workers)
                    queue = Queue(workers, shares, self._lines)
                    this.callback(self._let_go, queue, messages)
                    this.enter_context(self._progress_of(queue))
                    blocks = queue.address, self._results.address, self._results.area_address
                    address = layout.Address(*blocks, total, workers, tuple(ranges))
                    # All engines of a call are of one cluster.
                    world = World.of_this_process() if engines[0].follows else None
                    places = []
                    for worker, engine in enumerate(engines):
                        self._worked.append(engine.number)
                        places.append(self._place(address, worker, first + worker, engine, world))
                    here = engines[0].client is None
                    if not here:
                        self._send(messages, engines, task, places)
                if here:  # where it can be interrupted
                    self._send(messages, engines, task, places)
                self._wait(queue, messages)
            except BaseException:
                if queue is not None:
                    stop(queue, messages, engines)
                self._listen(messages)
                raise
            if self._run.stream.begun:
                self._note(queue)
            if self._listen(messages):
                stop(queue, messages, engines)
                first_failure = first_of(self._listen(messages))
                self._run.stream.fail(first_failure.engine)
                raise first_failure.as_error(self._label_of)
            claimed, done, steps = queue.claimed(), queue.done(), queue.steps()
        for worker, engine in enumerate(engines):
            if engine in messages.died:
                self._recovery.died(engine.number, claimed[worker], done[worker], steps[worker])
        self._engines = [engine for engine in engines if engine not in messages.died]
        self.lost += (died := [engine.number for engine in messages.died])
        return died

    def _let_go(self, queue: Queue, messages: Messages) -> None:
        self._run.idle = not messages.gave_up
        self._results.again = messages.all_heard and not self.lost
        queue.close(again=messages.all_heard)

    @staticmethod
    def _place(
        address: layout.Address, worker: int, region: int, engine: Engine, world: World | None
    ) -> bytes:
        here = engine.client is None
        return pickle.dumps(Place(address, worker, region, engine.number, world, here))

    def _send(
        self, messages: Messages, engines: Sequence[Engine], task: bytes, places: Sequence[bytes]
    ) -> None:
        for engine, place in zip(engines, places, strict=True):
            messages.work(engine, task, place, self._pages)

    def _wait(self, queue: Queue, messages: Messages) -> None:
        """Wait for all answers, or the first failure, or all results."""
        while not messages.wait(_POLL_S) and not self._listen(messages):
            self._watch()
            self._note(queue)
            if self._run.stopping.is_set():
                done, items = self._run.progress, count(self._run.total, "item")
                raise CancelledError(f"cancelled after {done:,} of {items}")
            early = bool(messages.died) and self._replace is not None
            if early:
                queue.cancel()  # the next round has as many engines as this one had
            if self._all_there(queue) or (early and not working(queue, messages, self._engines)):
                # An engine that has not answered is stopped, or has something else to do first.
                queue.cancel()
                if not messages.wait_for_all(GRACE_S):
                    messages.give_up()
                return

    def _note(self, queue: Queue) -> None:
        """Note for the run's stream who does what."""
        engines = [engine.number for engine in self._engines]
        done = dict(zip(engines, queue.done(), strict=True))
        failed = dict(zip(engines, queue.failed(), strict=True))
        working = {engines[worker] for worker in queue.working()}
        self._run.stream.note(time.time(), done, failed, working)

    def _all_there(self, queue: Queue) -> bool:
        if sum(queue.done()) < queue.items:
            return False
        return not self._recovery.left(self._recorded())

    def _recorded(self) -> list[range]:
        return [r for region in range(self.regions) for r in self._results.recorded(region)]

    def _listen(self, messages: Messages) -> list[Failure]:
        """Take in what engines have answered; return the failures of this round."""
        for answer in messages.take():
            failure, said = pickle.loads(answer)  # noqa: S301 -- our engines'
            self.said.append(said)
            if failure is not None:
                self._failures.append(failure)
        return self._failures

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
        not_done = f"{left:,} of {count(self._run.total, 'item')} were not done"
        if not died:
            raise ClusterError(f"{not_done}, although no engine failed; try again")
        if not self._engines:
            raise ClusterError(
                f"{died_text(self.lost)} during the call, and no engine is left: {not_done}. They "
                "may have run out of memory; start engines again, and use fewer or smaller items",
                engine=died[-1],
            )


def first_of(failures: Sequence[Failure]) -> Failure:
    """Return the first in the order of items: so a call fails alike however it was shared out."""

    def rank(failure: Failure) -> tuple[bool, bool, int]:
        # An engine that was stopped for it is no reason.
        interrupted = failure.error.startswith("KeyboardInterrupt")
        return interrupted, failure.items is None, failure.items.start if failure.items else 0

    return min(failures, key=rank)
