"""The caller's side of links: one to the lead of each host, for as long as both live.

To open one, the caller lets the lead in, and tells it by the cluster where and with which token.
Where the lead cannot connect to the caller, messages of the cluster take the place of a connection.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final, Protocol

from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.engines import Engine, Messages
from memshare_jupyter.engines.hosts._channel import Channel
from memshare_jupyter.engines.hosts._describe import Group
from memshare_jupyter.engines.hosts._doors import Way, give, take_back, way_here
from memshare_jupyter.engines.hosts._lead import correspond, join, let_go
from memshare_jupyter.engines.hosts._letters import Letters
from memshare_jupyter.engines.hosts._proof import is_encrypted, new_token
from memshare_jupyter.errors import ClusterError, MemshareError

_LOOK_S: Final = 0.25
"""How often the pages that leads have copies of are looked at."""
_JOIN_S: Final = 15.0
"""How long an engine that has said where it is may take to import a lead's modules, and to come."""
_keys: Final = itertools.count()
GONE: Final = ClusterError("the link to it has ended; it was shut down, or is cut off")
"""What is heard of a lead when its link has ended."""


class Inbox(Protocol):
    """Where what leads say is put; it must not wait."""

    def put(self, found: tuple[Link, Any], /) -> None:
        """Take what a lead has said, or `GONE`."""


class LeadGone(Exception):  # noqa: N818 -- it stands for ipyparallel's of that meaning
    """The lead will not answer any more."""

    ename = "EngineError"


