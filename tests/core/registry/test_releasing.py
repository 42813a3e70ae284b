"""Detaching and releasing: who may, and when memory goes."""

from __future__ import annotations

import gc
import pickle

import pytest

import memshare_jupyter as ms
from memshare_jupyter.errors import (
    NotOwnerError,
    PageNotFoundError,
)


def test_detaching_reports_what_is_still_in_use(page):
    view = ms.retrieve_views("n", "x")["x"]
    assert ms.release_views("n", "x") == ["n.x"]
    assert ms.view_list() == ["n.x"]
    part = view[1:3]
    del view
    assert ms.view_list() == ["n.x"]
    del part
    assert ms.view_list() == []


def test_a_kept_view_stays_until_it_is_detached_and_a_taken_one_until_it_dies(page):
    ms.Namespace("n")["x"]
    assert ms.view_list() == []
    ms.retrieve_views("n", "x")
    gc.collect()
    assert ms.view_list() == ["n.x"]
    ms.Namespace("n")["x"]
    assert ms.view_list() == ["n.x"]
    assert ms.release_views("n", "x") == []
    assert ms.view_list() == []


def test_detaching_several_detaches_all_or_none(page):
    ms.retrieve_views("n", "x")
    with pytest.raises(PageNotFoundError, match=r"no view of n\.y \(it has: n\.x\); attach"):
        ms.release_views("n", ["x", "y"])
    assert ms.view_list() == ["n.x"]
    ms.release_views("n", ["x", "x"])


def test_releasing_several_releases_all_or_none(page, child):
    with pytest.raises(PageNotFoundError, match="namespace 'n' has: x"):
        ms.release_variables("n", ["x", "y"])
    other = child("ms.register_variables('n', {'theirs': np.ones(2)})")
    with pytest.raises(NotOwnerError, match=f"cannot release n.theirs: process {other.pid}"):
        ms.release_variables("n", ["x", "theirs"])
    assert ms.page_list() == ["n.x"]
    ms.release_variables("n", ["x", "x"])
    assert ms.page_list() == []


def test_a_view_of_somebody_elses_page_is_no_right_to_release_it(child):
    owner = child("ms.register_variables('n', {'x': np.arange(5)})")
    ms.retrieve_views("n", "x")
    with pytest.raises(NotOwnerError) as error:
        ms.release_variables("n", "x")
    assert (error.value.pid, error.value.name) == (owner.pid, "n.x")
    assert isinstance(error.value, PermissionError)
    ms.release_views("n", "x")


def test_a_release_that_cannot_be_listed_still_frees_the_memory(child, truth):
    one = child("ms.register_variables('n', {'x': np.arange(5)})")
    one.run("undo = failing('os.pwrite', 1)")
    with pytest.raises(OSError, match="No space left"):
        one.run("ms.release_variables('n', 'x')")
    one.run("undo()")
    assert truth() == {}


def test_nothing_of_what_has_ended_waits_for_the_garbage_to_be_collected(child):
    one = child(
        "import gc; gc.collect(); gc.disable(); made = process.registry()._handles.mappings.made"
    )
    other = child("ms.register_variables('n', {'mine': np.ones(2)})")
    one.run("ms.register_variables('n', {f'x{i}': np.ones(2) for i in range(5)})")
    one.run("x = ms.retrieve_views('n', 'mine')['mine']; del x")
    assert one.eval("len(made)") == 6
    one.run("ms.release_views('n', 'mine')")
    assert one.eval("len(made)") == 5
    one.run("ms.release_variables('n', [f'x{i}' for i in range(5)])")
    assert one.eval("len(made)") == 0
    other.run("ms.memshare_gc()")


def test_errors_survive_the_journey_between_processes(page, child):
    with pytest.raises(PageNotFoundError) as here:
        ms.retrieve_views("n", "lost")
    with pytest.raises(PageNotFoundError) as there:
        child().run("ms.retrieve_views('n', 'lost')")
    assert str(here.value) == str(there.value)
    assert here.value.name == there.value.name == "n.lost"
    assert str(pickle.loads(pickle.dumps(here.value))) == str(here.value)
