"""A page whose owner has ended, in order or not, goes on while it is viewed; and can be adopted."""

from __future__ import annotations

import os

import numpy as np
import pytest

import memshare_jupyter as ms

REGISTER = "ms.register_variables('n', {'x': np.arange(9)})"


@pytest.fixture(params=["exit", "kill"])
def orphan(request, child):
    """A page that this process views, and whose owner has ended."""
    owner = child(REGISTER)
    ms.retrieve_views("n", "x")
    getattr(owner, request.param)()
    yield "x"
    ms.memshare_gc("n")


def state():
    (page,) = ms.snapshot().pages
    return page.state, page.owner_pid


def test_a_page_whose_owner_ended_is_orphaned_however_it_ended(orphan, child):
    assert state()[0] == "orphaned"
    other = child("x = ms.Namespace('n')['x']")  # by name, although nobody owns it
    assert other.eval("x.sum()") == 36


def test_whoever_adopts_a_page_is_its_owner(orphan, child):
    ms.adopt("n", "x")
    assert state() == ("active", os.getpid())
    assert ms.page_list() == ["n.x"]
    ms.release_views("n", "x")
    assert child().eval("ms.Namespace('n')['x'].sum()") == 36
    ms.release_variables("n", "x")
    assert ms.snapshot().pages == ()


def test_a_process_without_a_view_adopts_too(orphan, child):
    other = child("ms.adopt('n', ['x'])")
    assert state() == ("active", other.pid)
    with pytest.raises(ms.PageExistsError, match=rf"cannot adopt n\.x: process {other.pid} owns"):
        ms.adopt("n", "x")
    with pytest.raises(ms.PageExistsError, match="this process owns"):
        other.run("ms.adopt('n', 'x')")


def test_adopting_is_of_all_or_of_none(orphan):
    with pytest.raises(ms.PageNotFoundError, match=r"no page n\.nothing"):
        ms.adopt("n", ["x", "nothing"])
    assert ms.page_list() == []
    assert state()[0] == "orphaned"


def test_an_adopted_page_is_not_written_to_when_its_name_is_registered_again(child):
    values = np.arange(200_000)
    owner = child("ms.register_variables('n', {'x': np.arange(200_000)})")
    view = ms.Namespace("n")["x"]
    owner.exit()
    ms.adopt("n", "x")
    ms.register_variables("n", {"x": values + 1})
    assert (view == values).all()
    assert (ms.Namespace("n")["x"] == values + 1).all()
    ms.release_variables("n", "x")


def test_an_adopter_that_ends_leaves_the_page_as_its_first_owner_did(orphan, child):
    other = child("ms.adopt('n', 'x')")
    other.exit()
    assert state()[0] == "orphaned"
    ms.adopt("n", "x")
    assert state() == ("active", os.getpid())


def test_a_released_page_cannot_be_adopted(child):
    owner = child(REGISTER)
    ms.retrieve_views("n", "x")
    owner.run("ms.release_variables('n', 'x')")
    with pytest.raises(ms.PageNotFoundError, match="its owner released it"):
        ms.adopt("n", "x")
    ms.memshare_gc("n")


def test_of_two_orphans_of_a_name_the_later_one_is_found_whatever_the_clock_says(child):
    first = child("import time; time.time = lambda: 4e9\n" + REGISTER)
    kept = ms.Namespace("n")["x"]
    first.exit()
    second = child("ms.register_variables('n', {'x': np.arange(9) + 1})")
    later = ms.Namespace("n")["x"]
    second.exit()
    assert child().eval("ms.Namespace('n')['x'].sum()") == 45
    assert (kept.sum(), later.sum()) == (36, 45)
