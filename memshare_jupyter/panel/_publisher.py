"""The thread that keeps a panel's pages up to date, and when it runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from memshare_jupyter.panel._feed import Feed, Message

TICK_S: Final = 0.5
"""How often the registry is looked at."""
NOBODY_S: Final = 5.0
"""Who was left asks who else is there; after this long without an answer nobody is."""
ROLL_CALL_S: Final = 60.0
"""A browser that was closed does not say so. Messages to nobody would keep an idle kernel from
being ended by its server, so we ask from time to time."""
_ANSWERS_KEPT: Final = 20
_STOP_S: Final = 2.0
_UNASKED_TICKS: Final = 64


class Publisher:
    """Sends the messages of a panel, all from one daemon thread.

    A thread goes on while a cell runs, which nothing on the kernel's event loop does. All methods
    may be called from any thread.

    Messages are numbered, so that a page sees when one was lost, as by a server that limits their
    rate, and asks for everything; with that the latest answers come again.

    Parameters
    ----------
    feed : Feed
        What there is to say.
    send : callable
        Sends a message to all pages that show the panel.
    idle : callable
        Called after every look, on the same thread.
    nobody : callable
        Called on the same thread before it ends because nobody is there.

    Attributes
    ----------
    heard_at_once : dict of str to bool
        For each page that shows the panel, whether it is heard while a cell runs. Otherwise no
        answer does not mean that nobody is there.
    """

    def __init__(
        self,
        feed: Feed,
        send: Callable[[Message], None],
        idle: Callable[[], None],
        nobody: Callable[[], None],
    ) -> None:
        self._feed = feed
        self._send = send
        self._idle = idle
        self._nobody = nobody
        self._number = 0
        self._answered: deque[Message] = deque(maxlen=_ANSWERS_KEPT)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._asked = False
        self._answers: list[Message] = []
        self._leave_at: float | None = None
        self._stopped = False
        self._roll_call_at = time.monotonic() + ROLL_CALL_S
        self.heard_at_once: dict[str, bool] = {}

    @property
    def running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def start(self) -> None:
        """Publish from now on, until nobody is there: somebody is. Not after `stop`."""
        with self._changed:
            self._leave_at = None
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(
                    target=self._run, name="memshare panel", daemon=True
                )
                self._thread.start()

    def ask(self) -> None:
        """Say everything at once, for a page that knows nothing yet."""
        with self._changed:
            self._asked = True
            self._changed.notify_all()
        self.start()

    def answer(self, message: Message) -> None:
        """Say this at once."""
        with self._changed:
            self._answers.append(message)
            self._changed.notify_all()

    def left(self) -> None:
        """Stop soon, unless `start` is called: one who showed the panel does so no more."""
        with self._changed:
            self._leave_at = time.monotonic() + NOBODY_S
        self.answer({"type": "who"})

    def stop(self) -> None:
        """Stop at once and for good, whatever a page may say that has not heard of it yet."""
        with self._changed:
            self._stopped = True
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_S)

    def _run(self) -> None:
        ticks = 0  # since it began, or was last asked
        failed = False
        while True:
            with self._changed:
                left = self._leave_at is not None and time.monotonic() > self._leave_at
                if left:
                    self._thread = None
                if self._thread is not threading.current_thread():
                    break
                asked, self._asked = self._asked, False
                answers, self._answers = self._answers, []
                self._answered += (one for one in answers if one["type"] == "done")
            # A kernel that is busy may not hear a new page ask; so we say all unasked, too,
            # and ever less often.
            ticks = _UNASKED_TICKS if asked else ticks + 1
            unasked = ticks < _UNASKED_TICKS and ticks.bit_count() == 1
            try:
                full = asked or unasked or failed
                news = self._everything() if full else self._feed.changes()
                failed = False
            except Exception as error:  # noqa: BLE001 -- shown, and tried again
                news = {"type": "error", "text": f"{type(error).__name__}: {error}"}
                failed = True
            for message in (*answers, news):
                if message is not None:
                    self._number += 1
                    self._send({**message, "number": self._number})
            self._idle()
            hears_all = self.heard_at_once and all(list(self.heard_at_once.values()))
            if hears_all and time.monotonic() >= self._roll_call_at:
                self._roll_call_at = time.monotonic() + ROLL_CALL_S
                self.left()
            with self._changed:
                current = self._thread is threading.current_thread()
                if current and not self._asked and not self._answers:
                    self._changed.wait(TICK_S)
        if left:
            self._nobody()

    def _everything(self) -> Message:
        return {
            **self._feed.everything(),
            "heard_at_once": [who for who, at_once in [*self.heard_at_once.items()] if at_once],
            "answers": list(self._answered),
        }
