"""The way of a call to engines and back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING, Any, Final

from memshare_jupyter.engines._alive import why_gone
from memshare_jupyter.engines._contact import answer, request
from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from memshare_jupyter.engines._choose import Engine

_LOOK_S: Final = 0.25


class Messages:
    """Messages to engines, each of which makes one run a function, and the answers.

    Attributes
    ----------
    answers : list
        What the functions returned, in the order of arrival.
    died : list of Engine
        The engines that will not answer any more.
    """

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.died: list[Engine] = []
        self._pending: dict[Any, Engine] = {}

    def send(self, engine: Engine, function: Callable[..., Any], *arguments: Any) -> None:
        """Have an engine call a module-level function of this package.

        Raises
        ------
        ClusterError
            There is no cluster any more.
        """
        if engine.client is None:
            self.answers.append(function(*arguments))
            return
        if engine.number not in engine.client.ids:
            self.died.append(engine)  # since it was listed
            return
        try:
            sent = engine.client[engine.number].apply_async(*request(engine, function, arguments))
        except (RuntimeError, OSError) as error:  # its client was closed
            raise _gone(engine, str(error)) from error
        self._pending[sent] = engine

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for an answer or the time; say whether all are there.

        Raises
        ------
        ClusterError
            An engine cannot run this package, or there is no cluster any more.
        """
        self._collect(timeout_s, futures.FIRST_COMPLETED)
        return not self._pending

    def wait_for_all(self, timeout_s: float | None = None) -> bool:
        """Wait for all answers or the time; as `wait`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._pending and (deadline is None or time.monotonic() < deadline):
            left = _LOOK_S if deadline is None else deadline - time.monotonic()
            self._collect(max(0.0, min(left, _LOOK_S)), futures.ALL_COMPLETED)
        return not self._pending

    @property
    def pending(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._pending)

    def take(self) -> list[Any]:
        """Return the answers, each once."""
        answers, self.answers = self.answers, []
        return answers

    def give_up(self) -> None:
        """Take back what engines have not begun, and wait for no answer any more."""
        for sent, engine in self._pending.items():
            with contextlib.suppress(Exception):  # it would fail when it begins, too
                client: Any = engine.client
                client.abort(sent.msg_ids, targets=[engine.number], block=False)
        self._pending.clear()

    def _collect(self, timeout_s: float | None, until: str) -> None:
        done = futures.wait(self._pending, timeout_s, until).done
        for found in done:
            engine = self._pending.pop(found)
            error = found.exception()
            if error is None:
                self.answers.append(answer(engine, found.result()))
            elif getattr(error, "ename", "") == "EngineError":
                self.died.append(engine)
            else:
                raise _unable(engine.number, error)
        if not done:
            for engine in self._pending.values():
                if why := why_gone(engine.client):
                    raise _gone(engine, why)


def _gone(engine: Engine, why: str) -> ClusterError:
    return ClusterError(
        f"engine {engine.number} cannot be reached: {why}; start a cluster again, and connect a "
        "new client to it (a local one is started by the next call without cluster=)",
        engine=engine.number,
    )


def _unable(engine: int, error: BaseException) -> ClusterError:
    text = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
    if "ModuleNotFoundError" in text:
        advice = "install memshare_jupyter in the engines' environment, in the same version"
    else:
        advice = "see whether the engine is still there (client.ids), and try again"
    message = f"engine {engine} did not do its part ({text}); {advice}"
    return ClusterError(message, engine=engine)
