"""dask's workers as engines: what we use of an ipyparallel client, made of a client of dask's.

A worker is one engine, however many threads it has. dask does not say that a worker has died which
alone could do a task: it waits for another one of that address. So who has gone from the
scheduler's list counts as dead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final

_LOOK_S: Final = 1.0
_OURS: Final = "_memshare_workers"


class WorkerDied(Exception):  # noqa: N818 -- it stands for ipyparallel's of that meaning
    """The worker of a task is gone."""

    ename = "EngineError"


class _Answer(Future[Any]):
    """What a worker will answer.

    Attributes
    ----------
    msg_ids : list of str
        What names the task, as ipyparallel's names a message.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.msg_ids = [key]


class Worker:
    """One worker, which can be sent a task."""

    def __init__(self, workers: Workers, number: int) -> None:
        self._workers = workers
        self._number = number

    def apply_async(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have it call a function."""
        return self._workers.submit(self._number, function, arguments)


class Workers:
    """The workers of a client of dask's.

    Parameters
    ----------
    client : distributed.Client
        It.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._engines: dict[int, str] = {}
        self._pending: dict[_Answer, tuple[int, Any]] = {}
        self._lock = threading.Lock()
        self._watching = False

    @property
    def ids(self) -> list[int]:
        """The numbers of the workers that live."""
        found = set(self._client.scheduler_info(n_workers=-1)["workers"])
        with self._lock:
            known = set(self._engines.values())
            for address in sorted(found - known):
                self._engines[len(self._engines)] = address
            return [number for number, address in self._engines.items() if address in found]

    @property
    def _closed(self) -> bool:
        return self._client.status in ("closed", "closing")

    def why_gone(self) -> str:
        """Say why no worker can be reached any more; empty if some may."""
        return "its client was closed" if self._closed else ""

    def __getitem__(self, number: int) -> Worker:
        return Worker(self, number)

    def submit(
        self, number: int, function: Callable[..., Any], arguments: Sequence[Any]
    ) -> Future[Any]:
        """Have a worker call a function, and no other one."""
        sent = self._client.submit(
            function,
            *arguments,
            workers=[self._engines[number]],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        answer = _Answer(sent.key)
        with self._lock:
            self._pending[answer] = number, sent
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="memshare-dask", daemon=True).start()
        sent.add_done_callback(lambda sent: self._answered(answer, sent))
        return answer

    def abort(self, names: Sequence[str], **_: Any) -> None:
        """Take back tasks, by their `msg_ids`; one that a worker has begun goes on to its end."""
        with self._lock:
            given_up = [sent for _, sent in self._pending.values() if sent.key in names]
        self._client.cancel(given_up)

    def _answered(self, answer: _Answer, sent: Any) -> None:
        with self._lock:
            if self._pending.pop(answer, None) is None:
                return
        error = WorkerDied("cancelled") if sent.cancelled() else sent.exception()
        if type(error).__name__ in ("KilledWorker", "NoValidWorkerError"):
            error = WorkerDied(str(error))
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(sent.result())

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(_LOOK_S)
            living = set() if self._closed else set(self.ids)
            with self._lock:
                lost = [one for one, (number, _) in self._pending.items() if number not in living]
                for answer in lost:
                    del self._pending[answer]
                self._watching = bool(self._pending)
                watching = self._watching
            for answer in lost:
                answer.set_exception(WorkerDied("it is not on the scheduler's list any more"))
            if not watching:
                return


def is_dask(cluster: object) -> bool:
    """Say whether that is a client of dask's, which is not loaded for it."""
    kind = type(cluster)
    return kind.__module__.partition(".")[0] == "distributed" and kind.__name__ == "Client"


def workers_of(client: Any) -> Workers:
    """Return its workers; of one client always the same object."""
    found: Workers | None = getattr(client, _OURS, None)
    if found is None:
        found = Workers(client)
        setattr(client, _OURS, found)
    return found
