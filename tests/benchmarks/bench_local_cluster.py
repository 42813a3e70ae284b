"""Our local cluster beside ipyparallel's own, each started fresh, in turn, several times.

Run as ``python tests/benchmarks/bench_local_cluster.py [--engines 2] [--rounds 5]``. Prints one
table of medians. The time to the first result begins with ipyparallel imported and the call
not yet made, and ends when every engine has answered; PSS is the sum over all processes
started, taken then; the round trip is the median of 300 warm ``apply_sync(lambda: None)`` on
all engines; idle CPU is taken over two seconds, in per cent of one core.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import psutil

IDLE_S = 2.0


@contextlib.contextmanager
def plain(n):
    import ipyparallel

    with (
        tempfile.TemporaryDirectory() as directory,
        ipyparallel.Cluster(n=n, profile_dir=directory, log_level=40) as client,
    ):
        yield client[:]


@contextlib.contextmanager
def ours(n):
    from memshare_jupyter.engines.local import local_cluster

    cluster = local_cluster(n, quiet=True)
    yield cluster.view()
    cluster.stop()


CONTENDERS = {"ipyparallel.Cluster": plain, "local_cluster": ours}


def measure(contender, n):
    import ipyparallel  # noqa: F401  (not part of what is compared)

    owner = psutil.Process()
    begin = time.perf_counter()
    with CONTENDERS[contender](n) as view:
        view.apply_sync(os.getpid)
        first = time.perf_counter() - begin
        processes = owner.children(recursive=True)
        pss = sum(p.memory_full_info().pss for p in processes) / 1e6
        trips = []
        for _ in range(300):
            start = time.perf_counter()
            view.apply_sync(lambda: None)
            trips.append(time.perf_counter() - start)
        time.sleep(1)
        cpu = sum(sum(p.cpu_times()[:2]) for p in processes)
        time.sleep(IDLE_S)
        cpu = sum(sum(p.cpu_times()[:2]) for p in processes) - cpu
        stopping = time.perf_counter()
    return {
        "processes": len(processes),
        "PSS, MB": pss,
        "first result, s": first,
        "round trip, ms": 1e3 * statistics.median(trips),
        "idle CPU, %": 100 * cpu / IDLE_S,
        "stop, s": time.perf_counter() - stopping,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print every round as JSON instead")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(measure(options.contender, options.engines)))
        return
    rounds = {contender: [] for contender in CONTENDERS}
    for _ in range(options.rounds):
        for contender, results in rounds.items():
            command = [sys.executable, __file__, "--contender", contender]
            output = subprocess.check_output([*command, "--engines", str(options.engines)])
            results.append(json.loads(output.splitlines()[-1]))
    if options.json:
        print(json.dumps(rounds, indent=1))
        return
    print(f"{options.engines} engines, medians of {options.rounds}")
    print(f"{'':17}" + "".join(f"{contender:>22}" for contender in rounds))
    for quantity in next(iter(rounds.values()))[0]:
        medians = [statistics.median(r[quantity] for r in results) for results in rounds.values()]
        print(f"{quantity:17}" + "".join(f"{median:22.4g}" for median in medians))


if __name__ == "__main__":
    main()
