"""Letting go of the pages that somebody saw, and of no others."""

from __future__ import annotations

import numpy as np

import memshare_jupyter as ms
from memshare_jupyter.core.registry import registry


def pages():
    return {page.name: page for page in ms.snapshot().pages}


def test_a_page_that_was_shown_is_let_go_and_one_of_its_name_that_came_since_is_not():
    ms.register_variables("n", {"x": np.ones(3), "y": np.ones(3)})
    shown = pages()["n.x"]
    ms.register_variables("n", {"x": np.ones((500, 10))})
    assert registry().let_go([shown], release=True, detach=True) == ([], [])
    assert ms.page_list() == ["n.x", "n.y"]
    assert registry().let_go([pages()["n.x"]], release=True, detach=True) == (["n.x"], [])
    assert ms.page_list() == ["n.y"]
    ms.memshare_gc("n")


def test_a_value_of_the_same_size_in_the_same_memory_is_another_one():
    ms.register_variables("n", {"x": np.zeros(200_000)})
    shown = pages()["n.x"]
    ms.register_variables("n", {"x": np.ones(200_000)})
    assert registry().let_go([shown], release=True, detach=True) == ([], [])
    assert ms.page_list() == ["n.x"]
    ms.memshare_gc("n")


def test_owning_ends_without_viewing_and_the_other_way_round(child):
    ms.register_variables("n", {"x": np.ones(3)})
    view = ms.retrieve_views("n", "x")["x"]
    shown = pages()["n.x"]
    assert registry().let_go([shown], release=False, detach=True) == (["n.x"], ["n.x"])
    assert ms.page_list() == ["n.x"]
    assert registry().let_go([shown], release=True, detach=False) == (["n.x"], ["n.x"])
    assert (ms.page_list(), ms.view_list(), view.sum()) == ([], ["n.x"], 3)
    del view
    assert ms.view_list() == []


def test_of_two_views_of_one_name_the_one_that_was_shown_ends(child):
    other = child("ms.register_variables('n', {'x': np.ones(3)})")
    ms.retrieve_views("n", "x")
    old = pages()["n.x"]
    other.run("ms.register_variables('n', {'x': np.zeros((50, 50))})")
    ms.retrieve_views("n", "x")
    assert registry().let_go([old], release=False, detach=True) == (["n.x"], [])
    assert [h.here for h in pages()["n.x"].holders] == [False, True]
    ms.release_views("n", "x")
