"""The foreman: of a call that its caller has given up nothing is left on its host."""

from __future__ import annotations

import queue
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from memshare_jupyter.apply import _foreman as foreman
from memshare_jupyter.engines.hosts import Lead, _bring
from memshare_jupyter.engines.hosts import _channel as channels

ASKED, TOLD = 1, None
may_go_on = threading.Event()
came_to = queue.SimpleQueue()


@pytest.fixture
def caller():
    """The caller's end of a link to a lead of this process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        mine = channels.Channel(socket.create_connection(server.getsockname()))
        lead = Lead(channels.Channel(server.accept()[0]))
    yield SimpleNamespace(channel=mine, lead=lead)
    mine.close()
    for thread in threading.enumerate():
        if thread.name in ("memshare-lead", "memshare-foreman"):
            thread.join(5)


def late(lead, function, *arguments):
    """Begin it late, as a thread does on a busy host."""
    came_to.put(function)
    assert may_go_on.wait(10)
    return function(lead, *arguments)


def noted(_lead):
    """Say that all that was told before is done."""
    came_to.put(noted)


def nothing(_lead):
    """Begin nothing."""


def begin_late(caller, function, *arguments):
    """Have the lead be asked to begin what it is told meanwhile to end."""
    may_go_on.clear()
    caller.channel.send((ASKED, late, (function, *arguments)))
    assert came_to.get(timeout=10) is function


def go_on(caller):
    caller.channel.send((TOLD, noted, ()))
    assert came_to.get(timeout=10) is noted
    may_go_on.set()
    assert caller.channel.receive(10)[0] == ASKED


def test_a_call_that_is_over_before_it_was_begun_leaves_no_foreman(caller):
    begin_late(caller, foreman.open_call, "c", 10, 2, None, False)
    caller.channel.send((TOLD, foreman.end, ("c",)))
    go_on(caller)
    assert not foreman._foremen
    for thread in threading.enumerate():
        if thread.name == "memshare-foreman":
            thread.join(5)
            assert not thread.is_alive()


def test_pages_that_nobody_waits_for_are_not_made_ready_to_be_passed_on(caller, monkeypatch):
    replicas = SimpleNamespace(keep=lambda _ref: False)
    monkeypatch.setattr(_bring, "registry", lambda: SimpleNamespace(replicas=replicas))
    given = set()
    monkeypatch.setattr(_bring, "give", lambda token, _serve: given.add(token))
    monkeypatch.setattr(_bring, "take_back", given.discard)
    begin_late(caller, _bring.lacks, [SimpleNamespace(uuid=bytes(16))], b"token")
    caller.channel.send((TOLD, _bring.finish, (b"token",)))
    go_on(caller)
    assert (caller.lead.stocks, given) == ({}, set())


def test_what_is_over_is_forgotten_when_nothing_can_begin_it_any_more(caller):
    begin_late(caller, nothing)
    for number in range(100):
        caller.channel.send((TOLD, Lead.over, (number,)))
    go_on(caller)
    caller.channel.send((TOLD, Lead.over, ("later",)))
    caller.channel.send((TOLD, noted, ()))
    assert came_to.get(timeout=10) is noted
    deadline = time.monotonic() + 5
    while caller.lead._over or caller.lead._at_work:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ended = []
    caller.lead.at_end(1, lambda: ended.append(1))
    assert not ended
