"""One engine on each host, which has hands of its own: processes that the cluster does not know."""

from __future__ import annotations

import os
import threading

import pytest

A = "np.random.default_rng(0).standard_normal((50, 400))"
HANDS = """
import signal
A = {A}
ms.register_variables("study", {{"X": A}})
def pid(v):
    import os, socket, time
    time.sleep(0.01)
    return f"{{socket.gethostname()}} {{os.getpid()}}"
def kill_once(v, mark):
    import os, signal
    if v[0] == A[0, 7]:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
    return float(v[0])
def call(fun, **options):
    return ms.memapply("study.X", "cols", fun, cluster=c, hands=3, **options)
"""


@pytest.fixture(scope="module")
def lab_of_one_each(_possible):
    from tests.hosts.lab import Lab

    with Lab(2, per_host=1) as lab:
        yield lab


@pytest.fixture
def client(lab_of_one_each):
    made = lab_of_one_each.client()
    made.run(HANDS.format(A=A))
    yield made
    made.exit()


def test_each_host_works_with_as_many_processes_as_it_is_told(client):
    assert client.value("call(np.sum) == [np.sum(v) for v in A.T]")
    found = client.value("call(pid)")
    for host in ("h1", "h2"):
        assert len({one for one in found if one.startswith(host)}) == 3
    engines = client.value("[f'{host} {number}' for host, number in who.values()]")
    assert not {*found} & {*engines}
    assert {*client.value("call(pid)")} == {*found}
    assert client.value("warned") == []


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("call(np.sort, out='array')", "np.sort(A, axis=0).T"),
        ("call(lambda b: b.max(axis=0).tolist(), batch=True)", "A.max(axis=0).tolist()"),
        ("ms.memlapply([*A], np.sum, cluster=c, hands=2)", "[np.sum(v) for v in A]"),
        ("ms.memapply(A[:, :2], 'cols', np.sum, cluster=c, hands=5)", "[*A[:, :2].sum(axis=0)]"),
        ("ms.memapply(A[:, :1], 'cols', np.sum, cluster=c[1], hands=5)", "[A[:, 0].sum()]"),
        ("ms.memapply(A, 'cols', np.sum, cluster=c[0], hands=2)", "[*A.sum(axis=0)]"),
    ],
)
def test_results_are_those_of_a_loop(client, call, expected):
    found, wanted = client.value(f"np.array({call}), np.array({expected})")
    assert found.shape == wanted.shape
    assert abs(found - wanted).max(initial=0) < 1e-12


def test_what_they_say_and_where_they_fail_is_told(client):
    client.run(
        "def fail(v):\n"
        "    print('seen')\n"
        "    raise ValueError('no')\n"
        "try:\n    call(fail)\nexcept ms.MemApplyError as error:\n    text = str(error)\n"
    )
    text = client.value("text")
    assert "ValueError: no" in text
    assert "engine" in text
    client.run(
        "def says(v):\n    print('seen')\n    return 1.0\n"
        "run = call(says, block=False, quiet=True)\nrun.result(60)"
    )
    assert client.value("sum(text.count('seen') for _, _, _, text in run.output)") == 400
    client.run(
        "from concurrent.futures import CancelledError\n"
        "run = call(pid, block=False)\ntime.sleep(0.3)\nrun.cancel()\n"
        "try:\n    run.result(60)\nexcept CancelledError as error:\n    text = str(error)"
    )
    assert "cancelled after" in client.value("text")
    assert client.value("call(np.sum) == [np.sum(v) for v in A.T]")


def test_one_that_is_killed_loses_nothing_and_is_replaced(client, tmp_path, lab_of_one_each):
    mark = f"{lab_of_one_each.directory}/killed"
    assert client.value(f"call(kill_once, vars={{'mark': {mark!r}}}) == A[0].tolist()")
    (text,) = client.value("warned")
    assert "a process of engine" in text
    assert "the results are complete" in text
    assert len({*client.value("call(pid)")}) == 6
    os.unlink(mark)


def test_one_whose_work_others_had_done_before_its_death_was_seen_is_told_of(
    client, lab_of_one_each
):
    mark = f"{lab_of_one_each.directory}/unseen"
    client.run(
        "def blind():\n"
        "    from memshare_jupyter.apply._foreman import Foreman\n"
        "    Foreman.seen, Foreman._died = Foreman._died, lambda self: iter(())\n"
        "def seeing():\n"
        "    from memshare_jupyter.apply._foreman import Foreman\n"
        "    Foreman._died = Foreman.seen\n"
        "c[:].apply_sync(blind)"
    )
    try:
        assert client.value(f"call(kill_once, vars={{'mark': {mark!r}}}) == A[0].tolist()")
        assert ["a process of engine" in text for text in client.value("warned")] == [True]
    finally:
        client.run("c[:].apply_sync(seeing)")
    os.unlink(mark)


def test_a_host_whose_hands_have_all_died_takes_no_part_any_more(client):
    client.run(
        "def die(v, where):\n"
        "    import os, signal, socket\n"
        "    if socket.gethostname() in where:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    time.sleep(0.01)\n"
        "    return float(v[0])\n"
        "try:\n    call(die, vars={'where': ['h1', 'h2']})\n"
        "except (ms.ClusterError, ms.MemApplyError) as error:\n    text = str(error)"
    )
    assert "died" in client.value("text")
    assert client.value("call(die, vars={'where': ['h1']}) == A[0].tolist()")
    assert ["a process of engine" in text for text in client.value("warned")] == [True] * 3
    assert len({*client.value("call(pid)")}) == 6
    client.run(
        "try:\n    ms.memapply('study.X', 'cols', die, cluster=c[on('h1')[0]], hands=1,"
        " vars={'where': ['h1']})\n"
        "except ms.ClusterError as error:\n    text = str(error)"
    )
    assert "no engine is left" in client.value("text")
    assert "a process of engine" in client.value("text")


def test_they_end_with_the_client_and_an_engine_that_is_killed(lab_of_one_each, eventually):
    client = lab_of_one_each.client()
    client.run(HANDS.format(A=A))
    found = {*client.value("call(pid)")}
    pids = [lab_of_one_each.pid(*one.split()) for one in found]
    assert all(map(is_there, pids))
    client.exit()
    eventually(lambda: not any(map(is_there, pids)))
    client = lab_of_one_each.client()
    client.run(HANDS.format(A=A))
    found = {*client.value("call(pid)")}
    pids = [lab_of_one_each.pid(*one.split()) for one in found]
    number = client.value("[p for h, p in who.values() if h == 'h2'][0]")
    timer = threading.Timer(0.5, lambda: lab_of_one_each.kill("h2", number))
    timer.start()
    assert client.value("call(pid, vars=None)")
    timer.join()
    client.exit()
    eventually(lambda: not any(map(is_there, pids)))


def is_there(pid):
    return os.path.exists(f"/proc/{pid}")
