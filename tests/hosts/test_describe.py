"""Which host engines are on: grouped by what they share, asked once, and not waited for."""

from __future__ import annotations

import pytest

GROUPED = """
from memshare_jupyter.engines import engines_of
from memshare_jupyter.engines.hosts import by_host
def grouped(cluster):
    groups, silent = by_host(engines_of(cluster))
    return {g.name: [e.number for e in g.engines] for g in groups}, [e.number for e in silent]
"""


@pytest.fixture
def client(two):
    made = two.client(silence_s=2.0)
    made.run(GROUPED)
    yield made
    made.exit()


def test_engines_are_grouped_by_host(client):
    expected = client.value("{'h1': on('h1'), 'h2': on('h2')}")
    assert client.value("grouped(c)") == (expected, [])


def test_each_engine_is_asked_once(client):
    client.value("grouped(c)")
    before = client.value("len(c.history)")
    client.value("grouped(c)")
    assert client.value("len(c.history)") == before


def test_who_does_not_answer_takes_no_part_until_it_does(two, client):
    client.run("e = on('h2')[0]\nbusy = c[e].apply_async(time.sleep, 4)")
    assert client.value("grouped(c)[1] == [e]")
    client.run("begun = time.monotonic()\nfound = grouped(c)")
    assert client.value("time.monotonic() - begun") < 1.5  # its two seconds are over
    client.run("busy.wait(10)\ntime.sleep(0.3)")
    assert client.value("grouped(c)[1]") == []


def test_engines_of_this_host_that_are_busy_are_not_left_out(two, client):
    client.run("busy = c[on('h1')].apply_async(time.sleep, 2.5)")
    assert client.value("grouped(c[on('h1')]) == ({}, [])")
    client.run("busy.wait(10)")


def test_the_first_answer_may_take_longer_and_silence_does_not_make_a_host_this_one(two):
    client = two.client(silence_s=0.3)
    client.run(GROUPED)
    client.run("e = on('h2')[0]\nbusy = c[e].apply_async(time.sleep, 2)")
    assert client.value("grouped(c[[e]]) == ({'h2': [e]}, [])")
    client.exit()
