"""Modes of views: read only by the kernel's hand, read and write, private copy on write."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest

import memshare_jupyter as ms

X = np.arange(12.0).reshape(3, 4)


@pytest.fixture
def study():
    with ms.Namespace("study") as namespace:
        ms.register_variables("study", {"X": X})
        ms.register_variables("study", {"W": X}, writable=True)
        yield namespace


def view(variable, mode="r"):
    return ms.retrieve_views("study", variable, mode)[variable]


@pytest.mark.parametrize("variable", ["X", "W"])
def test_by_default_a_view_cannot_be_written_even_if_the_page_can(study, variable):
    there = view(variable)
    with pytest.raises(ValueError, match="attach it with mode='c'"):
        there[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        there.flags.writeable = True


def test_what_is_written_to_a_writable_page_is_seen_by_all(study, child):
    mine, theirs = view("W"), child("W = ms.retrieve_views('study', 'W', 'r+')['W']")
    theirs.run("W[1, 2] = -1; W *= 2")
    assert mine[1, 2] == -2
    assert mine[2, 3] == 22
    assert theirs.eval("W.flags.writeable")


def test_a_page_registered_for_reading_refuses_the_writing_mode(study, child):
    with pytest.raises(ms.ReadOnlyPageError, match="register it with writable=True") as refused:
        view("X", "r+")
    assert isinstance(refused.value, PermissionError)
    with pytest.raises(ms.ReadOnlyPageError):
        child().run("ms.retrieve_views('study', 'X', 'r+')")
    assert ms.view_list() == []


@pytest.mark.parametrize("variable", ["X", "W"])
def test_a_private_copy_can_be_written_and_nobody_else_sees_it(study, child, variable):
    private = view(variable, "c")
    private[:, 0] = 99
    np.testing.assert_array_equal(view(variable), X)
    other = child(f"a = ms.Namespace('study')['{variable}']")
    assert other.eval("a.tolist()") == X.tolist()


def test_each_mode_is_a_view_of_its_own_and_counts(study):
    held = [view("W", mode) for mode in ("r", "r+", "c")]
    assert ms.retrieve_metadata("study", "W")["W"].views == 3
    assert ms.view_list() == ["study.W"]
    assert ms.release_views("study", "W") == ["study.W"]
    del held
    gc.collect()
    assert ms.view_list() == []


def test_a_private_copy_is_sent_by_value_and_a_writable_view_by_reference(study):
    private, shared = view("X", "c"), view("W", "r+")
    private[0, 0] = 7
    back = pickle.loads(pickle.dumps(private))
    assert back[0, 0] == 7
    assert not np.shares_memory(back, private)
    again = pickle.loads(pickle.dumps(shared[1:]))
    again[0, 0] = -5
    assert shared[1, 0] == -5


def test_an_unknown_mode_is_refused(study):
    with pytest.raises(ValueError, match="mode must be 'r', 'r\\+' or 'c'"):
        view("X", "w")


def test_frames_attached_for_writing_can_be_written(study):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = pandas.DataFrame({"a": np.arange(5.0)})
    ms.register_variables("study", {"df": frame}, writable=True)
    view("df", "c")["a"].array[:] = 1.0
    assert view("df")["a"].tolist() == [0, 1, 2, 3, 4]


def test_the_list_says_which_pages_are_writable(study):
    states = {page.variable: page.state for page in ms.snapshot().pages}
    assert states == {"X": "active", "W": "writable"}
