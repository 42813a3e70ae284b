"""Memory of a memapply over all columns of a large matrix, over all processes.

Run ``python tests/benchmarks/bench_memory.py``. PSS (proportional set size, from
``/proc/<pid>/smaps_rollup``) divides each shared byte among the processes that map it, so its
sum over processes counts every byte of memory once. Memory that no process maps is in no PSS, so
kernel and engines keep a view each until the measurement is over.
"""

from __future__ import annotations

import argparse
import json
import os

import numpy as np

import memshare_jupyter as ms


def pss_bytes(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as smaps:
            total += next(int(line.split()[1]) << 10 for line in smaps if line.startswith("Pss:"))
    return total


def measure(megabytes: int, engines: int) -> dict[str, float]:
    view = ms.local_cluster(engines, quiet=True).view(engines)
    pids = [os.getpid(), *view.apply_sync(os.getpid)]
    X = np.ones((10_000, megabytes * 100 // 8))
    ms.memapply(X[:, :8], "cols", np.mean, cluster=view)  # everything is imported by now
    before = pss_bytes(pids)
    ms.register_variables("bench", {"X": X})
    mine = ms.retrieve_views("bench", "X")["X"]
    view.push({"mine": mine}, block=True)  # by reference
    means = ms.memapply("bench.X", "cols", np.mean, cluster=view)
    assert means == [1.0] * X.shape[1]
    assert float(mine.sum()) == X.size  # touched here as well
    growth = pss_bytes(pids) - before
    del mine
    view.execute("del mine", block=True)
    ms.memshare_gc("bench", view)
    after = pss_bytes(pids) - before
    return {
        "engines": engines,
        "matrix_bytes": X.nbytes,
        "growth_bytes": growth,
        "growth_ratio": growth / X.nbytes,
        "left_bytes": after,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--engines", type=int, default=2)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.megabytes, arguments.engines)))


if __name__ == "__main__":
    main()
