"""Registering a value of the same size again uses the memory that is there, if it is free to."""

from __future__ import annotations

import gc
import pickle
import signal

import numpy as np
import pytest

import memshare_jupyter as ms

N = 400_000  # 3.2 MB: refilling small pages is not worth it


@pytest.fixture
def study():
    with ms.Namespace("study") as namespace:
        namespace["X"] = np.zeros(N)
        yield namespace


def uuid_of(variable="X"):
    return ms.retrieve_metadata("study", variable)[variable].uuid


def test_the_same_memory_gets_the_new_value(study):
    before = uuid_of()
    study["X"] = np.arange(N)
    assert uuid_of() == before
    np.testing.assert_array_equal(study["X"], np.arange(N))
    page = ms.retrieve_metadata("study", "X")["X"]
    assert (page.dtype, page.state, page.handles) == ("int64", "active", 1)


def test_a_viewer_keeps_the_old_value_in_memory_of_its_own(study, child, listed, truth):
    viewer = child("X = ms.retrieve_views('study', 'X')['X']")
    before = uuid_of()
    study["X"] = np.ones(N)
    assert uuid_of() != before
    assert viewer.eval("float(X.sum())") == 0
    assert viewer.eval("float(ms.Namespace('study')['X'].sum())") == N
    assert listed() == truth()
    viewer.kill()
    before = uuid_of()
    study["X"] = np.full(N, 2.0)
    assert uuid_of() == before


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_view_of_ones_own_keeps_the_old_value_too(study, mode):
    mine = ms.retrieve_views("study", "X", mode)["X"]
    study["X"] = np.ones(N)
    assert (mine.sum(), study["X"].sum()) == (0, N)
    del mine
    gc.collect()


def test_an_array_to_fill_keeps_its_memory(study):
    out = study.empty("out", N)
    out[:] = 1
    study["out"] = np.full(N, 2.0)
    assert (out.sum(), study["out"].sum()) == (N, 2 * N)


@pytest.mark.parametrize(
    "value", [np.zeros(N + 8), np.zeros(N - 8), np.zeros(N // 2)], ids=["larger", "smaller", "half"]
)
def test_another_size_takes_other_memory(study, value):
    before = uuid_of()
    study["X"] = value
    assert uuid_of() != before
    assert study["X"].shape == value.shape


def test_a_reference_to_an_earlier_value_leads_nowhere(study):
    sent = pickle.dumps(study["X"])
    gc.collect()
    study["X"] = np.ones(N)
    with pytest.raises(ms.PageNotFoundError, match="that was sent here is gone"):
        pickle.loads(sent)
    assert pickle.loads(pickle.dumps(study["X"])).sum() == N


def test_whoever_attaches_meanwhile_waits_for_the_new_value(study, child):
    owner = child(
        f"X = np.zeros({N}); ms.register_variables('theirs', {{'X': X}})\n"
        "at_call('memshare_jupyter.core.registry._page.Page.refill', 1, 'after', stop)"
    )
    owner.send(f"ms.register_variables('theirs', {{'X': np.ones({N})}})")
    with open(f"/proc/{owner.pid}/stat") as stat:
        while stat.read().rsplit(")", 1)[1].split()[0] != "T":
            stat.seek(0)
    reader = child()
    reader.send("total = float(ms.Namespace('theirs')['X'].sum())")
    owner.signal(signal.SIGCONT)
    owner.result()
    reader.result()
    assert reader.eval("total") == N


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_owner_killed_at_refilling_leaves_nothing(child, listed, truth, when):
    owner = child(
        f"ms.register_variables('theirs', {{'X': np.zeros({N})}})\n"
        f"at_call('memshare_jupyter.core.registry._page.Page.refill', 1, {when!r}, die)"
    )
    owner.dies(f"ms.register_variables('theirs', {{'X': np.ones({N})}})")
    assert listed() == truth() == {}


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_keeps_the_old_value_or_none_but_no_half_one(child, listed, truth, when):
    owner = child(
        f"ms.register_variables('theirs', {{'X': np.zeros({N})}})\n"
        "def interrupt(): raise KeyboardInterrupt\n"
        f"at_call('memshare_jupyter.core.registry._page.Page.refill', 1, {when!r}, interrupt)"
    )
    with pytest.raises(KeyboardInterrupt):
        owner.run(f"ms.register_variables('theirs', {{'X': np.ones({N})}})")
    assert owner.eval("ms.page_list()") == (["theirs.X"] if when == "before" else [])
    if when == "before":
        assert child().eval("float(ms.Namespace('theirs')['X'].sum())") == 0
    assert listed() == truth()


def test_an_empty_page_is_of_zeros_also_where_there_was_a_value(study):
    study["X"] = np.ones(N)
    assert study.empty("X", N).sum() == 0


def test_lists_and_frames_are_refilled_as_well(study):
    study["parts"] = [np.zeros(N), np.zeros(3)]
    before = uuid_of("parts")
    study["parts"] = [np.ones(N), np.ones(3)]
    assert uuid_of("parts") == before
    assert [part.sum() for part in study["parts"]] == [N, 3]
