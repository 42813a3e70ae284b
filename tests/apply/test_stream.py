"""The stream of a call: which engine did how many items when."""

from __future__ import annotations

import time

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.apply import last_run
from memshare_jupyter.apply._stream import IDLE, Stream


def test_waiting_before_the_first_engine_begins_is_no_part_of_it():
    stream = Stream()
    stream.note(100.0, {0: 0}, {}, working=())
    assert not stream.begun
    stream.note(200.0, {0: 0}, {}, working={0})
    assert stream.told()["lanes"] == {0: [0]}


def test_two_slots_become_one_and_no_item_is_lost():
    stream = Stream()
    for i in range(1000):
        stream.note(i * 0.1, {0: 3 * i, 1: 0}, {0: i // 10}, working={0} if i < 500 else {0, 1})
    told = stream.told()
    assert sum(told["lanes"][0]) == 3 * 999
    assert sum(told["failed"][0]) == 99
    assert 60 <= len(told["lanes"][0]) <= 120
    assert told["slot_s"] == pytest.approx(1.6)  # doubled five times
    half = len(told["lanes"][1]) // 2
    assert set(told["lanes"][1][: half - 2]) == {IDLE}
    assert set(told["lanes"][1][half + 2 :]) == {0}


def test_of_many_engines_a_page_is_told_no_more_than_of_few():
    stream = Stream()
    for i in range(1000):
        stream.note(i * 0.1, dict.fromkeys(range(200), i), {}, working=set(range(200)))
    assert sum(map(len, stream.told()["lanes"].values())) <= 200 * 24


def test_a_round_after_engines_died_counts_from_zero():
    stream = Stream()
    stream.note(0.0, {0: 5, 1: 1}, {}, working={0, 1})
    stream.again()
    stream.note(1.0, {0: 2}, {}, working={0})
    assert {
        engine: sum(n for n in lane if n > 0) for engine, lane in stream.told()["lanes"].items()
    } == {0: 7, 1: 1}


def slow(column):
    time.sleep(0.02)
    if column[0] == 7:
        raise ValueError("seven")
    return float(column[0])


@pytest.fixture(scope="module")
def cluster():
    made = ms.local_cluster(2, quiet=True)
    yield made
    made.stop()


def test_a_call_that_keeps_going_has_all_its_items_and_its_failures(cluster):
    X = np.arange(40.0)[None]
    ms.memapply(X, "cols", slow, cluster=cluster, on_error="return")
    told = last_run().stream.told()
    assert sum(n for lane in told["lanes"].values() for n in lane if n > 0) == 40
    assert sum(map(sum, told["failed"].values())) == 1


def test_the_engine_at_whose_item_a_call_ended_has_the_failure(cluster):
    X = np.arange(40.0)[None, ::-1].copy()
    with pytest.raises(ms.MemApplyError) as caught:
        ms.memapply(X, "cols", slow, cluster=cluster)
    failed = last_run().stream.told()["failed"]
    assert [engine for engine, wrong in failed.items() if sum(wrong)] == [caught.value.engine]
