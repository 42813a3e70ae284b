"""The reference's functions and `Namespace`, as a user meets them."""

from __future__ import annotations

import os

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process


@pytest.fixture
def ns():
    with ms.Namespace("study") as namespace:
        yield namespace


def test_a_namespace_is_a_mapping_of_pages(ns):
    ns["X"] = np.eye(3)
    ns["y"] = np.arange(3)
    assert (list(ns), len(ns), "X" in ns, "z" in ns) == (["X", "y"], 2, True, False)
    assert ns["X"].sum() == 3
    assert {name: view.shape for name, view in ns.items()} == {"X": (3, 3), "y": (3,)}
    assert ns.get("z") is None
    del ns["y"]
    assert list(ns) == ["X"]
    assert ns.pop("X").sum() == 3
    assert ms.page_list() == []


def test_a_missing_variable_is_a_key_error_that_reads_well(ns):
    ns["X"] = np.eye(3)
    with pytest.raises(KeyError) as error:
        ns["y"]
    assert str(error.value) == "no page study.y (namespace 'study' has: X); register it first"
    with pytest.raises(KeyError):
        del ns["y"]


def test_a_namespace_shows_the_pages_of_every_process(ns, child):
    child("ms.register_variables('study', {'theirs': np.ones(4)})")
    ns["mine"] = np.ones(2)
    assert list(ns) == ["mine", "theirs"]
    assert repr(ns) == (
        "Namespace('study'): 2 pages\n"
        "  mine: array float64 (2,), 16 B, 1 handle, active\n"
        "  theirs: array float64 (4,), 32 B, 1 handle, active"
    )


def test_the_end_of_a_namespace_releases_and_detaches(child, listed, truth):
    child("ms.register_variables('study', {'theirs': np.ones(4)})")
    with ms.Namespace("study") as ns:
        ns["X"] = np.eye(3)
        ms.retrieve_views("study", ["X", "theirs"])
        ms.register_variables("other", {"X": np.eye(2)})
    assert (ms.page_list(), ms.view_list()) == (["other.X"], [])
    assert listed() == truth()
    ms.release_variables("other", "X")


def test_the_end_of_a_namespace_comes_with_an_error_too():
    ns = ms.Namespace("study")
    ns["X"] = np.eye(3)
    with pytest.raises(ZeroDivisionError), ns:
        1 / 0  # noqa: B018 -- raises
    assert ms.page_list() == []


def test_an_impossible_namespace_is_refused_when_it_is_named():
    with pytest.raises(ms.InvalidNameError):
        ms.Namespace("a/b")


def test_names_are_given_as_one_or_as_several(ns):
    ms.register_variables("study", {"a": np.ones(1), "b": np.ones(2)})
    assert list(ms.retrieve_views("study", "a")) == ["a"]
    assert list(ms.retrieve_views("study", ("b", "a"))) == ["b", "a"]
    assert list(ms.retrieve_metadata("study", iter(["a"]))) == ["a"]
    assert ms.release_views("study", {"a", "b"}) == []
    ms.release_variables("study", "b")
    assert ms.page_list() == ["study.a"]


def test_lists_come_back_as_lists_in_order(ns):
    arrays = [np.arange(i) for i in range(5)]
    ns["l"] = arrays
    got = ns["l"]
    assert type(got) is list
    assert all(np.array_equal(a, b) for a, b in zip(got, arrays, strict=True))
    ns["empty"] = []
    assert ns["empty"] == []


def test_names_with_dots_are_told_apart():
    ms.register_variables("a.b", {"c": np.zeros(1)})
    ms.register_variables("a", {"b.c": np.ones(1)})
    assert ms.page_list() == ["a.`b.c`", "a.b.c"]
    assert ms.Namespace("a")["b.c"].tolist() == [1]
    assert ms.Namespace("a.b")["c"].tolist() == [0]
    process.registry().gc()


def test_variables_named_like_the_references_metadata_do_not_collide():
    ms.register_variables("a", {"x": np.zeros(1), "md.x": np.ones(1)})
    assert ms.Namespace("a")["x"].tolist() == [0]
    assert ms.Namespace("a")["md.x"].tolist() == [1]
    process.registry().gc()


def test_the_lists_show_only_what_is_this_processs(child):
    ms.register_variables("mine", {"x": np.ones(1)})
    child("ms.register_variables('theirs', {'x': np.ones(1)}); x = ms.Namespace('mine')['x']")
    ms.retrieve_views("theirs", "x")
    assert (ms.page_list(), ms.view_list()) == (["mine.x"], ["theirs.x"])
    assert [p.name for p in ms.snapshot().pages] == ["mine.x", "theirs.x"]
    process.registry().gc()


def test_a_change_of_the_array_after_registering_is_not_shared(ns):
    array = np.zeros(3)
    ns["x"] = array
    array[:] = 9
    assert ns["x"].tolist() == [0, 0, 0]


def test_a_view_can_be_registered_under_another_name(ns):
    ns["x"] = np.arange(6).reshape(2, 3)
    ns["y"] = ns["x"].T
    assert ns["y"].tolist() == [[0, 3], [1, 4], [2, 5]]
    ns["x"] = ns["x"][:, 1]
    assert ns["x"].tolist() == [1, 4]


def test_memory_is_that_of_one_copy(child):
    owner = child("ms.register_variables('big', {'small': np.ones(9), 'x': np.ones(10_000_000)})")
    workers = [child("ms.retrieve_views('big', 'small')['small'].sum()") for _ in range(3)]

    def pss_bytes():
        return sum(one.eval("pss_bytes()") for one in (owner, *workers))

    before = pss_bytes()  # the owner wrote the data and has not touched its mapping of it
    for one in workers:
        one.run("x = ms.retrieve_views('big', 'x')['x']; assert x.sum() == 10_000_000")
    assert pss_bytes() - before < 1.05 * 80_000_000
    owner.run("ms.release_variables('big', 'x')")
    for one in workers:
        one.run("del x; ms.release_views('big', 'x')")
    assert pss_bytes() - before < 0.05 * 80_000_000


def test_a_page_says_who_owns_it_to_everybody(child, ns):
    ns["x"] = np.ones(2)
    other = child()
    assert other.eval("ms.retrieve_metadata('study', 'x')['x'].owner_pid") == os.getpid()
