"""What breaks, and what becomes of the call: nothing is lost, nobody waits for ever, it is said."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

import memshare_jupyter as ms

SLOWLY = """
A = np.random.default_rng(0).standard_normal((50, 1000))
ms.register_variables("study", {"X": A})
def slowly(v):
    import time
    time.sleep(0.004)
    return float(v[0])
def call(**options):
    return ms.memapply("study.X", "cols", slowly, cluster=c, **options) == A[0].tolist()
call()
"""


def after(seconds, act):
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def test_a_hand_that_is_killed_loses_nothing(lab):
    lab = lab(2)
    client = lab.client()
    client.run(SLOWLY)
    _lead, hand = client.value("[(i, p) for i, (h, p) in who.items() if h == 'h2']")
    after(0.5, lambda: lab.kill("h2", hand[1]))
    assert client.value("call()")
    assert [f"engine {hand[0]} died" in text for text in client.value("warned")] == [True]
    assert client.value("call()")
    assert client.value("warned") == []


def test_a_lead_that_is_killed_loses_nothing_and_another_one_takes_its_place(lab):
    lab = lab(2)
    client = lab.client()
    client.run(SLOWLY)
    lead, _ = client.value("[(i, p) for i, (h, p) in who.items() if h == 'h2']")
    sent = lab.bytes("h2")[0]
    after(0.5, lambda: lab.kill("h2", lead[1]))
    assert client.value("call()")
    assert [f"engine {lead[0]} died" in text for text in client.value("warned")] == [True]
    assert lab.bytes("h2")[0] - sent < 350_000  # its page, of 400 kB, had stayed
    assert client.value("call()")
    assert client.value("warned") == []


def test_a_lead_that_is_killed_before_the_work_begins_is_replaced(lab):
    lab = lab(2)
    client = lab.client()
    client.run(SLOWLY)
    lead, _ = client.value("[(i, p) for i, (h, p) in who.items() if h == 'h2']")
    flag = f"{lab.directory}/flag"
    client.run(f"""
from memshare_jupyter.apply import _hosts
gather = _hosts.gather
def late(links, function, *rest):
    if function is _hosts.foreman.open_call:
        _hosts.gather = gather
        os.close(os.open({flag!r}, os.O_CREAT))
        next(link for link in links if link.name == "h2").gone.wait(60)
    return gather(links, function, *rest)
