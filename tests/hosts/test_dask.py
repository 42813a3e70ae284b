"""dask's workers on two hosts: one copy of a page on each, which dask itself has not."""

from __future__ import annotations

import sys
import time

import pytest

pytest.importorskip("distributed")


@pytest.fixture
def client(two):
    scheduler = f"tcp://{two.address['h1']}:8786"
    # With the host: versions before 2025 listen where a name server would be reached.
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    started = [two.start("h1", *command, "--host", two.address["h1"])]
    for host in two.hosts:
        for _ in range(2):
            options = [
                "--nthreads",
                "1",
                "--no-dashboard",
                "--no-nanny",
                "--local-directory",
                "/run",
            ]
            command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, *options]
            started.append(two.start(host, *command))
    made = two.client()
    made.run(
        f"from distributed import Client\ndask = Client({scheduler!r}, timeout=60)\n"
        "dask.wait_for_workers(4, timeout=60)\n"
        "A = np.random.default_rng(0).standard_normal((1000, 1000))\n"
        "ms.register_variables('rna', {'X': A})\n"
        "call = lambda fun=np.std: ms.memapply('rna.X', 'cols', fun, cluster=dask)",
        timeout_s=120,
    )
    yield made
    made.exit()
    for process in started:
        process.kill()


def test_a_page_crosses_once_and_results_are_those_of_a_loop(two, client):
    before = two.bytes("h2")[0]
    assert client.value("call() == [np.std(v) for v in A.T]")
    assert 8e6 < two.bytes("h2")[0] - before < 9.5e6
    before = two.bytes("h2")[0]
    assert client.value("call() == [np.std(v) for v in A.T]")
    assert two.bytes("h2")[0] - before < 0.5e6


def test_a_worker_that_is_killed_loses_nothing(two, client):
    client.run(
        "def slowly(v):\n    import time\n    time.sleep(0.004)\n    return float(v[0])\ncall()"
    )
    client.begin("", "call(slowly) == A[0].tolist()")
    time.sleep(0.5)
    two.kill("h2", worker_of(two, "h2"))
    assert client.end()


def worker_of(lab, host):
    """One of dask's workers on a host, as that numbers it."""
    for pid in lab._pids(host):
        with open(f"/proc/{pid}/cmdline") as file:
            if "dask_worker" in file.read():
                with open(f"/proc/{pid}/status") as status:
                    return int(status.read().partition("NSpid:")[2].split("\n")[0].split()[-1])
    raise ProcessLookupError
