"""Registering: what it promises, also when it fails half way."""

from __future__ import annotations

import os

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.errors import (
    InvalidNameError,
    PageExistsError,
    UnsupportedValueError,
)

CORE = "memshare_jupyter.core."


def test_registering_again_replaces_and_old_views_keep_their_values(listed, truth):
    ms.register_variables("n", {"x": np.arange(3)})
    old = ms.retrieve_views("n", "x")["x"]
    ms.register_variables("n", {"x": np.arange(7.0)})
    new = ms.retrieve_views("n", "x")["x"]
    assert (old.tolist(), new.tolist()) == ([0, 1, 2], [0, 1, 2, 3, 4, 5, 6])
    assert ms.page_list() == ["n.x"]
    assert [p.state for p in ms.snapshot().pages] == ["draining", "active"]
    assert listed() == truth()
    ms.release_variables("n", "x")
    assert ms.release_views("n", "x") == ["n.x"]
    assert (old.tolist(), new.tolist()) == ([0, 1, 2], [0, 1, 2, 3, 4, 5, 6])


def test_a_worker_with_an_old_view_gets_the_new_values_when_it_attaches_again(page, child):
    worker = child("x = ms.retrieve_views('n', 'x')['x']")
    ms.register_variables("n", {"x": np.zeros(2)})
    assert worker.eval("ms.retrieve_views('n', 'x')['x'].tolist(), x.tolist()") == (
        [0, 0],
        [0, 1, 2, 3, 4],
    )


def test_a_name_of_another_living_process_is_refused_and_the_process_named(page, child):
    rival = child()
    with pytest.raises(PageExistsError, match=f"process {os.getpid()} owns a page") as refusal:
        rival.run("ms.register_variables('n', {'x': np.ones(2)})")
    assert (refusal.value.name, refusal.value.pid) == ("n.x", os.getpid())
    assert isinstance(refusal.value, FileExistsError)
    assert rival.eval("ms.page_list()") == []


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"a": np.ones(2), "b/c": np.ones(2)}, InvalidNameError),
        ({"a": np.ones(2), "b": np.array([None])}, UnsupportedValueError),
        ({"a": np.ones(2), "b": [np.ones(2), lambda: 0]}, UnsupportedValueError),
        ({"a": np.ones(2), 5: np.ones(2)}, InvalidNameError),
        ({"a": np.ones(2), "theirs": np.ones(2)}, PageExistsError),
    ],
    ids=["name", "value", "element", "type", "rival"],
)
def test_registering_several_registers_all_or_none(page, child, listed, truth, variables, error):
    child("ms.register_variables('n', {'theirs': np.ones(2)})")
    before = listed()
    with pytest.raises(error):
        ms.register_variables("n", {**variables, "x": np.zeros(3)})
    assert listed() == truth() == before
    assert ms.page_list() == ["n.x"]
    assert ms.Namespace("n")["x"].tolist() == [0, 1, 2, 3, 4]


def test_a_refused_value_is_named():
    with pytest.raises(UnsupportedValueError, match=r"study\.`a\.b`: cannot share a function"):
        ms.register_variables("study", {"a.b": lambda: 0})


# Where the system may refuse: (call, how-manieth), for a register of two pages, one of which
# replaces another. Each block takes one write.
REFUSALS = {
    "no block": (CORE + "blocks.create", 2),
    "no memory for the value": ("os.pwrite", 2),
    "no mapping": (CORE + "blocks.map_block", 2),
    "no seal": (CORE + "blocks._memfd.MemfdBlock.seal", 1),
    "no lock": (CORE + "ledger._names.try_lock", 1),
    "no slots": ("os.pwrite", 3),
    "no state": ("os.pwrite", 4),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("error", ["OSError(28, 'No space left')", "KeyboardInterrupt()"])
def test_a_register_that_fails_half_way_changes_nothing(child, listed, truth, refusal, error):
    one = child("ms.register_variables('n', {'x': np.arange(5)})")
    reader = child()  # reads the ledger afresh; this process has read it before
    before = listed()
    target, count = refusal
    one.run(f"undo = failing({target!r}, {count}, {error})")
    with pytest.raises((OSError, MemoryError, KeyboardInterrupt)):
        one.run("ms.register_variables('n', {'x': np.ones(2), 'y': np.ones(2)})")
    one.run("undo()")
    assert listed() == truth() == before
    assert reader.eval("[p.name for p in ms.snapshot().pages]") == ["n.x"]
    assert one.eval("ms.page_list(), ms.view_list()") == (["n.x"], [])
    assert ms.Namespace("n")["x"].tolist() == [0, 1, 2, 3, 4]
    one.run("ms.register_variables('n', {'x': np.ones(2), 'y': np.ones(2)})")
    assert listed() == truth()
    one.run("ms.release_variables('n', ['x', 'y'])")
    assert listed() == truth() == {}


@pytest.mark.parametrize("count", range(1, 5), ids=["value", "file", "slot", "state"])
def test_a_failed_first_register_leaves_no_page_and_a_working_process(child, truth, listed, count):
    one = child(f"undo = failing('os.pwrite', {count})")
    with pytest.raises(ms.NotEnoughMemoryError, match=r"n\.x|runtime directory"):
        one.run("ms.register_variables('n', {'x': np.ones(2)})")
    one.run("undo()")
    assert listed() == truth() == {}
    one.run("ms.register_variables('n', {'x': np.ones(2)})")
    assert listed() == truth() != {}
