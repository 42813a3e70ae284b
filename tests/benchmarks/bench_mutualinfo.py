"""Time mutual information of single pairs and of matrices, beside scikit-learn's.

Run it on one core, as ``OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_mutualinfo.py``;
``--paper`` adds the paper's matrix, 10,446 x 19,637 in 1.64 GB. With ``--engines 2`` only the
matrix is computed, shared and on so many engines, and memory is summed over all processes.
Nothing here decides a test.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path

import numpy as np
import psutil

import memshare_jupyter as ms
from memshare_jupyter.information import ColumnMutualInfo, mutualinfo

CASES = 10_446
GENES = 19_637
CLASSES = 32
# What R memshare 1.0.3.1 did on a machine of this class: genes a second with two workers and five
# classes; for one pair, ms.
R_GENES_S = 14.6
R_MS = {"continuous/discrete, 5 classes": 132.0, "continuous/continuous, n = 1,000": 920.0}


def milliseconds(call, repeats=20):
    """Median time of a call with fresh data each time, as branch predictors learn old ones."""
    call(0)
    times = []
    for turn in range(repeats):
        start = time.perf_counter()
        call(turn)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def pairs():
    """Yield a name, our call and scikit-learn's for each kind of pair."""
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    rng = np.random.default_rng(1)
    values = rng.normal(size=(20, CASES))
    for classes in (5, CLASSES):
        y = rng.integers(0, classes, size=CASES)
        x = values + 0.1 * y
        yield (
            f"continuous/discrete, {classes} classes",
            lambda turn, x=x, y=y: mutualinfo(x[turn], y, y_discrete=True),
            lambda turn, x=x, y=y: mutual_info_classif(x[turn][:, None], y),
        )
    for n in (1000, CASES):
        x = values[:, :n]
        y = x + rng.normal(size=x.shape)
        yield (
            f"continuous/continuous, n = {n:,}",
            lambda turn, x=x, y=y: mutualinfo(x[turn], y[turn]),
            lambda turn, x=x, y=y: mutual_info_regression(x[turn][:, None], y[turn]),
        )


def simulated(genes, dtype=np.float64):
    """Simulate log2(TPM + 1)-like values, a third of them 0, and 32 unbalanced classes."""
    rng = np.random.default_rng(2)
    shares = rng.dirichlet(np.full(CLASSES, 2.0))
    y = rng.choice(CLASSES, size=CASES, p=shares)
    X = np.empty((CASES, genes), dtype=dtype)
    for start in range(0, CASES, 500):
        rows = slice(start, min(start + 500, CASES))
        size = (rows.stop - rows.start, genes)
        level = 4.0 + 2.0 * rng.standard_normal(size) + 0.02 * y[rows, None]
        X[rows] = np.maximum(level - 3.0, 0.0)
    return X, y


def peak_mb(*, reset=False):
    """Peak resident memory of this process, since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def pss_mb(processes):
    """Memory of some processes, shared bytes counted once (proportional set size)."""
    total = 0
    for process in processes:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        total += int(text.split("\nPss:")[1].split()[0])
    return total / 1024


def cpu_s(processes):
    """CPU time of some processes: what they would need if nobody else were running."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


class Peak(threading.Thread):
    """Samples the memory of this process and all it has started until it is stopped."""

    def __init__(self):
        super().__init__()
        self.mb, self.looks, self._stop_looking = 0.0, 0, threading.Event()
        me = psutil.Process()
        self._processes = [me, *me.children(recursive=True)]

    def run(self):
        while not self._stop_looking.wait(0.2):
            self.mb, self.looks = max(self.mb, pss_mb(self._processes)), self.looks + 1

    def __exit__(self, *_):
        self._stop_looking.set()
        self.join()

    def __enter__(self):
        self.start()
        return self


