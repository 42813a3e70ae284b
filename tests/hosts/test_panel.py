"""What the panel is told of hosts: what they have, and what is on its way there."""

from __future__ import annotations

import time

FEED = """
from memshare_jupyter.panel._feed import Feed
feed = Feed()
A = np.zeros((50, 1000))
def hosts():
    feed.changes()
    return {host["name"]: host for host in feed.everything()["hosts"]}
"""


def wait_for(client, expression, patience_s=20.0):
    deadline = time.monotonic() + patience_s
    while not client.value(expression):
        assert time.monotonic() < deadline, client.value("hosts()")
        time.sleep(0.1)


def test_nothing_is_told_without_other_hosts(two):
    client = two.client()
    assert client.run(FEED, "hosts()") == {}
    client.exit()


def test_each_host_is_told_with_engines_pages_replicas_and_memory(two):
    client = two.client()
    client.run(FEED)
    client.run("ms.register_variables('study', {'X': A})")
    client.run("ms.memapply('study.X', 'cols', np.sum, cluster=c)")
    wait_for(client, "all('pages' in host for host in hosts().values())")
    wait_for(client, "hosts()['h2']['replicas'] == 1")
    found = client.value("hosts()")
    assert set(found) == {"h1", "h2"}
    assert found["h2"]["engines"] == client.value("on('h2')")
    assert found["h2"]["named"] == [("study.X", 400_000)]
    assert (found["h2"]["replicas_size"], found["h2"]["letters"]) == (400_000, "")
    assert found["h1"]["replicas"] == 0  # there it is the page itself
    assert found["h1"]["pages"] == 1
    assert found["h2"]["free"] > 0
    client.run("ms.release_variables('study', 'X')")
    wait_for(client, "hosts()['h2']['replicas'] == 0")
    client.exit()


def test_transfers_are_told_with_how_far_they_are(lab):
    lab = lab(2, per_host=1, rate="400mbit")
    client = lab.client()
    client.run(FEED)
    client.run("ms.memapply(A, 'rows', np.size, cluster=c)")
    client.run("ms.register_variables('study', {'B': np.zeros((50, 500_000))})")
    client.run("run = ms.memapply('study.B', 'rows', np.size, cluster=c, block=False)")
    client.run(
        "told = []\nwhile not run.done():\n"
        "    told += hosts()['h2'].get('transfers', [])\n    time.sleep(0.05)"
    )
    told = client.value("told")
    (uuid,) = client.value("[p.uuid for p in ms.snapshot().pages if p.variable == 'B']")
    assert {(one, size) for one, _, size in told} == {(uuid, told[0][2])}
    assert told[0][2] >= 200_000_000
    seen = [here for _, here, _ in told]
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    wait_for(client, "hosts()['h2']['transfers'] == []")
