"""What is left to do after workers died."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memshare_jupyter.apply._recovery import Recovery


def covered(ranges):
    return sorted(i for start, stop in ranges for i in range(start, stop))


def test_the_item_at_which_a_worker_died_is_handed_out_again_last_and_alone():
    recovery = Recovery(100, 0)
    recovery.died(4, [range(10), range(20, 30)], 13)
    recorded = [range(10), range(10, 20), range(30, 100)]
    assert recovery.left(recorded) == [range(20, 30)]
    ranges = recovery.ranges(recorded, 2)
    assert ranges[-1] == (23, 24)
    assert covered(ranges) == list(range(20, 30))


def test_after_two_deaths_it_is_given_up_and_nothing_else():
    recovery = Recovery(10, 0)
    recovery.died(0, [range(10)], 3)
    recovery.died(1, [range(3), range(4, 10), range(3, 4)], 9)
    assert recovery.given_up == {range(3, 4): [0, 1]}
    assert recovery.left([range(3)]) == [range(4, 10)]
    assert recovery.left([range(3), range(4, 10)]) == []


def test_of_batches_the_whole_batch_is_the_suspect():
    recovery = Recovery(100, 8)
    recovery.died(0, [range(40)], 16)
    assert recovery.ranges([], 1)[-1] == (16, 24)
    recovery.died(1, [range(16, 24)], 0)
    assert recovery.given_up == {range(16, 24): [0, 1]}


def test_a_worker_that_died_after_its_last_item_is_no_reason_to_suspect_one():
    recovery = Recovery(10, 0)
    recovery.died(0, [range(5)], 5)
    assert recovery.given_up == {}
    assert covered(recovery.ranges([range(5, 10)], 1)) == list(range(5))


@given(st.data())
def test_every_item_without_a_result_is_handed_out_once(data):
    items = data.draw(st.integers(1, 200))
    cuts = sorted(data.draw(st.sets(st.integers(0, items), max_size=12)))
    pieces = [range(a, b) for a, b in zip([0, *cuts], [*cuts, items], strict=True) if b > a]
    recorded = data.draw(st.permutations([p for p in pieces if data.draw(st.booleans())]))
    recovery = Recovery(items, data.draw(st.sampled_from([0, 1, 7])))
    for piece in pieces:
        if data.draw(st.booleans()):
            recovery.died(0, [piece], data.draw(st.integers(0, len(piece))))
    missing = sorted(set(range(items)) - {i for piece in recorded for i in piece})
    assert covered((r.start, r.stop) for r in recovery.left(recorded)) == missing
    assert covered(recovery.ranges(recorded, 3)) == missing


def test_of_items_that_go_by_quickly_each_that_it_may_have_been_is_a_suspect():
    recovery = Recovery(100, 0)
    recovery.died(0, [range(40)], 10, 4)
    assert recovery.ranges([range(10), range(40, 100)], 2)[-4:] == [
        (i, i + 1) for i in range(10, 14)
    ]
    recovery.died(1, [range(14, 40), range(10, 11), range(11, 12), range(12, 13)], 28, 1)
    assert recovery.given_up == {range(12, 13): [0, 1]}
    assert recovery.left([range(12), range(14, 100)]) == [range(13, 14)]


def test_when_hardly_anything_but_deaths_comes_of_it_suspects_are_handed_out_first():
    recovery, recorded = Recovery(1000, 0), [range(100)]
    for death, item in enumerate((100, 200, 300, 400, 500), 1):
        recovery.died(death, [range(item, item + 10)], 0)
        ranges = recovery.ranges(recorded, 2)
        suspects = {(at, at + 1) for at in (100, 200, 300, 400, 500)[:death]}
        assert {*ranges[:death]} == suspects if death > 4 else {*ranges[-death:]} == suspects
    recorded += [range(600, 700)]
    recovery.died(6, [range(700, 710)], 0)
    assert recovery.ranges(recorded, 2)[-1] == (700, 701)  # it goes on, for all that
