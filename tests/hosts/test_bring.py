"""Pages brought to hosts: once each, to where they are missing, and found there by all ways."""

from __future__ import annotations

import signal
import time

import pytest

import memshare_jupyter as ms

BRING = """
from memshare_jupyter.engines import engines_of
from memshare_jupyter.engines.hosts import bring, by_host, linked
from memshare_jupyter.core.values import references
import pickle
def brought(*values, cluster=None):
    groups, _ = by_host(engines_of(cluster or c))
    links, without = linked(groups)
    assert not without, without
    with references() as found:
        pickle.dumps(values)
    failed = bring(found, list(links.values()))
    return {link.name: why for link, why in failed.items()}
def total(x):
    return float(x.sum())
def by_name(name):
    import memshare_jupyter as ms
    found = float(ms.retrieve_views("rna", name)[name].sum())
    ms.release_views("rna", name)
    return found
"""


@pytest.fixture
def client(two):
    made = two.client()
    made.run(BRING)
    yield made
    made.exit()


def test_a_page_crosses_once_and_is_found_by_reference_and_by_name(two, client):
    client.run(
        "ms.register_variables('rna', {'X': np.arange(12.5e6), 'Y': np.ones(12_500_000)})\n"
        "X, Y = ms.retrieve_views('rna', ['X', 'Y']).values()\nbrought()"
    )
    counted = []
    for page in ("Y", "X"):
        before = two.bytes("h2")[0]
        assert client.value(f"brought({page})") == {}
        counted.append(two.bytes("h2")[0] - before)
    assert 100e6 <= min(counted) < 101e6
    assert max(counted) < 110e6  # on a busy machine, the kernel sends some packets again
    before = two.bytes("h2")[0]
    assert client.value("brought(X)") == {}
    assert two.bytes("h2")[0] - before < 0.1e6
    expected = client.value("float(X.sum())")
    assert client.value("c[:].apply_sync(total, X)") == [expected] * 4
    assert client.value("c[:].apply_sync(by_name, 'X')") == [expected] * 4
    assert len(two.blocks("h2")) == 2


def wait_until(condition, patience_s=15.0):
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_replica_goes_when_its_page_is_released_or_replaced(two, client):
    client.run(
        "ms.register_variables('rna', {'Y': np.ones(1000), 'Z': np.ones(1000)})\n"
        "views = ms.retrieve_views('rna', ['Y', 'Z'])"
    )
    assert client.value("brought(*views.values())") == {}
    wait_until(lambda: len(two.blocks("h2")) == 2)
    client.run("del views\nms.release_variables('rna', 'Y')")
    wait_until(lambda: len(two.blocks("h2")) == 1)
    client.run("ms.register_variables('rna', {'Z': np.zeros(1000)})")
    wait_until(lambda: not two.blocks("h2"))
    with pytest.raises(Exception, match=r"no page rna\.Z"):
        client.run("c[on('h2')].apply_sync(by_name, 'Z')")
    client.run("ms.release_variables('rna', 'Z')")


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_replicas_go_with_the_process_that_brought_them(two, end):
    client = two.client()
    client.run(
        BRING + "ms.register_variables('rna', {'W': np.ones(1000)})\n"
        "brought(ms.retrieve_views('rna', 'W')['W'])"
    )
    assert len(two.blocks("h2")) == 1
    getattr(client, end)()
    wait_until(lambda: not two.blocks("h2"))


def test_pages_of_another_process_are_brought_too_and_go_with_it(two, client):
    owner = two.client()
    owner.run("ms.register_variables('rna', {'V': np.ones(1000)})")
    client.run("V = ms.retrieve_views('rna', 'V')['V']\nbrought(V)\ndel V")
    client.run("ms.release_views('rna', 'V')")
    assert len(two.blocks("h2")) == 1
    owner.kill()
    wait_until(lambda: not two.blocks("h2"))


def test_two_clients_that_bring_a_page_at_once_bring_it_once(two, client):
    other = two.client()
    other.run(BRING)
    client.run("ms.register_variables('rna', {'T': np.zeros(5_000_000)})")
    view = "T = ms.retrieve_views('rna', 'T')['T']\nbrought(T[:0].copy())"
    client.run(view)
    other.run(view)
    before = two.bytes("h2")[0]
    for one in (client, other):
        one.begin("", "brought(T)")
    assert [one.end() for one in (client, other)] == [{}, {}]
    assert two.bytes("h2")[0] - before < 41e6
    assert len(two.blocks("h2")) == 1
    other.exit()
    client.run("del T\nms.memshare_gc()")
    wait_until(lambda: not two.blocks("h2"))


def test_a_page_that_can_be_written_to_is_not_copied(two, client):
    client.run("ms.register_variables('rna', {'R': np.zeros(10)}, writable=True)")
    with pytest.raises(ms.UnsupportedValueError, match="would not be seen on the others"):
        client.run("brought(ms.retrieve_views('rna', 'R', 'r+')['R'])")
    client.run("ms.memshare_gc()")


def test_replicas_go_with_the_client_that_they_were_brought_by(two, client):
    client.run(
        "ms.register_variables('rna', {'C': np.ones(1000)})\n"
        "C = ms.retrieve_views('rna', 'C')['C']\n"
        f"other = ipp.Client(connection_info={two.connection('client')!r})"
    )
    assert client.value("brought(C, cluster=other)") == {}
    assert len(two.blocks("h2")) == 1
    client.run("other.close()")
    wait_until(lambda: not two.blocks("h2"))
    client.run("del C\nms.memshare_gc()")


def test_a_transfer_that_is_interrupted_ends_at_once_and_the_next_one_need_not_wait(lab):
    lab = lab(2, rate="1gbit")
    client = lab.client()
    client.run(
        f"{BRING}ms.register_variables('rna', {{'B': np.arange(25e6)}})\n"
        "B = ms.retrieve_views('rna', 'B')['B']\nbrought(B[:0].copy())"
    )
    client.begin("", "brought(B)")
    wait_until(lambda: lab.bytes("h2")[0] > 20e6)
    lab.kill("h1", client.pid, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        client.end()
    wait_until(lambda: not lab.blocks("h2"), 2.0)
    begun = time.monotonic()
    assert client.value("brought(B)") == {}
    assert time.monotonic() - begun < 8  # 1.6 s are the network's
    assert client.value("c[on('h2')].apply_sync(total, B) == [float(B.sum())] * 2")
    client.run("del B\nms.memshare_gc()")
    wait_until(lambda: not lab.blocks("h2"))