def on_engines(genes, engines, rounds):
    """Time a shared matrix on engines, then once more while memory is sampled."""
    from sklearn.feature_selection import mutual_info_classif

    cluster = ms.local_cluster(engines)
    with ms.Namespace("bench") as namespace:
        X, y = simulated(genes)
        start = time.perf_counter()
        namespace["X"] = X
        shared = time.perf_counter() - start
        data_mb = X.nbytes / 2**20
        del X

        # Memory that no process maps is in no PSS: this process maps all of it.
        mine = namespace["X"]
        mine.max()

        def scores():
            return ms.mutual_info_matrix("bench.X", y, y_discrete=True, cluster=cluster)

        warm = ms.mutual_info_matrix(namespace["X"][:, :100], y, y_discrete=True, cluster=cluster)
        print(f"\n{CASES:,} x {genes:,} float64, {data_mb:,.0f} MB, on {engines} engines")
        print(f"shared in {shared:.1f} s, once")
        workers = [psutil.Process(pid) for pid in cluster.view().apply_sync(os.getpid)]
        times = []
        for _ in range(rounds):
            load, cpu = os.getloadavg()[0], cpu_s(workers)
            start = time.perf_counter()
            found = scores()
            times.append(time.perf_counter() - start)
            rate = genes / times[-1]
            print(
                f"{times[-1]:8.2f} s {rate:10,.0f} genes/s {rate / R_GENES_S:8.0f} x R"
                f"    ({cpu_s(workers) - cpu:.1f} s of CPU; load before it {load:.1f})",
                flush=True,
            )
        np.testing.assert_allclose(found[:100], warm, rtol=1e-12)
        with Peak() as peak:
            before = pss_mb(peak._processes)
            start = time.perf_counter()
            scores()
            took = time.perf_counter() - start
        print(
            f"{peak.mb - data_mb:8.0f} MB over the data at most, in {len(peak._processes)} "
            f"processes ({peak.looks} looks in {took:.1f} s; {before - data_mb:.0f} before)"
        )
        some = np.ascontiguousarray(namespace["X"][:, :20])
        start = time.perf_counter()
        mutual_info_classif(some, y, random_state=0)
        theirs = (time.perf_counter() - start) / 20
        ours = min(times) / genes
        print(f"{1e3 * theirs:8.1f} ms a column by scikit-learn on one core, {theirs / ours:.0f} x")


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paper", action="store_true", help="the paper's matrix as well")
    parser.add_argument("--engines", type=int, help="only the matrix, on so many engines")
    parser.add_argument("--rounds", type=int, default=3, help="how often, on engines")
    arguments = parser.parse_args()
    if arguments.engines:
        on_engines(GENES if arguments.paper else 1000, arguments.engines, arguments.rounds)
        return
    print(f"{'one pair, n = 10,446 unless said':36}{'ms':>8}{'scikit-learn':>14}{'R':>8}")
    for name, ours, theirs in pairs():
        fast, slow = milliseconds(ours), milliseconds(theirs, repeats=5)
        of_r = f"{R_MS[name] / fast:.0f} x" if name in R_MS else ""
        print(f"{name:36}{fast:8.2f}{f'{slow / fast:.0f} x':>14}{of_r:>8}")
    print(f"\n{'matrix of 10,446 rows, 32 classes':36}{'s':>8}{'genes/s':>14}{'MB over data':>14}")
    sizes = [1000] + [GENES] * arguments.paper
    for genes in sizes:
        for dtype, order in (("float64", "C"), ("float64", "F"), ("float32", "C")):
            if genes == GENES and (dtype, order) != ("float64", "C"):
                continue
            X, y = simulated(genes, dtype)
            X = np.asarray(X, order=order)
            score = ColumnMutualInfo(y, y_discrete=True)
            score(X[:, :100])
            before = peak_mb(reset=True)
            start = time.perf_counter()
            score(X)
            took = time.perf_counter() - start
            over = peak_mb() - before
            name = f"{genes:,} columns, {dtype}, {order} order"
            print(f"{name:36}{took:8.2f}{genes / took:14,.0f}{over:14.0f}")


if __name__ == "__main__":
    main()
