"""Rows and columns as functions get them: zero-copy, or gathered when that pays."""

from __future__ import annotations

import time
from itertools import chain

import numpy as np
import pytest

from memshare_jupyter.worker import _gathering as module
from memshare_jupyter.worker._gathering import Gathering
from memshare_jupyter.worker._items import Items

X = np.arange(40_000.0).reshape(400, 100)
one_by_one = chain.from_iterable


@pytest.mark.parametrize(("value", "margin"), [(X, 1), (np.asfortranarray(X), 2)])
def test_contiguous_lines_are_the_memory_itself_and_read_only(value, margin):
    for index, line in enumerate(one_by_one(Items(value, margin, 2).each(range(5)))):
        assert np.shares_memory(line, value)
        assert not line.flags.writeable
        assert line.tolist() == (X[index] if margin == 1 else X[:, index]).tolist()


class Clock:
    """Time that passes only as the test says."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def use(self, gathering, chunk, cost):
        """Go through lines, each of which takes so long; return whether each was gathered."""
        gathered = []
        for index, line in zip(chunk, one_by_one(gathering(chunk)), strict=True):
            assert line.tolist() == X[:, index % 100].tolist()
            assert not line.flags.writeable
            gathered.append(line.strides == (8,))
            self.now += cost(gathered[-1])
        return gathered


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


LINES = np.concatenate([X] * 20, axis=1).T  # 2,000 lines
LINES.flags.writeable = False


def test_lines_are_gathered_when_that_is_faster(clock):
    found = clock.use(Gathering(LINES, 2000), range(2000), lambda near: 1e-5 if near else 1e-4)
    assert not any(found[:5])
    assert all(found[5:])


def test_lines_are_given_as_they_are_when_a_trial_says_that_gathering_does_not_pay(clock):
    found = clock.use(Gathering(LINES, 2000), range(2000), lambda near: 1.1e-4 if near else 1e-4)
    assert 0 < sum(found) <= module._STEP


def test_nothing_is_ever_gathered_for_a_function_that_looks_at_one_value(clock):
    assert not any(clock.use(Gathering(LINES, 2000), range(2000), lambda _: 2e-7))


def test_nothing_is_gathered_when_there_is_too_little_left_to_gain_from_it(clock):
    assert not any(clock.use(Gathering(LINES, 20), range(40), lambda near: 1e-6 if near else 1e-5))


def test_it_looks_again_when_items_become_a_lot_cheaper_or_dearer(clock):
    gathering = Gathering(LINES, 100_000)
    dear = lambda near: 1e-5 if near else 1e-4  # noqa: E731
    cheap = lambda _: 1e-7  # noqa: E731
    assert all(clock.use(gathering, range(600), dear)[5:])
    assert not any(clock.use(gathering, range(600, 2000), cheap)[2 * module._STEP :])
    assert sum(clock.use(gathering, range(600), dear)[3 * module._STEP :]) > 400


def test_what_a_function_keeps_is_not_overwritten(clock):
    gathering = Gathering(LINES, 2000)
    kept = []
    for index, line in zip(range(2000), one_by_one(gathering(range(2000))), strict=True):
        clock.now += 1e-5 if line.strides == (8,) else 1e-4
        if index % 7 == 0:
            kept.append((index, line))
    assert all(line.tolist() == X[:, index % 100].tolist() for index, line in kept)


def test_lines_of_any_dtype_and_length_are_gathered_right(clock):
    for dtype, rows in (("i1", 700), ("c16", 3), ("M8[s]", 1025), ("S5", 512), ("f4", 1)):
        matrix = np.arange(rows * 300).reshape(rows, 300).astype("i8").astype(dtype)
        gathering = Gathering(matrix.T, 10**6)
        for index, line in zip(range(300), one_by_one(gathering(range(300))), strict=True):
            clock.now += 1e-4 if line.strides == matrix.T.strides[1:] else 1e-5
            np.testing.assert_array_equal(line, matrix[:, index])


def test_lines_that_would_take_too_much_memory_to_gather_are_not():
    long = np.lib.stride_tricks.as_strided(np.zeros(8), (100, 10**8), (8, 0))
    assert not Gathering(long, 100)._possible
