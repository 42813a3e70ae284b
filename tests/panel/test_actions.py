"""What the panel does when it is told to, and what it then says."""

from __future__ import annotations

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.apply import Run
from memshare_jupyter.core.registry._process import registry
from memshare_jupyter.panel import _actions


def this(page):
    """How a question names a page."""
    return [page.uuid, page.created]


def test_release_ends_the_ownership_and_says_what_keeps_the_memory(rna, child):
    viewer = child("X = ms.retrieve_views('rna', 'X')['X']")
    done = _actions.perform({"action": "release", "page": this(rna["X"])})
    text = "released rna.X; 1 view keeps its memory until it ends"
    assert done == {"ok": True, "text": text}
    assert ms.page_list() == ["rna.y"]
    done = _actions.perform({"action": "release", "page": this(rna["y"])})
    assert done["text"] == "released rna.y; its memory is free"
    viewer.kill()


@pytest.mark.parametrize("shape", [(3, 4), (5,)], ids=["in the same memory", "elsewhere"])
def test_a_page_that_was_replaced_meanwhile_is_not_released(rna, shape):
    ms.register_variables("rna", {"X": np.zeros(shape, order="F")})
    done = _actions.perform({"action": "release", "page": this(rna["X"])})
    assert not done["ok"]
    assert "gone already" in done["text"] or "registered anew" in done["text"]
    assert ms.page_list() == ["rna.X", "rna.y"]


def test_a_page_that_still_drains_is_not_taken_for_the_new_one(rna, child):
    viewer = child("X = ms.retrieve_views('rna', 'X')['X']")
    ms.register_variables("rna", {"X": np.zeros(5)})
    done = _actions.perform({"action": "release", "page": this(rna["X"])})
    assert not done["ok"]
    assert "the new page is kept" in done["text"]
    assert ms.page_list() == ["rna.X", "rna.y"]
    viewer.kill()
    registry().gc()


def test_a_page_that_comes_between_look_and_act_is_kept(rna, monkeypatch):
    look = _actions._pages

    def looked():
        found = look()
        monkeypatch.setattr(_actions, "_pages", look)
        ms.register_variables("rna", {"X": np.zeros(5)})  # as another thread may
        return found

    monkeypatch.setattr(_actions, "_pages", looked)
    done = _actions.perform({"action": "release", "page": this(rna["X"])})
    assert not done["ok"]
    assert "registered anew since you were asked" in done["text"]
    assert ms.retrieve_metadata("rna", "X")["X"].shape == (5,)


def test_a_page_of_another_process_is_not_released(child):
    owner = child("ms.register_variables('theirs', {'X': 1.0})")
    done = _actions.perform({"action": "release", "page": this(ms.snapshot().pages[0])})
    assert not done["ok"]
    assert str(owner.pid) in done["text"]


def test_detach_says_whether_arrays_go_on(rna):
    views = ms.retrieve_views("rna", ["X", "y"])
    done = _actions.perform({"action": "detach", "page": this(rna["X"])})
    assert "ends with the arrays here" in done["text"]
    views.clear()
    ms.retrieve_views("rna", ["X"])
    done = _actions.perform({"action": "detach", "page": this(rna["X"])})
    assert done == {"ok": True, "text": "detached rna.X"}
    assert ms.view_list() == ["rna.y"]


def test_detach_of_an_old_page_leaves_the_view_of_the_new_one(rna):
    views = [ms.retrieve_views("rna", "X")]
    ms.register_variables("rna", {"X": np.zeros(5)})
    views.append(ms.retrieve_views("rna", "X"))
    done = _actions.perform({"action": "detach", "page": this(rna["X"])})
    assert done["ok"]
    assert "ends with the arrays here" in done["text"]
    del views[0]
    assert [p.views for p in ms.snapshot().pages if p.variable == "X"] == [1]
    views.clear()


def test_gc_lets_go_of_what_it_was_asked_about_and_of_nothing_else(rna):
    ms.register_variables("other", {"X": 1.0})
    asked = {"action": "gc", "namespace": "rna", "pages": [this(page) for page in rna.values()]}
    ms.register_variables("rna", {"new": np.zeros(1), "y": np.zeros(5)})
    done = _actions.perform(asked)
    assert done == {
        "ok": True,
        "text": "let go of rna.X (96 B); kept rna.new, rna.y (48 B), not asked about",
    }
    assert ms.page_list() == ["other.X", "rna.new", "rna.y"]
    ms.release_variables("rna", ["new", "y"])
    assert _actions.perform(asked)["text"] == "let go of nothing in rna"
    ms.release_variables("other", "X")


def test_gc_without_a_namespace_lets_go_of_nothing(rna):
    pages = [this(page) for page in rna.values()]
    _actions.perform({"action": "gc", "namespace": None, "pages": pages})
    assert not _actions.perform({"action": "gc", "namespace": "rna"})["ok"]
    assert ms.page_list() == ["rna.X", "rna.y"]


def test_of_very_many_pages_some_are_named():
    ms.register_variables("many", {f"x{i:03d}": np.zeros(1) for i in range(300)})
    pages = [this(page) for page in ms.snapshot().pages]
    done = _actions.perform({"action": "gc", "namespace": "many", "pages": pages})
    assert done["text"] == (
        "let go of many.x000, many.x001, many.x002, many.x003 and 296 more (2.4 kB)"
    )
    assert ms.page_list() == []


def test_cancel_stops_the_run_that_was_meant():
    runs = [Run("one", 10, [0]), Run("two", 10, [0])]
    for run in runs:
        run.begin()
    try:
        done = _actions.perform({"action": "cancel", "run": runs[1].id})
        assert done == {"ok": True, "text": "cancelled two"}
        assert [run.stopping.is_set() for run in runs] == [False, True]
    finally:
        for run in runs:
            run.end()
    done = _actions.perform({"action": "cancel", "run": runs[0].id})
    assert done["text"] == "the run has ended already"


def test_an_action_that_there_is_not_is_an_answer_too():
    assert not _actions.perform({"action": "explode"})["ok"]
