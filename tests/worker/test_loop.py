"""The loop over items: some at a time, and yet each is accounted for."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.worker import _work as module

X = np.arange(6000.0).reshape(6000, 1)


@pytest.fixture(scope="module")
def view():
    cluster = ms.local_cluster(2, quiet=True)
    yield cluster.view(2)
    ms.local_cluster(1, quiet=True).stop()


@pytest.mark.parametrize("at", [0, 1, 4321, 5999])
def test_the_item_that_failed_is_named_among_quick_ones(view, at):
    with pytest.raises(ms.MemApplyError, match=f"<lambda> failed at index {at} ") as caught:
        ms.memapply(X, "rows", lambda v: 1 // (int(v[0]) - at), cluster=view)
    assert caught.value.index == at


def test_errors_among_quick_items_are_in_their_places(view):
    found = ms.memapply(X, "rows", lambda v: 1 // (int(v[0]) % 7), cluster=view, on_error="return")
    assert [isinstance(one, ZeroDivisionError) for one in found] == [
        i % 7 == 0 for i in range(6000)
    ]


def test_prints_of_quick_items_have_their_numbers(view):
    run = ms.memapply(
        X, "rows", lambda v: print("x") if v[0] % 1000 == 3 else None, cluster=view, block=False
    )
    run.result(30)
    assert [item for _, item, _, _ in run.output] == [3, 1003, 2003, 3003, 4003, 5003]


def test_each_item_has_its_own_generator(view):
    found = ms.memapply(X, "rows", lambda _, rng: rng.random(), cluster=view, seed=1)
    again = ms.memapply(
        X, "rows", lambda _, rng: rng.random(), cluster=view.client[view.targets[0]], seed=1
    )
    assert found == again
    assert len(set(found)) == 6000


def kill_at(row):
    if row[0] == 4321:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(row[0])


def test_an_item_that_kills_is_found_among_quick_ones():
    view = ms.local_cluster(4, quiet=True).view(4)
    with pytest.warns(RuntimeWarning, match="died"):
        found = ms.memapply(X, "rows", kill_at, cluster=view, on_error="return")
    assert isinstance(found[4321], ms.MemApplyError)
    del found[4321]
    assert found == [float(i) for i in range(6000) if i != 4321]


def test_progress_does_not_stand_still_when_items_become_slow(eventually):
    view = ms.local_cluster(2, quiet=True).view(1)

    def slow_from_3000_on(row):
        if row[0] >= 3000:
            time.sleep(0.3)

    run = ms.memapply(X, "rows", slow_from_3000_on, cluster=view, block=False)
    eventually(lambda: run.progress >= 3001)
    seen = run.progress
    eventually(lambda: run.progress >= seen + 2, timeout_s=5)
    run.cancel()
    eventually(run.done)


def test_parts_of_large_arrays_are_copied_and_those_of_the_item_are_not():
    item = np.zeros(1000)[10:]
    results = [item[:5], np.zeros(1000)[:5], 1.0, np.zeros(1000)[:900]]
    kept = list(results)
    module.own_parts(results, 0, item)
    assert [one is other for one, other in zip(results, kept, strict=True)] == [
        True,
        False,
        True,
        True,
    ]
    assert results[1].base is None
