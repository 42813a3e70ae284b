"""The first contact with an engine: what differs is told, and no code crosses versions."""

from __future__ import annotations

import os
import pickle
import time

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.engines import Engine, Messages
from memshare_jupyter.engines import _contact as contact

X = np.arange(6.0).reshape(2, 3)


@pytest.fixture(scope="module")
def client():
    cluster = ms.local_cluster(2, quiet=True)
    yield cluster.client
    cluster.stop()


@pytest.fixture
def as_if(monkeypatch, client):
    """Let this process be another than the engines take it for, at the first contact."""
    contact._known.pop(client, None)
    truth = contact._expected()

    def make(**facts):
        monkeypatch.setattr(contact, "_expected", lambda: {**truth, **facts})

    yield make
    contact._known.pop(client, None)


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        ({"Python": "3.99"}, r"engine \d cannot take part: its Python is 3.1\d, that of this"),
        ({"memshare_jupyter": "9.9"}, "its memshare_jupyter is 0.1.0, that of this process 9.9"),
        ({"host": "far", "boot": "x"}, "its host is .*, that of this process far.* try again"),
        ({"runtime directory": "/else"}, "its runtime directory is .*XDG_RUNTIME_DIR"),
    ],
)
def test_one_error_says_which_engine_differs_in_what(client, as_if, fact, said):
    as_if(**fact)
    with pytest.raises(ms.ClusterError, match=said) as caught:
        ms.memapply(X, "rows", np.sum, cluster=client)
    assert caught.value.engine in client.ids
    assert list(caught.value.differs) == [next(key for key in fact if key != "host")]


def test_after_that_engines_are_asked_no_more(client, as_if):
    ms.memapply(X, "rows", np.sum, cluster=client)  # an item for each engine
    as_if(Python="3.99")
    assert ms.memapply(X, "rows", np.sum, cluster=client) == [3.0, 12.0]


def test_what_is_sent_names_functions_and_has_no_code(client, as_if):
    engine = Engine(client, client.ids[0])
    first, _, names = contact.request(engine, os.getpid, (), here=True)
    assert first is eval
    assert pickle.loads(names["call"]) == os.getpid()
    contact.answer(engine, None, here=False)
    assert contact.request(engine, os.getpid, (), here=True)[0] is eval
    contact.answer(engine, None, here=True)
    later, call = contact.request(engine, os.path.join, ("a", "b"), here=True)
    assert later is pickle.loads
    assert later(call) == "a/b"


def test_a_closed_client_and_one_without_a_controller_are_errors_that_say_so(client, monkeypatch):
    from memshare_jupyter.engines import _alive as alive

    monkeypatch.setattr(alive, "running_cluster", lambda: None)
    alive._looked.pop(client, None)
    assert alive.why_gone(client) == ""
    monkeypatch.setattr(alive, "_address_of", lambda _: "tcp://127.0.0.1:1")
    alive._looked.pop(client, None)
    with pytest.raises(ms.ClusterError, match="cannot be used: its controller has ended"):
        ms.memapply(X, "rows", np.sum, cluster=client)
    messages = Messages()
    messages.send(Engine(client, client.ids[0]), time.sleep, 1)
    alive._looked.pop(client, None)
    with pytest.raises(ms.ClusterError, match="cannot be reached: its controller has ended"):
        messages.wait_for_all(10)
