"""The foreman: the part of a call that is on one host, in the process of that host's lead.

It has the queue and the results of the host's engines, as the caller has them in a call on its own
host. What the caller says is posted to the queue; what the engines leave is sent to the caller as
it is left: records as `worker.layout` says, the values of an array in them with their form.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from memshare_jupyter.apply._collect import Results
from memshare_jupyter.apply._queue import Queue
from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.engines.hosts import Lead
from memshare_jupyter.worker import Arena, is_alive, layout, posts_in

_TICK_S: Final = 0.02
_MOST_BYTES: Final = 32 << 20
"""So much is sent at once, that other hosts' are heard in between."""


class Left(NamedTuple):
    """A record that a worker left.

    Attributes
    ----------
    worker : int
        The worker of this host.
    kind, ranges, payload : int, list of range, bytes
        The record; of values of an array, these.
    form : Form or None
        Their dtype and shape.
    """

    worker: int
    kind: int
    ranges: list[range]
    payload: bytes
    form: layout.Form | None


class Lost(NamedTuple):
    """A worker that died.

    Attributes
    ----------
    worker : int
        The worker of this host.
    claimed : list of range
        What it had claimed, in its order.
    done, step : int
        How many of these items it had done, and within how many behind them it was.
    """

    worker: int
    claimed: list[range]
    done: int
    step: int


def lost(worker: int, control: Any, workers: int, queue_fd: int, posts_fd: int) -> Lost:
    """Return what is known of a worker that died."""
    log_at = layout.control_bytes(workers)
    log = os.pread(queue_fd, os.fstat(queue_fd).st_size - log_at, log_at)
    tickets = layout.claims_in(log)[:, 0].tolist()
    posted = zip(tickets, posts_in(posts_fd), strict=False)  # one is shorter, mostly
    claimed = [post for who, post in posted if who == worker]
    (done,) = layout.COUNT.unpack_from(control, layout.count_at(worker))
    (step,) = layout.COUNT.unpack_from(control, layout.step_at(worker))
    return Lost(worker, claimed, done, max(1, step))


class Foreman:
    """A call on one host.

    Parameters
    ----------
    lead : Lead
        What this process is for the caller.
    call : str
        What the call is known by.
    items, workers : int
        How many items it has in all, and how many engines of this host work.
    mine : int or None
        Which of them this process is.
    array : bool
        Whether the results are to be one array.
    """

    def __init__(
        self, lead: Lead, call: str, items: int, workers: int, mine: int | None, *, array: bool
    ) -> None:
        self._lead = lead
        self._mine = mine
        self._call = call
        self._workers = workers
        self._results = Results(items, blocks.anonymous() if array else None)
        self._queue = Queue(workers, ((),))
        self._posts = blocks.create(uuid.uuid4().bytes, 0, *blocks.anonymous())
        self._posted = 0
        self._at = [0] * workers
        self._told: dict[int, Lost] = {}
        self._over = threading.Event()
        self._closing = contextlib.ExitStack()
        self.address = layout.Address(
            *(self._queue.address, self._results.address, self._results.area_address),
            *(items, workers, ()),
            posts=registry().address(self._posts),
        )
        self._watching = threading.Thread(target=self._watch, name="memshare-foreman", daemon=True)
        self._watching.start()

    def post(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Have the engines do these items, one range after the other."""
        data = b"".join(layout.RANGE.pack(*one) for one in ranges)
        blocks.write_at(self._posts, data, self._posted)
        self._posted += len(data)

    def close_at_end(self, arena: Arena) -> None:
        """Close what the hand of this process has open only then.

        Closing a file takes all locks on it from the process: others would think that it is dead.
        """
        self._closing.callback(arena.close)

    def stop(self, *, at_once: bool) -> None:
        """Have them stop before their next item, or in this one."""
        self._queue.cancel(at_once=at_once)

    def end(self) -> None:
        """Have them stop, and let go of all; who still works then knows that nobody waits."""
        self._queue.cancel()
        self._over.set()

    def _watch(self) -> None:
        try:
            while not self._over.wait(_TICK_S):
                found: list[Any] = [*self._new(), *self._died()]
                if found:
                    self._lead.say(self._call, found)
        except Exception as error:  # noqa: BLE001 -- the caller is to know, whatever it is
            self._lead.say(self._call, [error.with_traceback(None)])
        finally:
            self._queue.close()
            self._results.close()
            self._posts.close()
            self._closing.close()

    def _new(self) -> Iterator[Left]:
        """Yield what was left since the last time, or the first of it."""
        size_bytes = 0
        fd = self._results.block.fd
        for worker in range(self._workers):
            for kind, ranges, (length, at) in layout.records(fd, worker, self._at[worker]):
                if kind == layout.IN_AREA:
                    payload = b"".join(map(self._results.bytes_of, ranges))
                    yield Left(worker, kind, ranges, payload, self._results.form)
                else:
                    payload = os.pread(fd, length, at)
                    yield Left(worker, kind, ranges, payload, None)
                self._at[worker] = at + length
                size_bytes += len(payload)
                if size_bytes > _MOST_BYTES:
                    return

    def _died(self) -> Iterator[Lost]:
        """Yield who has died, and who had died before and stands for a post that has come since."""
        for worker in self._queue.working():
            if worker == self._mine or is_alive(self._queue.fd, worker):
                continue
            control = self._queue.control
            found = lost(worker, control, self._workers, self._queue.fd, self._posts.fd)
            if self._told.get(worker) != found:
                self._told[worker] = found
                yield found


_foremen: Final[dict[tuple[Lead, str], Foreman]] = {}


def close_at_end(address: layout.Address, arena: Arena) -> bool:
    """Have the foreman of a call close an arena; say whether it is of this process."""
    for foreman in list(_foremen.values()):
        if foreman.address.queue.uuid == address.queue.uuid:
            foreman.close_at_end(arena)
            return True
    return False


# What leads are told to do.


def open_call(
    lead: Lead, call: str, items: int, workers: int, mine: int | None, array: bool
) -> layout.Address:
    """Begin a call on this host; return where its engines find it."""
    foreman = Foreman(lead, call, items, workers, mine, array=array)
    _foremen[lead, call] = foreman
    lead.at_end(call, lambda: end(lead, call))
    return foreman.address


def post(lead: Lead, call: str, ranges: Iterable[tuple[int, int]]) -> None:
    """Have these items done."""
    with contextlib.suppress(KeyError):
        _foremen[lead, call].post(ranges)


def stop(lead: Lead, call: str, at_once: bool) -> None:
    """Have the engines of this host stop."""
    with contextlib.suppress(KeyError):
        _foremen[lead, call].stop(at_once=at_once)


def end(lead: Lead, call: str) -> None:
    """End a call on this host."""
    lead.over(call)
    with contextlib.suppress(KeyError):
        _foremen.pop((lead, call)).end()
