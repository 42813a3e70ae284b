"""Attaching: what it promises, also when it fails half way."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.errors import (
    PageNotFoundError,
)

CORE = "memshare_jupyter.core."
BEGUN = "process.registry()._handles.ledger.relist()"


def test_attaching_what_there_is_not_says_what_there_is(page):
    ms.register_variables("m", {"z": np.ones(1)})
    with pytest.raises(PageNotFoundError, match=r"no page n\.y \(namespace 'n' has: x\)") as error:
        ms.retrieve_views("n", "y")
    assert isinstance(error.value, KeyError)
    with pytest.raises(PageNotFoundError, match=r"no namespace 'o' either, but: m, n\)"):
        ms.retrieve_views("o", "x")
    ms.release_variables("m", "z")
    process.registry().gc()
    with pytest.raises(PageNotFoundError, match=r"no page n\.x \(nothing is shared\); register"):
        ms.retrieve_metadata("n", "x")


def test_many_names_are_not_all_listed(page):
    ms.register_variables("m", {f"v{i:02}": np.ones(1) for i in range(20)})
    with pytest.raises(PageNotFoundError, match=r"v07, and 12 more\)"):
        ms.retrieve_views("m", "y")
    process.registry().gc("m")


def test_a_page_retrieved_twice_needs_one_release(page):
    one = ms.retrieve_views("n", "x")["x"]
    other = ms.retrieve_views("n", "x")["x"]
    assert np.shares_memory(one, other)
    assert ms.snapshot().pages[0].views == 1
    del one, other
    assert ms.release_views("n", "x") == []
    with pytest.raises(PageNotFoundError, match=r"no view of n\.x"):
        ms.release_views("n", "x")


def test_retrieving_several_of_which_one_is_missing_takes_no_view(page):
    with pytest.raises(PageNotFoundError):
        ms.retrieve_views("n", ["x", "missing"])
    gc.collect()
    assert ms.view_list() == []


def test_retrieving_several_of_which_one_is_missing_keeps_an_earlier_view(page):
    ms.retrieve_views("n", "x")
    with pytest.raises(PageNotFoundError):
        ms.retrieve_views("n", ["x", "missing"])
    assert ms.view_list() == ["n.x"]


ATTACH_REFUSALS = {
    "no descriptor": (CORE + "blocks.attach", 1),
    "no mapping": (CORE + "blocks.map_block", 1),
    "no value": (CORE + "registry._page.build", 1),
}
LIST_REFUSALS = {
    "no file": ("process.registry()", 1),
    "no slot": (BEGUN, 1),
    "no state": (BEGUN, 2),
}


@pytest.mark.parametrize(("begun", "count"), LIST_REFUSALS.values(), ids=LIST_REFUSALS.keys())
def test_a_view_that_cannot_be_listed_is_a_view_and_listed_later(
    page, child, listed, truth, begun, count
):
    one = child(begun)
    one.run(f"undo = failing('os.pwrite', {count}, OSError(28, 'No space left'))")
    one.run("x = ms.retrieve_views('n', 'x')['x']")
    one.run("undo()")
    assert one.eval("x.tolist()") == [0, 1, 2, 3, 4]
    assert one.eval("ms.view_list()") == ["n.x"]
    assert listed() == truth()
    one.run("del x; ms.release_views('n', 'x')")
    assert listed() == truth()


@pytest.mark.parametrize(("begun", "count"), LIST_REFUSALS.values(), ids=LIST_REFUSALS.keys())
def test_an_attach_interrupted_while_it_is_listed_takes_no_view(
    page, child, listed, truth, begun, count
):
    one = child(begun)
    before = listed()
    one.run(f"undo = failing('os.pwrite', {count}, KeyboardInterrupt())")
    with pytest.raises(KeyboardInterrupt):
        one.run("ms.retrieve_views('n', 'x')")
    one.run("undo(); gc.collect()")
    assert one.eval("ms.view_list()") == []
    assert listed() == truth() == before


@pytest.mark.parametrize("refusal", ATTACH_REFUSALS.values(), ids=ATTACH_REFUSALS.keys())
@pytest.mark.parametrize("error", ["OSError(28, 'No space left')", "KeyboardInterrupt()"])
def test_an_attach_that_fails_half_way_takes_no_view(page, child, listed, truth, refusal, error):
    one = child("process.registry()")
    before = listed()
    target, count = refusal
    one.run(f"undo = failing({target!r}, {count}, {error})")
    with pytest.raises((OSError, MemoryError, KeyboardInterrupt)):
        one.run("ms.retrieve_views('n', 'x')")
    one.run("undo(); gc.collect()")
    assert one.eval("ms.view_list()") == []
    assert listed() == truth() == before
    assert one.eval("ms.retrieve_views('n', 'x')['x'].tolist()") == [0, 1, 2, 3, 4]
    assert listed() == truth()


def test_a_page_of_another_format_is_refused_and_no_view_is_kept(page):
    handle = next(iter(process.registry()._handles.pages.values()))
    mapping = handle.page._held
    at = mapping.rfind(b"memsharp") + 8
    mapping[at] = 7
    with pytest.raises(ms.HeaderMismatchError, match="has format 7, this process reads format 3"):
        ms.retrieve_views("n", "x")
    assert ms.view_list() == []
    mapping[at] = 3
    mapping[at - 8] = 0
    with pytest.raises(ms.HeaderMismatchError, match="not a page of memshare_jupyter"):
        ms.retrieve_views("n", "x")


def test_a_page_with_a_damaged_descriptor_is_refused(page):
    mapping = next(iter(process.registry()._handles.pages.values())).page._held
    mapping[mapping.find(b'"shape"') + 1] = 0
    with pytest.raises(ms.HeaderMismatchError, match="register it again"):
        ms.retrieve_views("n", "x")
    assert ms.view_list() == []
