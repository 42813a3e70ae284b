"""The way of a call to engines and back: by messages, or by lines where there are some."""

from __future__ import annotations

import contextlib
import pickle
import select
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any, Final

from memshare_jupyter.engines._alive import why_gone
from memshare_jupyter.engines._contact import answer, request
from memshare_jupyter.engines._line import Line
from memshare_jupyter.engines._lines import lines_of
from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from memshare_jupyter.engines._choose import Engine

_LOOK_S: Final = 0.25
_BOTH_S: Final = 0.005
"""How often each is looked at, if there are answers to come by messages and by lines."""
_KNOWN_S: Final = 2.0
"""So long after its line has ended the cluster may still take an engine for alive."""


class Messages:
    """Messages to engines, each of which makes one run a function, and the answers.

    Attributes
    ----------
    answers : list
        What the functions returned, in the order of arrival.
    died : list of Engine
        The engines that will not answer any more.
    gave_up : bool
        Whether an answer was given up that was still to come.
    """

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.died: list[Engine] = []
        self._pending: dict[Any, tuple[Engine, bool]] = {}  # and whether it had to be here
        self._carried: set[Any] = set()
        self._lines: dict[int, tuple[Line, Engine]] = {}
        self.gave_up = False
        self._ended: dict[Engine, float] = {}  # their lines, and until when to wait for the cluster

    def work(self, engine: Engine, task: bytes, place: bytes, pages: Sequence[bytes]) -> None:
        """Have an engine work on a task: `worker.run`, by a line if there is one.

        With a line it keeps its views of `pages`, by uuid, until they end.

        Raises
        ------
        ClusterError
            There is no cluster any more.
        """
        # Imported here, because it brings cloudpickle, which those who detach views need not load.
        from memshare_jupyter.worker import CALL, run  # noqa: PLC0415

        if engine.client is not None and engine.number in engine.client.ids:
            lines = lines_of(engine.client)
            line = lines.take(engine)
            if line is not None:
                self._lines[line.end.fd] = line, engine
                lines.note_kept(engine.number, pages)
                if line.send(CALL, pickle.dumps((task, place, pages))):
                    return
                self._close(line)
        self._send(engine, run, (task, place), here=True)

    def send(self, engine: Engine, function: Callable[..., Any], *arguments: Any) -> None:
        """Have an engine, of whatever host, call a module-level function of this package.

        Raises
        ------
        ClusterError
            There is no cluster any more.
        """
        self._send(engine, function, arguments, here=False)

    def carry(self, engine: Engine, function: Callable[..., Any], *arguments: Any) -> list[str]:
        """Do so with what is large, either way: of this the controller keeps nothing.

        Returns what the client calls it, in whose `metadata` that stays.
        """
        sent = self._send(engine, function, arguments, here=False, large=True)
        names = list(getattr(sent, "msg_ids", ()))
        return names + [name.rpartition("_")[0] for name in names]

    def expect(self, engine: Engine, answer: futures.Future[Any]) -> None:
        """Wait for an answer that comes in some other way, too."""
        self._pending[answer] = engine, False

    def _send(
        self,
        engine: Engine,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        *,
        here: bool,
        large: bool = False,
    ) -> Any:
        if engine.client is None:
            self.answers.append(function(*arguments))
            return None
        if engine.number not in engine.client.ids:
            self.died.append(engine)  # since it was listed
            return None
        try:
            asked = request(engine, function, arguments, here=here)
            client: Any = engine.client
            # A broadcast to one: its scheduler does not have the Hub write down what passes.
            large = large and hasattr(client, "broadcast_view")
            view = client.broadcast_view([engine.number]) if large else client[engine.number]
            sent = view.apply_async(*asked)
        except IndexError:  # since it was looked for
            self.died.append(engine)
            return None
        except (RuntimeError, OSError) as error:  # its client was closed
            raise _gone(engine, str(error)) from error
        self._pending[sent] = engine, here
        if large:
            self._carried.add(sent)
        return sent

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for an answer or the time; say whether all are there.

        Raises
        ------
        ClusterError
            An engine cannot run this package, or there is no cluster any more.
        """
        self._collect(timeout_s, futures.FIRST_COMPLETED)
        return not self.pending

    def wait_for_all(self, timeout_s: float | None = None) -> bool:
        """Wait for all answers or the time; as `wait`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.pending and (deadline is None or time.monotonic() < deadline):
            left = _LOOK_S if deadline is None else deadline - time.monotonic()
            self._collect(max(0.0, min(left, _LOOK_S)), futures.ALL_COMPLETED)
        return not self.pending

    @property
    def pending(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._pending or self._lines or self._ended)

    @property
    def all_heard(self) -> bool:
        """Whether all engines have answered, so that none is still at it."""
        return not (self.pending or self.died or self.gave_up)

    def take(self) -> list[Any]:
        """Return the answers, each once."""
        answers, self.answers = self.answers, []
        return answers

    def give_up(self) -> None:
        """Take back what engines have not begun, and wait for no answer any more."""
        self.gave_up |= self.pending
        for sent, (engine, _) in self._pending.items():
            with contextlib.suppress(Exception):  # it would fail when it begins, too
                client: Any = engine.client
                client.abort(sent.msg_ids, targets=[engine.number], block=False)
        self._pending.clear()
        for line, _ in list(self._lines.values()):
            self._close(line)
        self._ended.clear()

    def _collect(self, timeout_s: float | None, until: str) -> None:
        if self._lines or self._ended:
            came = self._hear_or_wait(timeout_s)
        else:
            came = self._take(timeout_s, until)
        if not came:
            waited_for = [*(engine for engine, _ in self._pending.values()), *self._ended]
            waited_for += [engine for _, engine in self._lines.values()]
            for engine in waited_for:
                if why := why_gone(engine.client):
                    raise _gone(engine, why)

    def _hear_or_wait(self, timeout_s: float | None) -> bool:
        """Wait until something has come, by a line or by a message; say whether it has."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = _LOOK_S if deadline is None else max(0.0, deadline - time.monotonic())
            came = bool(self._pending) and self._take(0.0, futures.FIRST_COMPLETED)
            busy = bool(self._pending or self._ended)
            came = self._hear(0.0 if came else min(left, _BOTH_S if busy else _LOOK_S)) or came
            came = self._bury() or came
            if came or not left or deadline is None:
                return came

    def _hear(self, timeout_s: float) -> bool:
        """Take what comes by lines; say whether anything did."""
        from memshare_jupyter.worker import FAILED  # noqa: PLC0415 -- as in `work`

        poll = select.poll()
        for fd in self._lines:
            poll.register(fd, select.POLLIN)
        events = poll.poll(timeout_s * 1000)
        for fd, _ in events:
            line, engine = self._lines[fd]
            try:
                found = line.receive()
            except BlockingIOError:  # a packet of an earlier call
                continue
            if found is None:
                self._ended[engine] = time.monotonic() + _KNOWN_S
                self._close(line)
                continue
            kind, data = found
            if kind == FAILED:
                raise _unable(engine.number, data.decode())
            self.answers.append(data)
            del self._lines[fd]
            lines_of(engine.client).give_back(engine.number, line)
        return bool(events)

    def _bury(self) -> bool:
        """Take for dead whose line has ended, once the cluster knows; say whether there are any."""
        now, before = time.monotonic(), len(self._ended)
        for engine, until in list(self._ended.items()):
            client: Any = engine.client
            if engine.number not in client.ids or now > until:
                self.died.append(engine)
                del self._ended[engine]
        return len(self._ended) < before

    def _close(self, line: Line) -> None:
        self._lines.pop(line.end.fd, None)
        line.end.close()

    def _take(self, timeout_s: float | None, until: str) -> bool:
        """Take what comes by messages; say whether anything did."""
        done = futures.wait(self._pending, timeout_s, until).done
        for found in done:
            engine, here = self._pending.pop(found)
            error = found.exception()
            if error is None:
                result = found.result()[0] if found in self._carried else found.result()
                self._carried.discard(found)
                self.answers.append(answer(engine, result, here=here))
            elif getattr(error, "ename", "") == "EngineError":
                self.died.append(engine)
            else:
                name = getattr(error, "ename", type(error).__name__)
                raise _unable(engine.number, f"{name}: {getattr(error, 'evalue', error)}")
            lines_of(engine.client).take_in(engine.number)
        return bool(done)


def _gone(engine: Engine, why: str) -> ClusterError:
    return ClusterError(
        f"engine {engine.number} cannot be reached: {why}; start a cluster again, and connect a "
        "new client to it (a local one is started by the next call without cluster=)",
        engine=engine.number,
    )


def _unable(engine: int, text: str) -> ClusterError:
    if "ModuleNotFoundError" in text:
        advice = "install memshare_jupyter in the engines' environment, in the same version"
    else:
        advice = "see whether the engine is still there (client.ids), and try again"
    message = f"engine {engine} did not do its part ({text}); {advice}"
    return ClusterError(message, engine=engine)
