"""What names mean, in a function's call and in a notebook."""

from __future__ import annotations

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.apply._names import Names, NotebookNames, live_pages
from memshare_jupyter.core.names import PageName

KNOWN = {"X": [1], "mine": [2]}


@pytest.fixture
def rna():
    with ms.Namespace("rna") as namespace:
        namespace["X"] = np.ones(3)
        yield namespace


def notebook(namespace=None):
    return NotebookNames(namespace, KNOWN, KNOWN.__getitem__)


@pytest.mark.parametrize(
    ("namespace", "text", "page"),
    [
        (None, "rna.X", ("rna", "X")),
        ("rna", "X", ("rna", "X")),
        ("rna", "rna.X", ("rna", "X")),
        ("rna", "v2.X", ("rna", "v2.X")),
    ],
)
def test_in_a_call_every_name_is_a_page(namespace, text, page):
    assert Names(namespace).items(text) == PageName(*page)


def test_in_a_call_a_value_is_itself_and_variables_are_given_or_named():
    names = Names(None)
    assert names.items(KNOWN) is KNOWN
    assert names.variables({"w": 1}, "rna") == {"w": 1}
    assert names.variables(["X", "y"], "rna") == {"X": ("rna", "X"), "y": ("rna", "y")}
    assert names.variables("X", "rna") == {"X": ("rna", "X")}
    assert names.variables(None, "rna") == {}


def test_in_a_notebook_a_page_of_its_namespace_comes_first(rna):
    assert notebook("rna").items("X") == PageName("rna", "X")
    assert notebook("other").items("X") is KNOWN["X"]
    assert notebook().items("X") is KNOWN["X"]
    assert notebook().items("rna.X") == PageName("rna", "X")
    with pytest.raises(ms.InvalidNameError):
        notebook().items("nothing")


def test_in_a_notebook_further_arguments_are_pages_of_the_same_namespace_or_variables(rna):
    assert notebook().variables(["X", "mine"], "rna") == {"X": ("rna", "X"), "mine": [2]}
    assert notebook("rna").variables(["X"], None) == {"X": ("rna", "X")}
    assert notebook().variables(["X"], None) == {"X": [1]}
    with pytest.raises(ms.PageNotFoundError, match="has: X"):
        notebook().variables(["nothing"], "rna")


def test_a_page_that_was_released_is_not_live(rna, child):
    viewer = child("x = ms.retrieve_views('rna', 'X')['X']")
    assert live_pages() == [PageName("rna", "X")]
    ms.release_variables("rna", "X")
    assert live_pages() == []
    viewer.exit()
