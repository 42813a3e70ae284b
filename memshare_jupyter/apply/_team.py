"""A team: the engines of one host in a call on several, and what the host has been given to do.

A host gets its work in *leases*: as much as keeps it busy for half a second, and towards the end
less and less, so that all hosts end together. The next one is given before the last is done.
"""

from __future__ import annotations

import pickle
import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from memshare_jupyter.apply._hands import work, work_by_hands, work_in_thread
from memshare_jupyter.core.values import Reference
from memshare_jupyter.engines import Engine, Messages
from memshare_jupyter.engines.hosts import Link
from memshare_jupyter.worker import Place, layout

_LEASE_S: Final = 0.5
_AHEAD_S: Final = 0.25
_RECENT_S: Final = 2.0
_FIRST: Final = 8
"""A host whose pace is not known gets at most this fraction of its fair share."""
_PATIENCE_S: Final = 1.0
_TIMES: Final = 3
"""A lease is overdue after so many times what it was to take, and a second."""


@dataclass(slots=True)
class Lease:
    """Items that a host was given.

    Attributes
    ----------
    items : range
        They.
    since : float
        When, by the monotonic clock.
    expected_s : float
        How long they should take.
    repeated : bool
        Whether another host was given them, too.
    """

    items: range
    since: float
    expected_s: float
    repeated: bool = False

    @property
    def is_overdue(self) -> bool:
        """Whether they take much longer than they should."""
        waited_s = time.monotonic() - self.since
        return not self.repeated and waited_s > _PATIENCE_S + _TIMES * self.expected_s


class Team:
    """The part of one host in a call.

    Parameters
    ----------
    link : Link
        The link to the host's lead.
    engines : sequence of Engine
        Who works there; the lead, if it is one of them, first. Of hands of its own, the lead for
        each of them.
    number, first : int
        The team's number, and the first of its regions of the results.

    Attributes
    ----------
    has_hands : bool
        Whether the lead has hands of its own, and does not work itself.
    lead : int or None
        Which of the workers the lead is.
    call : str
        What the call is known by on that host.
    messages : Messages
        Those to its engines.
    leases : list of Lease
        What it was given.
    given : int
        How many items it has been given that are not done.
    mourned : set of int
        The workers whose death has been noted.
    """

    def __init__(
        self, link: Link, engines: Sequence[Engine], number: int, first: int, *, has_hands: bool
    ) -> None:
        self.link = link
        self.engines = list(engines)
        self.has_hands = has_hands
        self.lead = 0 if self.engines[0] == link.engine and not has_hands else None
        self.number = number
        self.first = first
        self.call = secrets.token_hex(8)
        self.messages = Messages()
        self.leases: list[Lease] = []
        self.given = 0
        self.mourned: set[int] = set()
        self._missed: set[int] = set()
        self._begun = 0.0
        self._recent: deque[tuple[float, int]] = deque()

    def send_to_work(
        self, task: bytes, address: layout.Address, pages: Sequence[Reference]
    ) -> None:
        """Tell its engines what to work on, and where."""
        places = [
            pickle.dumps(Place(address, worker, worker, engine.number))
            for worker, engine in enumerate(self.engines)
        ]
        if self.has_hands:
            promised = self.link.promise(work_by_hands, task, places, pages)
            self.messages.expect(self.link.engine, promised)
            return
        for engine, place in zip(self.engines, places, strict=True):
            if self.link.why_letters and engine == self.link.engine:
                promised = self.link.promise(work_in_thread, task, place, pages)
                self.messages.expect(engine, promised)
            else:
                self.messages.send(engine, work, task, place, pages)

    def miss(self, hand: int) -> list[str]:
        """Note that a hand died; return what the user is to be told, the first time."""
        told = hand in self._missed
        self._missed.add(hand)
        return [] if told else [f"a process of engine {self.link.engine.number} died"]

    @property
    def is_deserted(self) -> bool:
        """Whether all of its hands have ended, while the lead is there."""
        return self.has_hands and not (self.messages.pending or self.link.gone.is_set())

    @property
    def living(self) -> int:
        """How many of its engines live, as far as is known."""
        return max(1, len(self.engines) - len(self.mourned))

    def note(self, done: int) -> None:
        """Take down that so many items are done."""
        self._recent.append((time.monotonic(), done))

    @property
    def pace(self) -> float | None:
        """How many items it does in a second; None before it has done any."""
        now = time.monotonic()
        while self._recent and now - self._recent[0][0] > _RECENT_S and len(self._recent) > 1:
            self._recent.popleft()
        if not self._recent:
            return None
        since = max(self._begun, now - _RECENT_S)
        return sum(done for _, done in self._recent) / max(1e-3, now - since)

    @property
    def wants(self) -> bool:
        """Whether it should be given more."""
        pace = self.pace
        enough = 1 if pace is None else max(self.living, pace * _AHEAD_S)
        return self.given < enough

    def share(self, to_do: int, teams: Sequence[Team]) -> int:
        """Return how many of the items that are to be done it should be given."""
        pace = self.pace
        if pace is None:
            return max(1, to_do // (_FIRST * len(teams)))
        together = sum(team.pace or pace for team in teams)
        fair = to_do * pace / together / 2
        return max(1, int(min(fair, pace * _LEASE_S)))

    def lease(self, items: range, pace: float | None) -> list[tuple[int, int]]:
        """Take down that it is given items; return the ranges to post."""
        if not self.leases:
            self._begun = time.monotonic()
        pace = self.pace or pace
        expected_s = len(items) / pace if pace else 0.0
        self.leases.append(Lease(items, time.monotonic(), expected_s))
        parts = layout.chunks(len(items), self.living)
        return [(items.start + a, items.start + b) for a, b in parts]
