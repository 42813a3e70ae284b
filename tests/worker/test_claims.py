"""Claims: every item once, one's own share first, whoever dies."""

from __future__ import annotations

import random
from itertools import chain

import pytest

from memshare_jupyter.apply._queue import Queue
from memshare_jupyter.worker import _claims
from memshare_jupyter.worker._arena import Arena
from memshare_jupyter.worker._claims import Claims
from memshare_jupyter.worker._layout import Address, shares


@pytest.fixture
def claiming():
    """Make a queue and its workers' claims."""
    opened = []

    def make(items, workers, ranges=()):
        queue = Queue(workers, (ranges,) if ranges else shares(items, workers))
        address = Address(queue.address, queue.address, None, items, workers, ranges)
        arena = Arena()
        claims = [Claims(arena, address, worker) for worker in range(workers)]
        opened.append((queue, arena, claims))
        return queue, claims

    yield make
    for queue, arena, claims in opened:
        for one in claims:
            one.close()
        arena.close()
        queue.close()


@pytest.mark.parametrize(("items", "workers"), [(1, 1), (2, 2), (7, 3), (100, 4), (5000, 2)])
def test_every_item_is_claimed_once_in_any_order_of_claims(claiming, items, workers):
    queue, claims = claiming(items, workers)
    order = random.Random(items)  # noqa: S311
    left = [iter(one) for one in claims]
    mine = [[] for _ in claims]
    while left:
        one = order.choice(left)
        if (chunk := next(one, None)) is None:
            left.remove(one)
        else:
            mine[order.randrange(workers)].append(chunk)
    assert sorted(chain.from_iterable(chain.from_iterable(mine))) == list(range(items))
    found = [list(chain.from_iterable(chunks)) for chunks in queue.claimed()]
    assert sorted(chain.from_iterable(found)) == list(range(items))
    assert queue.items == items


def test_a_worker_begins_with_its_own_share_and_goes_on_where_most_is_left(claiming):
    queue, claims = claiming(3000, 3)
    first, second = iter(claims[1]), iter(claims[2])
    own = [next(first) for _ in shares(3000, 3)[1]]
    assert (own[0].start, own[-1].stop) == (1000, 2000)
    assert next(second).start == 2000
    assert next(first).start == 0  # of the third share something was taken
    assert [chunk.start for chunk in queue.claimed()[1]][-1] == 0


def test_suspects_are_handed_out_in_the_order_that_was_said(claiming):
    ranges = ((5, 9), (0, 2), (4, 5))
    _, claims = claiming(10, 2, ranges)
    first, second = map(iter, claims)
    assert [next(second), next(first), next(second)] == [range(*one) for one in ranges]
    assert next(first, None) is next(second, None) is None


def test_who_cannot_ask_for_the_callers_lock_goes_on(claiming, monkeypatch):
    def failing(_fd):
        raise OSError(9, "Bad file descriptor")

    _, claims = claiming(10, 1)
    monkeypatch.setattr(_claims.blocks, "is_locked", failing)
    claims[0].stop_if_abandoned()  # in the thread that watches, which is not to end
    assert not claims[0].stop[0]
