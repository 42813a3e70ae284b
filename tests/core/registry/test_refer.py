"""Referring to pages of one's own: no look and no second mapping, and safe all the same."""

from __future__ import annotations

import pickle

import numpy as np

import memshare_jupyter as ms
from memshare_jupyter.core.registry import registry

LARGE = np.arange(3_000_000.0)


def test_an_own_page_is_not_attached_anew(truth):
    with ms.Namespace("n") as ns:
        ns["x"] = LARGE
        before = truth()
        value, reference = registry().refer("n", "x")
        assert truth() == before
        assert np.array_equal(value, LARGE)
        assert pickle.loads(pickle.dumps(reference))[-1] == LARGE[-1]
        del value, reference


def test_what_is_referred_to_outlives_its_release(child):
    ms.register_variables("n", {"x": LARGE})
    value, reference = registry().refer("n", "x")
    sent = pickle.dumps(reference)
    ms.release_variables("n", "x")
    other = child(f"import pickle; x = pickle.loads({sent!r})")
    assert other.eval("float(x.sum())") == LARGE.sum()
    assert ms.view_list() == ["n.x"]
    other.run("del x")
    del value, reference
    assert ms.view_list() == []


def test_what_is_referred_to_is_not_written_anew():
    with ms.Namespace("n") as ns:
        ns["x"] = LARGE
        value, reference = registry().refer("n", "x")
        ns["x"] = LARGE + 1  # of the same size
        assert value[0] == 0
        assert ns["x"][0] == 1
        uuid = registry().refer("n", "x")[1].arguments[2]
        del value, reference
        ns["x"] = LARGE + 2
        assert registry().refer("n", "x")[1].arguments[2] == uuid  # now it is


def test_what_is_viewed_already_is_attached_by_its_uuid_without_a_look(child, monkeypatch):
    owner = child(
        "import pickle, numpy as np\n"
        "from memshare_jupyter.core.registry import registry\n"
        "ms.register_variables('n', {'x': np.arange(4.0)})\n"
    )
    sent = owner.eval("pickle.dumps(registry().refer('n', 'x')[1])")
    first = pickle.loads(sent)

    def look():
        raise AssertionError("looked at the others")

    monkeypatch.setattr(registry()._handles, "sessions", look)
    again = pickle.loads(sent)
    assert np.shares_memory(first, again)
    monkeypatch.undo()
    owner.run("ms.release_variables('n', 'x')")
    assert pickle.loads(sent)[3] == 3  # it is there as long as it is viewed
