"""What goes between hosts, on one: who is let in, what is passed on, and what is not believed."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import zlib

import pytest

from memshare_jupyter.engines.hosts import _channel as channels
from memshare_jupyter.engines.hosts import _doors as doors
from memshare_jupyter.engines.hosts import _grains as grains
from memshare_jupyter.engines.hosts import _proof as proof

UUID = bytes(range(16))


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(doors, "_door", doors._Door())
    yield
    if doors._door._socket is not None:
        doors._door._socket.shutdown(socket.SHUT_RDWR)
        doors._door.close()


def here():
    return doors.Way(("127.0.0.1",), doors.way_here().port)


def memory(data):
    fd = os.memfd_create("test")
    os.write(fd, data)
    return fd


@pytest.fixture
def block():
    made = []

    def make(size_bytes, data=b""):
        fd = memory(data or bytes(size_bytes))
        made.append(fd)
        return grains.Arriving(fd, size_bytes, whole=bool(data))

    yield make
    for fd in made:
        os.close(fd)


@pytest.mark.parametrize("encrypted", [True, False])
def test_who_knows_the_token_is_let_in_and_nobody_else(encrypted):
    token, came = proof.new_token(), threading.Event()
    doors.give(token, lambda connection: (connection.sendall(b"hello"), came.set()))
    with doors.dial(here(), token, encrypted=encrypted) as connection:
        assert proof.exactly(connection, 5) == b"hello"
    assert came.wait(5)
    with pytest.raises(ConnectionError, match="cannot be reached"):
        doors.dial(here(), proof.new_token(), encrypted=encrypted)
    doors.take_back(token)
    with pytest.raises(ConnectionError, match="cannot be reached"):
        doors.dial(here(), token, encrypted=encrypted)


def test_the_token_is_a_part_of_the_keys_where_python_can_do_that():
    token = proof.new_token()
    doors.give(token, lambda connection: connection.sendall(b"hello"))
    with doors.dial(here(), token, encrypted=True) as connection:
        name, version, bits = connection.cipher()
        assert proof.exactly(connection, 5) == b"hello"
    assert (version, bits) == ("TLSv1.2", 256)
    assert name == f"{'DHE-PSK' if proof.TOKEN_IN_KEYS else 'ADH'}-AES256-GCM-SHA384"


def test_who_has_proved_it_is_in_although_the_token_is_taken_back(monkeypatch):
    token, came = proof.new_token(), threading.Event()

    def accepted_late(*args, **options):
        proved = proof.accepted(*args, **options)
        doors.take_back(token)  # as who has sent for it does as soon as it says that it is in
        return proved

    monkeypatch.setattr(doors, "accepted", accepted_late)
    doors.give(token, lambda _: came.set())
    doors.dial(here(), token, encrypted=True).close()
    assert came.wait(5)


@pytest.mark.parametrize("encrypted", [True, False])
def test_who_listens_has_to_know_the_token_too(encrypted):
    token = proof.new_token()
    with socket.create_server(("127.0.0.1", 0)) as impostor:
        listening = threading.Thread(target=_pretend, args=(impostor, token))
        listening.start()
        way = doors.Way(("127.0.0.1",), impostor.getsockname()[1])
        with pytest.raises(ConnectionError, match="does not know the token"):
            doors.dial(way, token, encrypted=encrypted)
        listening.join()


def _pretend(impostor, token):
    """Let in by the name of a token, which goes over the connection, but without it."""
    connection = impostor.accept()[0]
    with contextlib.suppress(OSError), contextlib.closing(connection):
        name, encrypted = proof.heard(connection)
        assert name == proof.id_of(token)
        proof.accepted(connection, bytes(32), encrypted=encrypted).close()


def test_the_environment_says_whether_connections_are_encrypted(monkeypatch):
    assert proof.is_encrypted()
    monkeypatch.setenv(proof.VARIABLE, "plain")
    assert not proof.is_encrypted()
    monkeypatch.setenv(proof.VARIABLE, "none")
    with pytest.raises(ValueError, match="'tls' or 'plain', not 'none'"):
        proof.is_encrypted()


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize("size_bytes", [1, 1 << 20, 3_500_000])
def test_a_block_arrives_as_it_was(block, encrypted, size_bytes):
    data = os.urandom(size_bytes)
    stock, token = grains.Stock([UUID]), proof.new_token()
    stock.add(UUID, block(size_bytes, data), own=False)
    doors.give(token, stock.serve)
    arriving, filled = block(size_bytes), []
    grains.fetch(arriving, UUID, [here()], token, filled.append, encrypted=encrypted)
    assert os.pread(arriving.fd, size_bytes, 0) == data
    assert sum(filled) == size_bytes


def test_what_has_come_in_part_is_passed_on_and_waited_for(block):
    data = os.urandom(5 << 20)
    relay, token = block(5 << 20), proof.new_token()
    stock = grains.Stock([UUID])
    doors.give(token, stock.serve)
    last = block(5 << 20)
    fetching = threading.Thread(
        target=grains.fetch, args=(last, UUID, [here()], token, len_of), kwargs={"encrypted": False}
    )
    fetching.start()
    stock.add(UUID, relay, own=False)  # only now does it begin to come
    for start in range(0, 5 << 20, 1 << 20):
        grain = data[start : start + (1 << 20)]
        relay.add(memoryview(grain), zlib.crc32(grain))
        assert last.wait_for(start >> 20, 5)
    fetching.join()
    assert os.pread(last.fd, 5 << 20, 0) == data


def len_of(_):
    """Take no notice of what was filled."""


def test_another_source_goes_on_where_one_has_failed(block):
    data = os.urandom(4 << 20)
    half, whole = block(4 << 20), block(4 << 20, data)
    for start in (0, 1 << 20):
        grain = data[start : start + (1 << 20)]
        half.add(memoryview(grain), zlib.crc32(grain))
    half.failed = True  # what is waited for does not come
    tokens, ways = proof.new_token(), []
    stock = grains.Stock([UUID])
    stock.add(UUID, half, own=False)
    served = []

    def serve(connection):
        served.append(len(served))
        stock.add(UUID, [half, whole][min(len(served), 2) - 1], own=False)
        stock.serve(connection)

    doors.give(tokens, serve)
    ways = [here(), here()]
    arriving = block(4 << 20)
    grains.fetch(arriving, UUID, ways, tokens, len_of, encrypted=False)
    assert len(served) == 2
    assert os.pread(arriving.fd, 4 << 20, 0) == data


def test_a_damaged_grain_is_not_taken(block):
    damaged = block(1 << 20, os.urandom(1 << 20))
    damaged._sums[0] = 1
    stock, token = grains.Stock([UUID]), proof.new_token()
    stock.add(UUID, damaged, own=False)
    doors.give(token, stock.serve)
    arriving = block(1 << 20)
    with pytest.raises(ConnectionError, match=r"more than 0 of 1 MB .*damaged"):
        grains.fetch(arriving, UUID, [here()], token, len_of, encrypted=False, patience_s=0.3)
    assert arriving.here == 0


def reuse(fd):
    """Open another file under a number, as whoever opens the next one does once it is closed."""
    other = memory(b"")
    if os.path.exists(f"/proc/self/fd/{fd}"):
        return other  # it is not closed
    os.dup2(other, fd)
    os.close(other)
    return fd


def test_what_comes_for_a_block_that_was_closed_is_written_nowhere():
    arriving = grains.Arriving(memory(bytes(4 << 20)), 4 << 20, whole=False)
    stock, grain = grains.Stock([UUID]), os.urandom(1 << 20)
    stock.add(UUID, arriving, own=True)
    arriving.add(memoryview(grain), zlib.crc32(grain))
    stock.close()  # as the caller tells it, in another thread than the one that receives
    users = reuse(arriving.fd)
    with pytest.raises(ConnectionError, match="will not come"):
        arriving.add(memoryview(grain), zlib.crc32(grain))
    assert os.fstat(users).st_size == 0
    os.close(users)
    assert stock.coming() == []


def test_a_block_that_begins_to_come_after_the_end_is_let_go():
    stock = grains.Stock([UUID])
    stock.close()
    stock.close()
    arriving = grains.Arriving(memory(bytes(1 << 20)), 1 << 20, whole=False)
    with pytest.raises(ConnectionError, match="nobody waits for the page"):
        stock.add(UUID, arriving, own=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(arriving.fd)
    with pytest.raises(ConnectionError, match="will not come"):
        arriving.still_comes()


@pytest.mark.parametrize("encrypted", [True, False])
def test_who_is_given_a_block_gets_of_no_other_file_when_it_is_closed(encrypted):
    data = os.urandom(16 << 20)
    stock, token = grains.Stock([UUID]), proof.new_token()
    whole = grains.Arriving(memory(data), len(data), whole=True)
    stock.add(UUID, whole, own=True)
    doors.give(token, stock.serve)
    found = bytearray()
    with doors.dial(here(), token, encrypted=encrypted) as connection:
        connection.settimeout(10)
        connection.sendall(grains._ASKED.pack(UUID, 0))
        assert proof.exactly(connection, 8) == grains._ANSWER.pack(len(data))
        proof.exactly(connection, 8)
        found += proof.exactly(connection, 1 << 20)  # more does not fit on the way, and it waits
        closing = threading.Thread(target=stock.close)
        closing.start()
        closing.join()
        users = reuse(whole.fd)
        os.ftruncate(users, len(data))
        with contextlib.suppress(OSError, EOFError):
            while True:
                length, checksum = grains._HEAD.unpack(proof.exactly(connection, 8))
                grain = proof.exactly(connection, length)
                assert zlib.crc32(grain) == checksum
                found += grain
    os.close(users)
    assert len(found) < len(data)
    assert found == data[: len(found)]


@pytest.mark.parametrize("source", ["nobody", "one who waits"])
def test_who_gets_a_block_stops_as_soon_as_it_has_failed(block, source):
    stock, token = grains.Stock([UUID]), proof.new_token()
    if source != "nobody":
        doors.give(token, stock.serve)
    arriving, found = block(4 << 20), []

    def fetch():
        with pytest.raises(ConnectionError, match="will not come"):
            grains.fetch(arriving, UUID, [here()], token, len_of, encrypted=False)
        found.append(time.monotonic())

    fetching = threading.Thread(target=fetch)
    fetching.start()
    time.sleep(0.3)
    arriving.fail()
    failed = time.monotonic()
    fetching.join(30)
    assert found[0] - failed < 2


def test_a_channel_carries_much_both_ways_at_once_and_knows_the_end():
    token, ends = proof.new_token(), []
    came, over = threading.Event(), threading.Event()

    def serve(connection):
        ends.append(channels.Channel(connection))
        came.set()
        over.wait(30)

    doors.give(token, serve)
    mine = channels.Channel(doors.dial(here(), token, encrypted=True))
    assert came.wait(5)
    much = os.urandom(20 << 20)
    senders = [threading.Thread(target=end.send, args=(much,)) for end in (mine, ends[0])]
    found = []
    reader = threading.Thread(target=lambda: found.append(ends[0].receive(30)))
    for thread in (*senders, reader):
        thread.start()
    assert mine.receive(30) == much
    for thread in (*senders, reader):
        thread.join()
    assert found == [much]
    with pytest.raises(TimeoutError):
        mine.receive(0.05)
    ends[0].close()
    over.set()
    with pytest.raises((EOFError, OSError)):
        mine.receive(5)
    mine.close()
