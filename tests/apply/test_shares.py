"""Who gets which items of a call on several hosts: what is out is given to nobody else."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from memshare_jupyter.apply._foreman import Lost
from memshare_jupyter.apply._recorder import DONE, GIVEN, SUSPECT, TO_DO
from memshare_jupyter.apply._recovery import Recovery
from memshare_jupyter.apply._shares import Shares
from memshare_jupyter.apply._team import Team

ITEMS = 10


class Call:
    """A call on two hosts with two engines each, and no hosts."""

    def __init__(self):
        self.states = np.zeros(ITEMS, np.uint8)
        self.shares = Shares(self.states, Recovery(ITEMS, 1))
        self.teams = [self._team(number) for number in range(2)]

    def _team(self, number):
        engines = [SimpleNamespace(number=2 * number + i) for i in range(2)]
        link = SimpleNamespace(engine=engines[0])
        return Team(link, engines, number, 2 * number, has_hands=False)

    def give(self):
        """Return what each team is given now."""
        given = {}
        for team, posts in self.shares.give(self.teams):
            given.setdefault(team.number, []).extend(posts)
        return given

    def done(self, *items):
        for item in items:
            self.states[item] = DONE
            self.shares.done(range(item, item + 1), self.teams)

    def dies(self, team, worker, item):
        self.shares.bury(self.teams[team], Lost(worker, [range(item, item + 1)], 0, 1))


@pytest.fixture
def call():
    return Call()


def all_given(call):
    """Give everything; return what each team has."""
    while call.give():
        for team in call.teams:
            team.given = 0  # wants more
    has = [np.flatnonzero(call.shares._holder == team.number).tolist() for team in call.teams]
    for team, items in zip(call.teams, has, strict=True):
        team.given = len(items)
    assert all(has)
    return has


def test_a_suspect_that_is_out_is_given_to_nobody_else(call):
    (mine, *rest), (theirs, *others) = all_given(call)
    call.dies(0, 0, mine)
    call.dies(1, 0, theirs)
    assert call.states[[mine, theirs]].tolist() == [SUSPECT, SUSPECT]
    call.done(*rest, *others)
    assert [team.given for team in call.teams] == [0, 0]
    assert {*call.give()} == {0, 1}
    assert call.states[[mine, theirs]].tolist() == [GIVEN, GIVEN]
    mine, theirs = (int(np.flatnonzero(call.shares._holder == number)[0]) for number in range(2))
    call.dies(1, 1, theirs)
    assert call.shares.left == 1
    assert call.states[mine] == GIVEN
    assert call.give() == {}
    call.done(mine)
    assert [team.given for team in call.teams] == [0, 0]
    assert call.shares.left == 0


def test_a_host_that_is_lost_gives_back_all_that_it_had(call):
    _, had = all_given(call)
    call.shares.take_back(call.teams[1], seen=True)
    assert call.teams[1].given == 0
    assert set(call.states[had].tolist()) == {TO_DO}
    assert set(np.delete(call.states, had).tolist()) == {GIVEN}


def test_what_a_lone_lead_was_at_when_it_was_lost_is_a_suspect(call):
    _, had = all_given(call)
    call.done(*had[1:])
    call.shares.take_back(call.teams[1], seen=False)
    assert call.states[had[0]] == SUSPECT
    assert call.teams[1].given == 0