class Pinned:
    """A page that is open here as long as a link stands for copies of it."""

    def __init__(self, block: blocks.Segment) -> None:
        self.block = block
        self._users = 0
        self._lock = threading.Lock()

    def use(self) -> None:
        """Keep it open."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Close it, unless somebody else uses it."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self.block.close()


class Link:
    """A link to the lead of a host.

    Attributes
    ----------
    identity, name : str
        Its host, and what people call that.
    way : Way or None
        Where other hosts reach the lead; None as long as there is no link.
    why_letters : str
        Why it goes by the cluster's messages; empty if there is a connection.
    gone : threading.Event
        Set when the link has ended.
    engines : set of int
        Those of its host that were in calls.
    getting : int
        How many calls send pages there at this moment.
    """

    def __init__(self, engine: Engine, group: Group) -> None:
        self._client = weakref.ref(engine.client) if engine.client is not None else lambda: None
        self._number = engine.number
        self.identity, self.name = group.identity, group.name
        self.way: Way | None = None
        self.why_letters = ""
        self.gone = threading.Event()
        self.engines: set[int] = set()
        self.getting = 0
        self._token = new_token()
        self._told = way_here(), self._token, is_encrypted(), engine.number
        self._until = time.monotonic() + _JOIN_S
        self._opening = threading.Lock()
        self._opened = threading.Event()
        self._channel: Channel | Letters | None = None
        self._here = threading.Event()
        self._inboxes: dict[object, Inbox] = {}
        self._pages: dict[bytes, Pinned] = {}
        self._why = ""

    def begin(self) -> None:
        """Have the lead come; it is not waited for.

        A thread of its own opens the link: any number of calls may wait for that, an interrupt of
        one loses nothing that the engine answers, and what comes too late is for the next one.
        """
        if not (self._opened.is_set() or self._opening.locked()):
            work, what = self._open, (self.engine,)  # with its client, whom the caller keeps
            threading.Thread(target=work, args=what, name="memshare-opening", daemon=True).start()

    def open(self) -> str:
        """Wait for the lead to come, as long as it may take; return why it did not."""
        self.begin()
        while not self._opened.is_set() and (left := self._until - time.monotonic()) > 0:
            self._opened.wait(left)
        return self._why if self._opened.is_set() else "it does not answer"

    def _open(self, engine: Engine) -> None:
        with self._opening:
            if self._opened.is_set():
                return
            try:
                self._why = self._come(engine)
            except ClusterError as error:
                self._why = str(error)
            except Exception as error:  # noqa: BLE001 -- it is for who waits, whatever it is
                self._why = f"{type(error).__name__}: {error}"
            finally:
                if self._why:
                    self.close()
                self._opened.set()

    def _come(self, engine: Engine) -> str:
        """Have the lead connect, or be told by messages; return why it is not there."""
        give(self._token, self._serve)
        found = self._answer(engine, join, *self._told)
        if isinstance(found, str):
            take_back(self._token)
            self.why_letters = found
            found = self._answer(engine, correspond, self._token)
            letters = Letters(lambda: self.engine, self._token, lambda: bool(self._inboxes))
            self._channel = letters
            threading.Thread(target=self._listen_to, args=(letters,), daemon=True).start()
        elif not self._here.wait(_JOIN_S):
            return "it came, and went before it was let in"
        take_back(self._token)
        self.way = found
        return ""

    def _answer(self, engine: Engine, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what an engine answers to a message; raises ClusterError if it will not."""
        messages = Messages()
        messages.send(engine, function, *arguments)
        messages.wait_for_all()
        self._until = time.monotonic() + _JOIN_S  # for what comes now
        for found in messages.take():
            return found
        raise ClusterError("its engine died")

    @property
    def engine(self) -> Engine:
        """The lead; without a client once that has ended, whom a link does not keep."""
        return Engine(self._client(), self._number)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or came to nothing; not if it may still come."""
        return self.gone.is_set() or bool(self._why)

    def tell(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have the lead call a function of this package, after what it was told before."""
        self._send(None, function, arguments)

    def ask(
        self,
        inbox: Inbox,
        function: Callable[..., Any],
        *arguments: Any,
    ) -> None:
        """Have it call one at once, and put what it returns or raises into an inbox.

        That is `GONE` if the link ends first.
        """
        key = next(_keys)
        self.listen(key, inbox)
        self._send(key, function, arguments)

    def promise(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have it call one at once; return what it will return or raise."""
        promised = _Promise()
        self.ask(promised, function, *arguments)
        return promised.future

    def listen(self, key: object, inbox: Inbox) -> None:
        """Have what the lead says under a key put into an inbox, and `GONE` when the link ends."""
        self._inboxes[key] = inbox
        if self.gone.is_set():
            inbox.put((self, GONE))

    def unlisten(self, key: object) -> None:
        """Do so no more."""
        self._inboxes.pop(key, None)

    def stand_for(self, pinned: Pinned) -> None:
        """Tell the lead when a page that it has a copy of is over."""
        if pinned.block.uuid not in self._pages:
            pinned.use()
            self._pages[pinned.block.uuid] = pinned
            if self.gone.is_set():  # perhaps after it has left the others
                self._leave(pinned.block.uuid)

    def close(self) -> None:
        """End it."""
        take_back(self._token)
        if self._channel is not None:
            self._channel.close()

    def _send(self, key: object, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        with contextlib.suppress(OSError, EOFError):  # then it is gone, which is noticed elsewhere
            if self._channel is not None:
                self._channel.send((key, function, arguments))

    def _serve(self, connection: socket.socket) -> None:
        channel = self._channel = Channel(connection)
        self._here.set()
        if self._why:  # it was not waited for any more
            channel.close()
        self._listen_to(channel)

    def _listen_to(self, channel: Channel | Letters) -> None:
        looked = time.monotonic()
        try:
            with contextlib.suppress(OSError, EOFError):  # it has ended
                while True:
                    with contextlib.suppress(TimeoutError):
                        key, value = channel.receive(_LOOK_S)
                        inbox = self._inboxes.get(key)
                        if isinstance(key, int):  # the answer to a question
                            self._inboxes.pop(key, None)
                        if inbox is not None:
                            inbox.put((self, value))
                    if time.monotonic() - looked > _LOOK_S:
                        self._look()
                        looked = time.monotonic()
        finally:  # whatever ended it: others wait to hear of that
            self.gone.set()
            channel.close()
            for inbox in list(self._inboxes.values()):
                inbox.put((self, GONE))
            for uuid in list(self._pages):
                self._leave(uuid)

    def _look(self) -> None:
        client: Any = self._client()
        if client is None or client._closed:
            self.close()
        for uuid, pinned in list(self._pages.items()):
            with contextlib.suppress(MemshareError):  # the next look will say it
                if registry().replicas.is_over(pinned.block):
                    self.tell(let_go, uuid)
                    self._leave(uuid)

    def _leave(self, uuid: bytes) -> None:
        pinned = self._pages.pop(uuid, None)  # by one thread or the other
        if pinned is not None:
            pinned.leave()


class _Promise:
    """An inbox for one answer."""

    def __init__(self) -> None:
        self.future: Future[Any] = Future()

    def put(self, found: tuple[Link, Any]) -> None:
        _, answer = found
        if answer is GONE:
            answer = LeadGone(str(GONE))
        with contextlib.suppress(InvalidStateError):  # of a link that just ends it hears twice
            if isinstance(answer, Exception):
                self.future.set_exception(answer)
            else:
                self.future.set_result(answer)


def gather(
    links: Iterable[Link],
    function: Callable[..., Any],
    arguments_for: Callable[[Link], tuple[Any, ...]],
    timeout_s: float | None = None,
) -> dict[Link, Any]:
    """Ask several leads the same; return what each has returned or raised within the time."""
    inbox: queue.SimpleQueue[tuple[Link, Any]] = queue.SimpleQueue()
    waiting = set(links)
    for link in waiting:
        link.ask(inbox, function, *arguments_for(link))
    answers: dict[Link, Any] = {}
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while waiting:
        left = _LOOK_S if until is None else min(_LOOK_S, until - time.monotonic())
        if left <= 0:
            break
        with contextlib.suppress(queue.Empty):
            link, answer = inbox.get(timeout=left)
            waiting.discard(link)
            answers[link] = answer
    return answers
