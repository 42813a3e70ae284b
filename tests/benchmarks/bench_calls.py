"""What a call costs beside the work, here and in another tree, by processes that take turns.

Run as ``python -m tests.benchmarks calls [--before TREE] [--rounds 5] [--cases small one-C ...]``.
A tree is a directory with another version of the package, such as a worktree of the commit
before. Of each case the table has the least and the median of all rounds in milliseconds, and the
processor time of caller and engines for a call, which a loaded machine changes less.

The cases: a small call by name, the same after a pause of 20 ms and with a lambda, one element of
each of 5,000 columns (C and F order), ``np.std`` of them (F and C order, the first call and the
steady ones), and lists: 20,000 vectors of 16, 50,000 numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parents[2]
ROWS, COLUMNS = 10_446, 5_000
CASES = {  # calls for each round
    "small": 100,
    "pause": 20,
    "lambda": 100,
    "one-C": 20,
    "one-F": 20,
    "std-F": 5,
    "std-C": 5,
    "vectors": 3,
    "numbers": 3,
}


def processor_s():
    import resource  # on an engine, where this function is sent by value

    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(case, calls):
    """Times of a case in this process: of the first call, of the others, and processor time."""
    import memshare_jupyter as ms

    made = np.random.default_rng(0)
    cluster = ms.local_cluster(2, quiet=True)
    with ms.Namespace("bench") as ns:
        # The engines are up, and have imported what they need, before anything is measured.
        ns["s"] = np.arange(40.0).reshape(4, 10)
        for _ in range(3):
            ms.memapply("bench.s", "cols", np.max, cluster=cluster)
        if case in ("vectors", "numbers"):
            vectors = [made.random(16) for _ in range(20_000)]
            items, fun = (vectors, np.sum) if case == "vectors" else (list(range(50_000)), abs)
            call = lambda: ms.memlapply(items, fun, cluster=cluster)  # noqa: E731
        else:
            name, fun = "bench.s", np.max
            if case == "lambda":
                fun = lambda v: v.max()  # noqa: E731
            elif case[-2:] in ("-C", "-F"):
                X = made.random((ROWS, COLUMNS))
                ns["X"] = np.asfortranarray(X) if case.endswith("F") else X
                name, fun = "bench.X", np.std if case.startswith("std") else lambda v: v[0]
                del X
            call = lambda: ms.memapply(name, "cols", fun, cluster=cluster)  # noqa: E731
        times = []
        view = cluster.view(2)
        for number in range(calls + 1):
            if number == 1:
                before = [processor_s(), *view.apply_sync(processor_s)]
            if case == "pause":
                time.sleep(0.02)
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        after = [processor_s(), *view.apply_sync(processor_s)]
    cluster.stop()
    used = [(b - a) / calls for a, b in zip(before, after, strict=True)]
    return {"first": times[0], "times": times[1:], "caller": used[0], "engines": sum(used[1:])}


def in_tree(tree, case):
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, __file__, "--measure", case]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="a directory with another version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--measure", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, CASES[options.measure])))
        return
    trees = {"now": HERE} | ({"before": options.before.resolve()} if options.before else {})
    print(f"{'ms':10}{'tree':8}{'first':>9}{'least':>9}{'median':>9}{'caller':>9}{'engines':>9}")
    for case in options.cases:
        found = {name: [] for name in trees}
        for _ in range(options.rounds):
            for name, tree in trees.items():
                found[name].append(in_tree(tree, case))
        for name, rounds in found.items():
            times = [seconds for one in rounds for seconds in one["times"]]
            shown = [
                statistics.median(one["first"] for one in rounds),
                *(min(times), statistics.median(times)),
                *(statistics.median(one[who] for one in rounds) for who in ("caller", "engines")),
            ]
            print(f"{case:10}{name:8}" + "".join(f"{1000 * s:9.3f}" for s in shown), flush=True)


if __name__ == "__main__":
    main()
