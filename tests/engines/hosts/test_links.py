"""The two ends of a link: whatever ends one, everybody who waits for it hears of that."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

import memshare_jupyter as ms
from memshare_jupyter.engines import Engine, _messages
from memshare_jupyter.engines.hosts import _channel as channels
from memshare_jupyter.engines.hosts import _doors as doors
from memshare_jupyter.engines.hosts import _lead, _linked, _links, _orders
from memshare_jupyter.engines.hosts._describe import Description, Group, by_host

UUID = bytes(range(16))
NOBODYS = {  # what ends a thread that takes messages in
    "its end": None,
    "what cannot be read": b"no pickle",
    "what is not there": b"cno_such_module\nname\n.",
}


@pytest.fixture
def ends():
    """Two ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    yield one, other
    one.close()
    other.close()


def wait_until(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def say(connection, data):
    if data is None:
        connection.close()
    else:
        connection.sendall(channels._LENGTH.pack(len(data)) + data)


class Block:
    """A block of which it is seen that it is let go."""

    def __init__(self):
        self.uuid = UUID
        self.closed = 0

    def close(self):
        self.closed += 1


@pytest.fixture
def link():
    made = _links.Link.__new__(_links.Link)
    made._client = lambda: SimpleNamespace(_closed=False)
    made._channel, made._token = None, b""
    made._here, made.gone = threading.Event(), threading.Event()
    made._inboxes, made._pages, made._why = {}, {}, ""
    return made


# The thread's error is told to whoever looks after threads, as any other.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("said", NOBODYS.values(), ids=NOBODYS.keys())
def test_whatever_ends_a_link_is_heard_by_who_waits_and_leaves_no_page_open(ends, link, said):
    here, there = ends
    inbox, block = queue.SimpleQueue(), Block()
    link.listen("call", inbox)
    pinned = _links.Pinned(block)
    pinned.use()
    link.stand_for(pinned)
    pinned.leave()
    thread = threading.Thread(target=link._serve, args=(here,))
    thread.start()
    assert link._here.wait(5)
    say(there, said)
    assert inbox.get(timeout=5) == (link, _links.GONE)
    thread.join(5)
    assert link.gone.is_set()
    assert block.closed == 1
    # And who comes too late is told, and leaves nothing.
    link.listen("later", inbox)
    assert inbox.get(timeout=5) == (link, _links.GONE)
    late = Block()
    pinned = _links.Pinned(late)
    pinned.use()
    link.stand_for(pinned)
    pinned.leave()
    assert late.closed == 1


def test_a_registry_that_is_busy_ends_no_link(ends, link, monkeypatch):
    here, there = ends
    asked = threading.Event()

    def busy(_block):
        asked.set()
        raise ms.RegistryBusyError("at this moment")

    monkeypatch.setattr(
        _links, "registry", lambda: SimpleNamespace(replicas=SimpleNamespace(is_over=busy))
    )
    monkeypatch.setattr(_links, "_LOOK_S", 0.02)
    pinned = _links.Pinned(Block())
    pinned.use()
    link.stand_for(pinned)
    thread = threading.Thread(target=link._serve, args=(here,))
    thread.start()
    assert asked.wait(5)
    asked.clear()
    assert asked.wait(5)
    assert not link.gone.is_set()
    there.close()
    thread.join(5)
    assert link.gone.is_set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("said", NOBODYS.values(), ids=NOBODYS.keys())
def test_whatever_ends_a_lead_ends_what_it_has_for_its_caller(ends, monkeypatch, said):
    here, there = ends
    dropped, ended = [], threading.Event()

    def drop(uuid):
        dropped.append(uuid)
        raise ms.RegistryBusyError("at this moment")  # the others go all the same

    monkeypatch.setattr(
        _lead, "registry", lambda: SimpleNamespace(replicas=SimpleNamespace(drop=drop))
    )
    lead = _lead.Lead(channels.Channel(here))
    lead.at_end("first", lambda: 1 / 0)
    lead.at_end("call", ended.set)
    pages = {os.urandom(16) for _ in range(2)}
    for uuid in pages:
        lead.keep(uuid)
    say(there, said)
    assert ended.wait(5)
    for _ in range(500):
        if set(dropped) == pages:
            break
        threading.Event().wait(0.01)
    assert set(dropped) == pages
    assert _lead._keeping == {}
    for thread in threading.enumerate():
        if thread.name == "memshare-lead":
            thread.join(5)  # so that its error is not told in the next test
    # What was asked for before is done in threads of their own, and may be late.
    late, after = os.urandom(16), threading.Event()
    with pytest.raises(ms.RegistryBusyError):
        lead.keep(late)
    lead.at_end("late", after.set)
    assert dropped[-1] == late
    assert _lead._keeping == {}
    assert after.is_set()


def test_a_door_stays_open_when_one_visitor_cannot_be_let_in(monkeypatch):
    class Flaky:
        def __init__(self, there):
            self.there, self.refused = there, 0

        def accept(self):
            if self.refused < 2:
                self.refused += 1
                raise OSError(24, "Too many open files")
            return self.there.accept()

        def fileno(self):
            return self.there.fileno()

    monkeypatch.setattr(doors, "_PAUSE_S", 0.01)
    door = doors._Door()
    real = socket.create_server(("127.0.0.1", 0))
    door._socket = flaky = Flaky(real)
    served = threading.Event()
    monkeypatch.setattr(door, "_visit", lambda connection: (connection.close(), served.set()))
    thread = threading.Thread(target=door._let_in)
    thread.start()
    socket.create_connection(real.getsockname()).close()
    assert served.wait(5)
    assert flaky.refused == 2
    real.shutdown(socket.SHUT_RDWR)
    real.close()
    thread.join(5)
    assert not thread.is_alive()


def test_one_that_asks_while_the_link_ends_hears_of_it_once(link):
    link.gone.set()
    promised = link.promise(print)  # heard here, and by the thread that ends the link
    for inbox in list(link._inboxes.values()):
        inbox.put((link, _links.GONE))
    with pytest.raises(_links.LeadGone, match="the link to it has ended"):
        promised.result(0)


def test_an_order_that_comes_when_the_call_has_ended_does_not_end_the_link(link):
    block = Block()
    block.fd, block.size_bytes = -1, 8  # closed
    counter = _orders.Counter(b"token", {UUID: _links.Pinned(block)})
    counter.put((link, _orders.Order(UUID, 0, 1)))
    assert not link.gone.is_set()


def test_a_page_is_open_as_long_as_it_is_read_for_an_order(link, monkeypatch):
    block = Block()
    block.fd, block.size_bytes = -1, 8
    pinned = _links.Pinned(block)
    pinned.use()
    read = []

    def pread(_fd, _size_bytes, _start):
        pinned.leave()  # the call ends meanwhile
        read.append(block.closed)
        return bytes(8)

    monkeypatch.setattr(os, "pread", pread)
    _orders.Counter(b"token", {UUID: pinned}).put((link, _orders.Order(UUID, 0, 1)))
    assert (read, block.closed) == ([0], 1)


class Cluster:
    """What a link uses of a client, and an engine that answers when it is told to."""

    _closed = False
    ids = (0,)

    def __init__(self):
        self.asked = []

    def __getitem__(self, number):
        assert number == 0
        return self

    def apply_async(self, _function, *_arguments):
        self.asked.append(Future())
        return self.asked[-1]


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setattr(_messages, "why_gone", lambda _client: "")
    monkeypatch.setattr(_messages, "request", lambda _engine, function, args, **_: (function, args))
    monkeypatch.setattr(_messages, "answer", lambda _engine, result, **_: result)
    monkeypatch.setattr(
        _messages, "lines_of", lambda _client: SimpleNamespace(take_in=lambda _number: None)
    )
    monkeypatch.setattr(_links, "way_here", lambda: doors.Way((), 0))
    monkeypatch.setattr(_links, "give", lambda _token, serve: serving.append(serve))
    monkeypatch.setattr(_links, "take_back", lambda _token: None)
    serving.clear()
    return Cluster()


serving = []
WAY = doors.Way(("10.0.0.1",), 1)


def hosts(cluster):
    return [Group("h2/1", "h2", [Engine(cluster, 0)])]


def come(cluster, there):
    """Have the lead come: it is let in, and the engine answers."""
    threading.Thread(target=serving[0], args=(there,), daemon=True).start()
    cluster.asked[0].set_result(WAY)


@pytest.mark.parametrize("late", [False, True])
def test_calls_that_begin_at_the_same_time_open_one_link(cluster, ends, late, monkeypatch):
    monkeypatch.setattr(_links, "_JOIN_S", 0.2 if late else 15.0)
    found = queue.SimpleQueue()
    calls = [
        threading.Thread(target=lambda: found.put(_linked.linked(hosts(cluster)))) for _ in range(8)
    ]
    for call in calls:
        call.start()
    wait_until(lambda: cluster.asked)
    if late:
        for _ in calls:
            assert found.get(timeout=10) == ({}, {"h2/1": "it does not answer"})
        come(cluster, ends[0])
        wait_until(_linked.links_now)  # it is for the next call
        found.put(_linked.linked(hosts(cluster)))
    else:
        threading.Event().wait(0.05)
        come(cluster, ends[0])
    linked = [found.get(timeout=10) for _ in range(1 if late else len(calls))]
    (link,) = _linked.links_now()
    assert linked == [({"h2/1": link}, {})] * len(linked)
    assert len(cluster.asked) == 1
    link.close()
    assert link.gone.wait(5)


def test_an_interrupt_of_who_waits_for_a_link_does_not_keep_it_from_opening(cluster, ends):
    def interrupt():
        wait_until(lambda: cluster.asked)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        _linked.linked(hosts(cluster))
    interrupting.join()
    come(cluster, ends[0])
    linked, without = _linked.linked(hosts(cluster))
    assert not without
    assert linked["h2/1"].way == WAY
    linked["h2/1"].close()


def test_an_engine_that_dies_before_it_comes_is_asked_no_more(cluster, ends):
    both = [Group("h2/1", "h2", [Engine(cluster, 0), Engine(cluster, 1)])]
    cluster.ids = (1,)
    assert _linked.linked(both) == ({}, {"h2/1": "its engine died"})
    cluster.__class__ = type("One", (Cluster,), {"__getitem__": lambda self, _number: self})
    calls = threading.Thread(target=lambda: _linked.linked(both))
    calls.start()
    wait_until(lambda: cluster.asked)
    threading.Thread(target=serving[-1], args=(ends[0],), daemon=True).start()
    cluster.asked[0].set_result(WAY)
    calls.join(10)
    (link,) = _linked.links_now()
    assert link.engine.number == 1
    link.close()


def test_a_lead_that_comes_when_nobody_waits_any_more_is_sent_away(cluster, ends):
    cluster.ids = ()
    _linked.linked(hosts(cluster))
    serving[0](ends[0])  # ends by itself
    assert ends[0].fileno() == -1


def test_a_forked_child_has_no_links(cluster, ends):
    calls = threading.Thread(target=lambda: _linked.linked(hosts(cluster)))
    calls.start()
    wait_until(lambda: cluster.asked)
    come(cluster, ends[0])
    calls.join(10)
    turn = _linked._turns[cluster]
    held = threading.Event()

    def hold():
        with turn:
            held.set()
            done.wait(10)

    done = threading.Event()
    holding = threading.Thread(target=hold)
    holding.start()
    assert held.wait(5)
    pid = os.fork()
    if not pid:
        with _linked._turns.setdefault(cluster, threading.RLock()):
            os._exit(len(_linked.links_now()))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    done.set()
    holding.join()
    (link,) = _linked.links_now()
    link.close()


def test_calls_that_begin_at_the_same_time_ask_engines_once_where_they_are(cluster):
    cluster._engines = {0: "engine"}
    found = queue.SimpleQueue()
    calls = [
        threading.Thread(target=lambda: found.put(by_host([Engine(cluster, 0)]))) for _ in range(8)
    ]
    for call in calls:
        call.start()
    wait_until(lambda: cluster.asked)
    threading.Event().wait(0.05)
    cluster.asked[0].set_result(Description("h2/1", "h2", "", ""))
    assert [found.get(timeout=10) for _ in calls] == [(hosts(cluster), [])] * len(calls)
    assert len(cluster.asked) == 1
