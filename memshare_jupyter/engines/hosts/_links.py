"""The caller's side of links: one to the lead of each host, for as long as both live.

A link is made at the first call on engines of a host: the caller lets the lead in, and tells it
by the cluster where and with which token. When it ends, the next call makes another one, to
the first engine of that host that answers.

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
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Final, Protocol

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

if TYPE_CHECKING:
    from ipyparallel import Client

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
        self._channel: Channel | Letters | None = None
        self._here = threading.Event()
        self._inboxes: dict[object, Inbox] = {}
        self._pages: dict[bytes, Pinned] = {}
        self._joined = Messages()
        self._why = ""
        give(self._token, self._serve)
        self._joined.send(engine, join, way_here(), self._token, is_encrypted(), engine.number)
        self._until = time.monotonic() + _JOIN_S

    def open(self) -> str:
        """Wait for the lead to come, as long as it may take; return why it did not."""
        if self.way is None and not self._why:
            try:
                found = self._answer()
                if isinstance(found, str):
                    take_back(self._token)
                    self.why_letters = found
                    found = self._correspond()
                elif found is not None and not self._here.wait(_JOIN_S):
                    self._why = "it came, and went before it was let in"
                    found = None
            except ClusterError as error:
                self._why = str(error)
                return self._why
            if found is None:
                return self._why or "it does not answer"
            take_back(self._token)
            self.way = found
        return self._why

    def _answer(self) -> Any:
        """Return what the lead has answered; None if it has not, or will not."""
        left = max(0.0, self._until - time.monotonic())
        if not self._joined.wait(0.0) and not self._joined.wait_for_all(left):
            return None
        found = self._joined.take()
        if not found:
            self._why = "its engine died"
        return next(iter(found), None)

    def _correspond(self) -> Any:
        """Have the lead be told by messages; return as `_answer` does."""
        self._until = time.monotonic() + _JOIN_S
        self._joined.send(self.engine, correspond, self._token)
        way = self._answer()
        if way is not None:
            letters = Letters(lambda: self.engine, self._token, lambda: bool(self._inboxes))
            work = threading.Thread(target=self._listen_to, args=(letters,), daemon=True)
            self._channel = letters
            work.start()
        return way

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


_links: weakref.WeakKeyDictionary[Client, dict[str, Link]] = weakref.WeakKeyDictionary()


def linked(groups: Sequence[Group]) -> tuple[dict[str, Link], dict[str, str]]:
    """Return the links to hosts, which are made if need be, and why others have none."""
    client: Any = groups[0].engines[0].client
    links = _links.get(client)
    if links is None:
        links = _links[client] = {}
        weakref.finalize(client, _close, links)
    for group in groups:
        link = links.get(group.identity)
        if link is None or link.is_over:
            # One that was asked before, and did not come, is asked no more.
            asked = None if link is None else link.engine
            others = [engine for engine in group.engines if engine != asked]
            links[group.identity] = Link((others or group.engines)[0], group)
        links[group.identity].engines.update(each.number for each in group.engines)
    without = {group.identity: links[group.identity].open() for group in groups}
    without = {identity: why for identity, why in without.items() if why}
    with_link = {g.identity: links[g.identity] for g in groups if g.identity not in without}
    return with_link, without


def links_now() -> list[Link]:
    """Return the links that there are."""
    every = [link for links in list(_links.values()) for link in list(links.values())]
    return [link for link in every if link.way is not None and not link.gone.is_set()]


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


def _close(links: dict[str, Link]) -> None:
    for link in links.values():
        link.close()
