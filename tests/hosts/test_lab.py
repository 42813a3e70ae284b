"""The lab itself: its hosts share nothing, and what goes over a link is counted."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def client(two):
    return two.client()


def test_engines_are_on_hosts_that_share_no_memory_and_no_pids(two, client):
    assert client.value("sorted(h for h, _ in who.values())") == ["h1", "h1", "h2", "h2"]
    assert client.value("len({os.stat('/dev/shm').st_dev})") == 1
    seen = client.value("set(c[:].apply_sync(lambda: __import__('os').stat('/dev/shm').st_dev))")
    assert len(seen) == 2


def test_what_goes_over_a_link_is_counted(two, client):
    before = two.bytes("h2")[0]
    client.run("c[on('h2')[0]].apply_sync(len, bytes(10_000_000))")
    assert 10_000_000 <= two.bytes("h2")[0] - before < 11_000_000
