"""What is on the hosts of this process's links: as it was last heard, so that nobody waits."""

from __future__ import annotations

import time
import weakref
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.engines.hosts._lead import Lead, kept
from memshare_jupyter.engines.hosts._linked import links_now
from memshare_jupyter.engines.hosts._links import Link

_LOOK_S: Final = 2.0
_SOON_S: Final = 0.2
"""While pages are on their way there."""


class Told(NamedTuple):
    """What a lead says of its host.

    Attributes
    ----------
    pages, size_bytes : int
        How many pages can be attached there, replicas included, and their bytes of data.
    free_bytes : int
        How much memory is free.
    replicas : list of (str, int)
        The pages of other hosts among them, and their bytes of data.
    transfers : list of (str, int, int)
        What this process sends there: the uuid, how many bytes are there, and of how many.
    """

    pages: int
    size_bytes: int
    free_bytes: int
    replicas: list[tuple[str, int]]
    transfers: list[tuple[str, int, int]]


class Seen(NamedTuple):
    """A host, and what its lead last said of it.

    Attributes
    ----------
    name : str
        What people call it.
    engines : list of int
        Those of its engines that were in calls of this process.
    why_letters : str
        Why it goes by the cluster's messages; empty if there is a connection.
    told : Told or None
        What was said; None before that.
    """

    name: str
    engines: list[int]
    why_letters: str
    told: Told | None


class _Heard:
    def __init__(self) -> None:
        self.told: Told | None = None
        self._asked = 0.0
        self._answer: Future[Any] | None = None

    def ask(self, link: Link) -> None:
        """Take what was answered, and ask again from time to time."""
        answer, now = self._answer, time.monotonic()
        if answer is not None:
            if not answer.done():
                return
            self._answer = None
            if answer.exception() is None:
                self.told = answer.result()
        soon = link.getting or (self.told is not None and self.told.transfers)
        if now - self._asked >= (_SOON_S if soon else _LOOK_S):
            self._asked = now
            self._answer = link.promise(tell)


_heard: weakref.WeakKeyDictionary[Link, _Heard] = weakref.WeakKeyDictionary()


def seen() -> list[Seen]:
    """Return what is known of each host that there is a link to, by name; it takes no time."""
    found = []
    for link in links_now():
        heard = _heard.setdefault(link, _Heard())
        heard.ask(link)
        found.append(Seen(link.name, sorted(link.engines), link.why_letters, heard.told))
    return sorted(found, key=lambda one: (one.name, one.engines))


def tell(lead: Lead) -> Told:
    """Say what is on this host; for a caller to ask."""
    found, mine = registry().snapshot(), {uuid.hex() for uuid in kept()}
    # The owner of a replica is on another host, and so out of sight.
    replicas = [p for p in found.pages if p.uuid in mine and p.state == "orphaned"]
    coming = [one for stock in list(lead.stocks.values()) for one in stock.coming()]
    return Told(
        *(len(found.pages), found.shared_bytes, blocks.room().free_bytes),
        [(page.name, page.size_bytes) for page in replicas],
        [(uuid.hex(), here, size) for uuid, here, size in coming],
    )