_hosts.gather = late
on_h2 = c[on("h2")]
""")
    client.begin(
        "found = ms.memapply('study.X', 'cols', slowly, cluster=on_h2) == A[0].tolist()", "found"
    )
    while not os.path.exists(flag):
        time.sleep(0.01)
    lab.kill("h2", lead[1])
    assert client.end(60)
    assert [f"engine {lead[0]} died" in text for text in client.value("warned")] == [True]


def test_a_host_without_power_loses_nothing_and_the_next_call_leaves_it_out(lab):
    lab = lab(2)
    client = lab.client(silence_s=2.0)
    client.run(SLOWLY)
    after(0.5, lambda: lab.kill_host("h2"))
    begun = time.monotonic()
    assert client.value("call()")
    assert time.monotonic() - begun < 25  # and not the heartbeats' 36 s
    assert client.value("call()")
    assert any("h2 took no part" in text for text in client.value("warned"))


def test_a_link_that_is_down_for_three_seconds_is_waited_for(lab):
    lab = lab(2, rate="1gbit")
    client = lab.client()
    client.run(SLOWLY)
    client.run("big = np.zeros(25_000_000)\nms.register_variables('study', {'B': big})")
    after(0.5, lambda: lab.link("h2", "down"))
    after(3.5, lambda: lab.link("h2", "up"))
    found = "ms.memapply('study.B', 'rows', np.size, cluster=c)"
    client.run("big.shape = 50, -1\nms.register_variables('study', {'B': big})")
    assert client.value(found) == [500_000] * 50
    assert client.value("warned") == []


def test_a_host_that_is_cut_off_in_a_transfer_is_left_out(lab):
    lab = lab(2, rate="1gbit")
    client = lab.client(silence_s=2.0)
    client.run(SLOWLY)
    client.run("ms.register_variables('study', {'B': np.zeros((50, 1_000_000))})")
    after(0.5, lambda: lab.link("h2", "down"))
    assert client.value("ms.memapply('study.B', 'rows', np.size, cluster=c)") == [1_000_000] * 50
    assert any("h2 took no part" in text for text in client.value("warned"))


def test_a_relay_that_is_killed_or_cut_off_does_not_stop_those_behind_it(lab):
    lab = lab(4, per_host=1, rate="1gbit")
    client = lab.client(silence_s=4.0)
    client.run(SLOWLY)
    client.run("ms.register_variables('study', {'B': np.zeros((50, 1_000_000))})")
    (relay,) = client.value("[p for h, p in who.values() if h == 'h2']")
    after(1.0, lambda: lab.kill("h2", relay))
    after(2.0, lambda: lab.link("h3", "down"))
    assert client.value("ms.memapply('study.B', 'rows', np.size, cluster=c)") == [1_000_000] * 50
    warned = client.value("warned")
    assert set(client.value("[p.uuid for p in ms.snapshot().pages]")) <= set(lab.blocks("h4"))
    assert any("h2 took no part" in text for text in warned)
    assert any("h3 took no part" in text for text in warned)


def test_without_a_controller_a_call_ends_and_the_next_one_says_so(lab):
    lab = lab(2)
    client = lab.client()
    client.run(SLOWLY)
    after(0.5, lab.kill_controller)
    client.run(
        "try:\n    ended = call()\nexcept ms.ClusterError as error:\n    ended = str(error)",
        timeout_s=30,
    )
    assert client.value("ended is True or 'controller has ended' in ended")
    with pytest.raises(ms.ClusterError, match="its controller has ended"):
        client.value("call()", timeout_s=30)


def test_a_full_directory_of_a_host_is_named(lab):
    lab = lab(2, shm="300k")
    client = lab.client()
    client.run(SLOWLY)
    fill = "open('/dev/shm/full', 'wb').write(bytes(10_000_000))"
    client.run(
        f"def fill():\n    try:\n        {fill}\n    except OSError as e:\n        return str(e)"
    )
    client.run("c[on('h2')[0]].apply_sync(fill)")
    client.run("for k in range(40): ms.register_variables('study', {f'y{k}': np.ones(100)})")
    client.run(
        "found = ms.memapply('study.X', 'cols', lambda v, **y: float(v[0]),"
        " vars=[f'y{k}' for k in range(40)], namespace='study', cluster=c)"
    )
    warned = "".join(client.value("warned"))
    assert client.value("found == A[0].tolist()")
    assert "h2 took no part" in warned
    assert "/dev/shm" in warned  # noqa: S108 -- it is named


def test_an_item_that_kills_engines_is_given_up(lab):
    lab = lab(2)
    client = lab.client()
    client.run(SLOWLY)
    client.run(
        "def deadly(v):\n    import os, time\n    time.sleep(0.002)\n"
        "    if abs(v[0] - A0) < 1e-12:\n        os.kill(os.getpid(), 9)\n    return float(v[0])\n"
        "A0 = A[0, 700]\n"
        "found = ms.memapply('study.X', 'cols', deadly, cluster=c, on_error='return')"
    )
    assert client.value("[i for i in range(1000) if found[i] != A[0, i]]") == [700]
    assert "700" in client.value("str(found[700])")


def test_a_page_for_which_a_host_has_no_memory_is_not_brought_there(lab):
    lab = lab(2)
    client = lab.client()
    if why := lab.limit_memory("h2", 300 << 20):
        pytest.skip(why)
    client.run(SLOWLY)
    client.run("ms.register_variables('study', {'B': np.zeros((50, 1_000_000))})")
    assert client.value("ms.memapply('study.B', 'rows', np.size, cluster=c)") == [1_000_000] * 50
    warned = "".join(client.value("warned"))
    assert "h2 took no part: " in warned
    assert "study.B: it needs 400" in warned
    pids = [pid for host, pid in client.value("list(who.values())") if host == "h2"]
    assert all(lab.pid("h2", pid) for pid in pids)  # nobody was killed for it
    with pytest.raises(ms.ClusterError, match=r"no engine is left: 50 of 50 .*it needs 400"):
        client.value("ms.memapply('study.B', 'rows', np.size, cluster=c[on('h2')])")


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_nothing_is_left_on_any_host_after_all_have_ended(lab, end):
    lab = lab(2)
    client = lab.client()
    client.run(SLOWLY)
    client.run("run = ms.memapply('study.X', 'cols', slowly, cluster=c, block=False)")
    getattr(client, end)()
    deadline = time.monotonic() + 15
    while lab.blocks("h2"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for host, engines in lab.engines.items():
        for engine in engines:
            lab.end(host, engine, kill=end == "kill")
    assert not lab.blocks("h1")
    assert not lab.blocks("h2")
    for host in lab.hosts:  # who is killed leaves its list, until somebody looks
        look = lab.start(host, sys.executable, "-c", "import memshare_jupyter as m; m.snapshot()")
        assert look.wait(30) == 0
        assert [name for name in lab.files(host) if not name.endswith("/memshare-0")] == []
