"""Hosts that cannot connect to the caller, but only to the controller: the third and fourth one."""

from __future__ import annotations

import time

import numpy as np
import pytest

import memshare_jupyter as ms

DATA = """
A, w = np.random.default_rng(0).standard_normal((400, 300)), np.arange(400.0)
ms.register_variables("study", {"X": A})
def slowly(v):
    time.sleep(0.004)
    return float(v[0])
"""


@pytest.fixture(scope="module")
def apart(_possible):
    """Make a lab in which the caller is on the second host, whose engines are no part of it."""
    from tests.hosts.lab import Lab

    with Lab(4, per_host=1) as lab:
        lab.engines["h4"].append(lab.engine("h4"))
        for host in ("h3", "h4"):
            lab.cut("h2", host)
        yield lab


@pytest.fixture
def client(apart):
    made = apart.client("h2")
    made.run(DATA + "far = c[on('h3') + on('h4')]")
    yield made
    made.exit()


def has_blocks(lab, host, number, patience_s=15.0):
    """Wait until it has so many: a call's own go a moment after it."""
    deadline = time.monotonic() + patience_s
    while len(lab.blocks(host)) != number:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("ms.memapply('study.X', 'cols', np.std, cluster=c)", "[np.std(v) for v in A.T]"),
        (
            "ms.memapply(A, 'cols', lambda v, w: (v > 0) @ w, vars={'w': w}, cluster=far)",
            "[(v > 0) @ w for v in A.T]",
        ),
        ("ms.memapply(A, 'rows', np.sort, out='array', cluster=far)", "np.sort(A)"),
        (
            "ms.memlapply([np.ones(i) for i in range(1, 90)], np.sum, cluster=far)",
            "[float(i) for i in range(1, 90)]",
        ),
    ],
)
def test_results_are_those_of_a_loop(client, call, expected):
    found, wanted = client.value(f"({call}, {expected})")
    assert type(found) is type(wanted)
    np.testing.assert_equal(found, wanted)
    assert client.value("warned") == []


def test_all_engines_work_that_of_the_lead_included(client):
    client.run("run = ms.memapply('study.X', 'cols', slowly, cluster=far, block=False)")
    client.run("run.result(60)")
    done = client.value("run.done_by_engine()")
    assert sum(done) == 300
    assert min(done) > 20


def test_the_client_does_not_note_more_and_more(client):
    client.run("ms.memapply('study.X', 'cols', np.std, cluster=far)")
    client.run("before = len(c.metadata), len(c.history)")
    client.run("for _ in range(4): ms.memapply('study.X', 'cols', slowly, cluster=far)")
    noted, sent = client.value("len(c.metadata) - before[0], len(c.history) - before[1]")
    assert noted < 40 < sent


def test_a_page_goes_to_one_of_them_by_messages_and_from_there_to_the_next(apart, client):
    client.run("ms.register_variables('study', {'B': np.arange(5e6).reshape(100, -1)})")
    call = "ms.memapply('study.B', 'rows', np.sum, cluster=far) == list(B.sum(axis=1))"
    client.run("B = ms.retrieve_views('study', 'B')['B']")
    before = [apart.bytes(host)[1] for host in ("h1", "h2")]
    assert client.value(call)
    sent = [apart.bytes(host)[1] - was for host, was in zip(("h1", "h2"), before, strict=True)]
    assert all(40e6 < each < 44e6 for each in sent)  # of 40 MB, by the controller on h1
    before = apart.bytes("h1")[1]
    assert client.value(call)
    assert apart.bytes("h1")[1] - before < 0.3e6
    client.run("del B")


def test_a_replica_goes_with_its_page(apart, client):
    client.run("ms.memapply('study.X', 'cols', np.std, cluster=far)")
    for host in ("h3", "h4"):
        has_blocks(apart, host, 1)
    client.run("ms.release_variables('study', 'X')")
    for host in ("h3", "h4"):
        has_blocks(apart, host, 0)


def test_replicas_go_with_the_process_that_brought_them(apart):
    client = apart.client("h2")
    client.run(DATA + "ms.memapply('study.X', 'cols', np.std, cluster=c[on('h3')])")
    assert apart.blocks("h3")
    client.exit()
    has_blocks(apart, "h3", 0)


def test_a_mailbox_that_nobody_asks_is_closed_and_the_replicas_go(apart, client):
    client.run(
        "def soon():\n    from memshare_jupyter.engines.hosts import _letters\n"
        "    _letters._GONE_S = 1.0\n"
        "def later():\n    from memshare_jupyter.engines.hosts import _letters\n"
        "    _letters._GONE_S = 600.0\n"
        "far.apply_sync(soon)"
    )
    other = apart.client("h2")
    other.run(
        DATA.replace("study", "other")
        + "ms.memapply('other.X', 'cols', np.std, cluster=c[on('h3')])"
    )
    assert apart.blocks("h3")
    other.kill()
    has_blocks(apart, "h3", 0)
    client.run("far.apply_sync(later)")


def test_an_error_is_that_of_the_item(client):
    client.run("def fails(v):\n    if v[0] == A[0, 7]: raise ValueError('of seven')\n    return 1")
    with pytest.raises(ms.MemApplyError, match="of seven"):
        client.value("ms.memapply('study.X', 'cols', fails, cluster=far)")
    assert client.value(
        "ms.memapply('study.X', 'cols', np.std, cluster=far)[:1] == [A[:, 0].std()]"
    )


def test_a_call_that_is_cancelled_ends(client):
    client.run(
        "from concurrent.futures import CancelledError\n"
        "run = ms.memapply(A, 'cols', lambda v: time.sleep(0.1), cluster=far, block=False)\n"
        "time.sleep(0.5)\nrun.cancel()\nbegun = time.monotonic()\n"
        "try:\n    run.result(30)\nexcept CancelledError:\n    took_s = time.monotonic() - begun"
    )
    assert client.value("took_s") < 10


def test_the_doctor_says_so(client):
    client.run(
        "from memshare_jupyter.engines import engines_of\n"
        "from memshare_jupyter.engines.hosts import examine"
    )
    found = client.value("[(p.to, p.source, p.why_not) for p in examine(engines_of(far))]")
    assert any(to == "h3" and "by the cluster's messages" in why for to, _, why in found)
    assert ("h4", "h3", "") in found


def test_a_lead_that_is_killed_loses_nothing(apart, client):
    lead, _ = client.value("[(i, p) for i, (h, p) in who.items() if h == 'h4']")
    client.run("ms.memapply('study.X', 'cols', np.std, cluster=far)")
    client.run(
        "run = ms.memapply('study.X', 'cols', slowly, cluster=c[on('h4')], block=False)\n"
        "time.sleep(0.2)"
    )
    apart.kill("h4", lead[1])
    client.run("found = run.result(60)")
    assert client.value("found == A[0].tolist()")
