"""An object that was attached is known again by where it stands, as long as it is unchanged."""

from __future__ import annotations

import pickle
import types

import numpy as np
import pytest
import scipy.sparse

import memshare_jupyter as ms
from memshare_jupyter.core.registry import registry

pandas = pytest.importorskip("pandas", reason="needs pandas")


@pytest.fixture
def ns():
    with ms.Namespace("n") as namespace:
        yield namespace


KNOWN = {
    "frame": lambda: pandas.DataFrame(np.ones((500, 20)), columns=[f"c{i}" for i in range(20)]),
    "frame of several dtypes": lambda: pandas.DataFrame({"a": np.arange(9.0), "b": range(9)}),
    "series": lambda: pandas.Series(np.arange(900.0), name="s"),
    "sparse": lambda: scipy.sparse.random(90, 90, 0.1, format="csr", rng=0),
    "masked": lambda: np.ma.masked_array(np.arange(9.0), np.arange(9) % 2 == 0),
    "list": lambda: [np.arange(9.0), np.ones(3), "text"],
    "dict": lambda: {"a": np.arange(9.0), "b": 5},
}


@pytest.mark.parametrize("make", KNOWN.values(), ids=KNOWN.keys())
def test_what_was_attached_is_referred_to_and_not_shared_again(ns, child, make):
    ns["x"] = make()
    attached = ms.retrieve_views("n", "x")["x"]
    ns["y"] = np.zeros(2)
    other = ns["y"]
    _, reference = registry().refer_to(attached)
    sent = pickle.dumps(reference)
    assert len(sent) < 1000
    there = child(f"import pickle; got = pickle.loads({sent!r})")
    assert there.eval("ms.view_list()") == ["n.x"]
    assert registry().refer_to(make()) is None
    assert other.sum() == 0


def test_it_is_the_page_and_not_the_name_that_is_referred_to(ns, child):
    ns["x"] = {"a": np.arange(9.0)}
    attached = ns["x"]
    ns["x"] = {"a": np.zeros(9)}
    got, reference = registry().refer_to(attached)
    assert got["a"].tolist() == list(range(9))
    there = child(f"import pickle; got = pickle.loads({pickle.dumps(reference)!r})")
    assert there.eval("got['a'].tolist()") == list(range(9))


CHANGES = {
    "another column": lambda f: f.assign(z=1.0),
    "other values": lambda f: f + 1,
    "another order": lambda f: f[["b", "a"]],
    "another label": lambda f: f.rename(columns={"a": "A"}),
    "a part": lambda f: f.iloc[:5],
    "a copy": lambda f: f.copy(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_was_changed_is_another_value(ns, change):
    ns["x"] = pandas.DataFrame({"a": np.arange(9.0), "b": np.ones(9)})
    assert registry().refer_to(change(ns["x"])) is None


def test_a_dict_that_was_changed_is_another_value(ns):
    ns["x"] = {"a": np.arange(9.0), "b": 5}
    attached = ns["x"]
    attached["b"] = 6
    assert registry().refer_to(attached) is None


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_what_others_or_this_process_may_write_to_is_not_referred_to(ns, mode):
    ms.register_variables("n", {"x": {"a": np.arange(9.0)}}, writable=True)
    attached = ms.retrieve_views("n", "x", mode)["x"]
    assert registry().refer_to(attached) is None


def test_what_has_no_arrays_or_cannot_be_shared_is_not_looked_for(ns):
    ns["x"] = {"a": 1}
    attached = ms.retrieve_views("n", "x")["x"]
    assert registry().refer_to(attached) is None
    assert registry().refer_to(types.SimpleNamespace(x=lambda: 0)) is None
