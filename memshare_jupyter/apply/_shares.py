"""Who does which items: of a call on several hosts, given out, done, and taken back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from memshare_jupyter.apply._foreman import Lost
from memshare_jupyter.apply._recorder import DONE, GIVEN, GIVEN_UP, SUSPECT, TO_DO, runs
from memshare_jupyter.apply._recovery import Recovery
from memshare_jupyter.apply._team import Team

Posts = list[tuple[int, int]]
"""Ranges of items, to be done one after the other."""


class Shares:
    """The items of a call, and the teams that have them.

    Parameters
    ----------
    states : ndarray of shape (n_items,)
        What each item is; whoever writes down results marks those that are done.
    recovery : Recovery
        What is known of items at which workers died.
    """

    def __init__(self, states: np.ndarray[Any, Any], recovery: Recovery) -> None:
        self._states = states
        self._recovery = recovery
        self._holder = np.full(len(states), -1, np.int32)
        self._unseen = np.zeros(len(states), np.uint8)

    @property
    def left(self) -> int:
        """How many items are neither done nor given up."""
        return int(np.count_nonzero(self._states < GIVEN_UP))

    def give(self, teams: Sequence[Team]) -> Iterator[tuple[Team, Posts]]:
        """Yield what teams are given that want something."""
        to_do = int(np.count_nonzero(self._states == TO_DO))
        paces = [pace for team in teams if (pace := team.pace)]
        pace = sum(paces) / len(paces) if paces else None
        for team in teams:
            if not team.wants:
                continue
            if to_do:
                items = self._next(TO_DO, team.share(to_do, teams))
                to_do -= len(items)
            elif team.given:
                continue
            elif np.any(self._states == SUSPECT):
                items = self._next(SUSPECT, self._recovery.unit)
            else:
                yield from self._repeated(team, teams, pace)
                continue
            self._states[items.start : items.stop] = GIVEN
            self._holder[items.start : items.stop] = team.number
            team.given += len(items)
            yield team, team.lease(items, pace)

    def _next(self, state: int, most: int) -> range:
        """Return the first items that are so, at most so many."""
        return runs(self._states == state)[0][:most]

    def _repeated(
        self, team: Team, teams: Sequence[Team], pace: float | None
    ) -> Iterator[tuple[Team, Posts]]:
        """Yield what another team should have done long since, for one that has nothing to do."""
        for other in teams:
            for lease in other.leases if other is not team else ():
                if lease.is_overdue:
                    lease.repeated = True
                    start = lease.items.start
                    some = self._states[start : lease.items.stop]
                    for items in runs(some == GIVEN, start):
                        yield team, team.lease(items, pace)
                        team.leases[-1].repeated = True
                    return

    def done(self, items: range, teams: Sequence[Team]) -> None:
        """Take note that items are done, whoever had them; the teams are those of all numbers."""
        held = np.bincount(self._holder[items.start : items.stop] + 1)
        for number in np.flatnonzero(held[1:]).tolist():
            teams[number].given -= int(held[number + 1])
        self._holder[items.start : items.stop] = -1

    def take_back(self, team: Team, *, seen: bool) -> None:
        """Take back all that a team has; `seen` if there is somebody who can say what it was at."""
        mine = (self._states == GIVEN) & (self._holder == team.number)
        self._states[mine] = TO_DO
        self._holder[mine] = -1
        team.given = 0
        if not seen:
            self._blame_unseen(team, mine)

    def _blame_unseen(self, team: Team, mine: np.ndarray[Any, Any]) -> None:
        """Suspect what a lead had that died with nobody to say at what.

        Of several items only those that were with such a lead before: it was the host, mostly.
        """
        units = runs(mine)
        if len(units) == 1 and len(units[0]) <= self._recovery.unit:
            self._blame(team.link.engine.number, units, 0, 1)
        else:
            self._unseen[mine] += 1
            self._states[mine & (self._unseen > 1)] = SUSPECT

    def bury(self, team: Team, died: Lost) -> None:
        """Take back what a worker had that died; the first time it is told, blame its last item."""
        for items in died.claimed:
            span = slice(items.start, items.stop)
            back = (self._states[span] == GIVEN) & (self._holder[span] == team.number)
            self._states[span][back] = TO_DO
            self._holder[span][back] = -1
            team.given -= int(np.count_nonzero(back))
        if died.worker not in team.mourned:
            team.mourned.add(died.worker)
            self._blame(team.engines[died.worker].number, died.claimed, died.done, died.step)

    def _blame(self, engine: int, claimed: Sequence[range], done: int, step: int) -> None:
        self._recovery.died(engine, claimed, done, step)
        for items in self._recovery.suspects:
            some = self._states[items.start : items.stop]
            some[some == TO_DO] = SUSPECT  # what another host is at, that one may do yet
        for items in self._recovery.given_up:
            some = self._states[items.start : items.stop]
            some[some != DONE] = GIVEN_UP
