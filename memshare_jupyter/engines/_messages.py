"""The way of a call to engines and back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING, Any

from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from memshare_jupyter.engines._choose import Engine


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
        """Have an engine call a module-level function of this package."""
        if engine.number not in engine.client.ids:
            self.died.append(engine)  # since it was listed
            return
        answer = engine.client[engine.number].apply_async(function, *arguments)
        self._pending[answer] = engine

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for an answer or the time; say whether all are there.

        Raises
        ------
        ClusterError
            An engine cannot run this package.
        """
        self._collect(timeout_s, futures.FIRST_COMPLETED)
        return not self._pending

    def wait_for_all(self, timeout_s: float | None = None) -> bool:
        """Wait for all answers or the time; as `wait`."""
        self._collect(timeout_s, futures.ALL_COMPLETED)
        return not self._pending

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the functions that still run."""
        for client, number in self._pending.values():
            if number in client.ids:
                client.send_signal(signal.SIGINT, targets=number, block=False)

    def _collect(self, timeout_s: float | None, until: str) -> None:
        for answer in futures.wait(self._pending, timeout_s, until).done:
            engine = self._pending.pop(answer)
            error = answer.exception()
            if error is None:
                self.answers.append(answer.result())
            elif getattr(error, "ename", "") == "EngineError":
                self.died.append(engine)
            else:
                raise _unable(engine.number, error)


def _unable(engine: int, error: BaseException) -> ClusterError:
    text = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
    if "ModuleNotFoundError" in text:
        advice = "install memshare_jupyter in the engines' environment, in the same version"
    else:
        advice = "see whether the engine is still there (client.ids), and try again"
    message = f"engine {engine} did not do its part ({text}); {advice}"
    return ClusterError(message, engine=engine)
