"""Selection beside other packages, and at the size of the paper.

``python -m tests.benchmarks.bench_selection`` compares, on one core, what is installed of
scikit-learn, mrmr_selection, fast-select and ennemi; with ``--engines 2`` mRMR, CMIM and the
p-values of all columns of a matrix of 10,446 x 19,637 on so many engines.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
import warnings

import numpy as np
import psutil

import memshare_jupyter as ms
from memshare_jupyter import mutual_info_matrix, select_features
from memshare_jupyter.information._codes import QuantileCodes
from tests.benchmarks.bench_mutualinfo import Peak, cpu_s, pss_mb, simulated

GROUPS, IN_GROUP, CHOSEN = 10, 10, 10


def redundant(seed, n=1000, p=1000, classes=3):
    """Ten groups of ten columns that say the same, noise, and a third of all as skewed counts."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    X, group = rng.normal(size=(n, p)), np.full(p, -1)
    for number in range(GROUPS):
        means = rng.normal(size=classes)
        means = (means - means.mean()) / means.std()
        hidden = 0.75 * (1 - 0.06 * number) * means[y] + rng.normal(size=n)
        mine = slice(number * IN_GROUP, (number + 1) * IN_GROUP)
        X[:, mine] = hidden[:, None] + 0.35 * X[:, mine]
        group[mine] = number
    X[:, ::3] = np.floor(np.exp(1.2 * X[:, ::3]))
    order = rng.permutation(p)
    return X[:, order], y, group[order]


def best_of(values):
    return np.argsort(-np.asarray(values), kind="stable")[:CHOSEN]


def ours(**options):
    return lambda X, y: select_features(X, y, k=CHOSEN, **options).columns


def scikit_learn(X, y):
    from sklearn.feature_selection import mutual_info_classif

    return best_of(mutual_info_classif(X, y, random_state=0))


def ennemi(X, y):
    from ennemi import estimate_mi

    return best_of(estimate_mi(y, X, discrete_y=True)[0])


def mrmr_selection(X, y):
    import pandas as pd
    from mrmr import mrmr_classif

    frame = pd.DataFrame(X).rename(columns=str)
    found = mrmr_classif(frame, pd.Series(y), K=CHOSEN, show_progress=False, n_jobs=1)
    return np.array(found, dtype=int)


def fast_select(X, y):
    from fast_select import mRMR

    codes = QuantileCodes(8)(X).T.astype(np.int64)
    return np.asarray(mRMR(n_features_to_select=CHOSEN).fit(codes, y).top_features_)[:CHOSEN]


# Each with the package it needs, and the one of ours whose choice it is compared with.
METHODS = {
    "top 10": (ours(), None, None),
    "mRMR": (ours(method="mrmr"), None, None),
    "mRMR, copula": (ours(method="mrmr", redundancy="copula"), None, "mRMR"),
    "JMI": (ours(method="jmi"), None, None),
    "CMIM": (ours(method="cmim"), None, None),
    "scikit-learn, top 10 by KSG": (scikit_learn, "sklearn", "top 10"),
    "ennemi, top 10 by KSG": (ennemi, "ennemi", "top 10"),
    "mrmr_selection, mRMR by F and r": (mrmr_selection, "mrmr", "mRMR"),
    "fast-select, mRMR of 8 bins": (fast_select, "fast_select", "mRMR"),
}


def beside_others(seeds=(0, 1, 2)):
    """Print a table of methods: time a column, groups, noise, agreement."""
    print("| method | ms a column | groups of 10 | noise of 10 | in common with ours |")
    print("| --- | ---: | ---: | ---: | ---: |")
    chosen = {}
    for name, (choose, package, like) in METHODS.items():
        if package is not None and importlib.util.find_spec(package) is None:
            print(f"| {name} | not installed | | | |")
            continue
        choose(*redundant(99, n=200, p=150)[:2])  # what is compiled or imported once
        times, groups, noise, common = [], [], [], []
        for seed in seeds:
            X, y, group = redundant(seed)
            start = time.process_time()  # of the processor: others may use the machine
            found = chosen[name, seed] = np.asarray(choose(X, y))
            times.append((time.process_time() - start) / X.shape[1])
            groups.append(len(set(group[found]) - {-1}))
            noise.append(np.count_nonzero(group[found] < 0))
            if like is not None:
                common.append(np.intersect1d(found, chosen[like, seed]).size)
        alike = f"{np.mean(common):.1f} of {like}" if common else ""
        print(
            f"| {name} | {1e3 * statistics.median(times):.2f} | {np.mean(groups):.1f} | "
            f"{np.mean(noise):.1f} | {alike} |",
            flush=True,
        )


def agreement(n=1000):
    """Print how alike the estimates of all columns order them."""
    from scipy.stats import spearmanr

    X, y, group = redundant(0, n=n)
    of_ours = mutual_info_matrix(X, y, y_discrete=True, transform="normal")
    for package, values in (("sklearn", sklearn_values), ("ennemi", ennemi_values)):
        if importlib.util.find_spec(package) is not None:
            theirs = np.asarray(values(X, y))
            told = group >= 0
            rho = spearmanr(of_ours[told], theirs[told]).statistic
            print(f"rank correlation with {package}, of the columns that tell: {rho:.3f}")


def sklearn_values(X, y):
    from sklearn.feature_selection import mutual_info_classif

    return mutual_info_classif(X, y, random_state=0)


def ennemi_values(X, y):
    from ennemi import estimate_mi

    return estimate_mi(y, X, discrete_y=True)[0]


def on_engines(genes, engines, which):
    """Time selections from a shared matrix, and look at the memory beside it."""
    cluster = ms.local_cluster(engines)
    with ms.Namespace("bench") as namespace:
        X, y = simulated(genes)
        namespace["X"] = X
        data_mb = X.nbytes / 2**20
        del X
        mine = namespace["X"]  # memory that no process maps is in no PSS: this one maps all of it
        mine.max()
        select_features(mine[:, :100], y, k=3, method="cmim", cluster=cluster)
        workers = [psutil.Process(pid) for pid in cluster.view().apply_sync(os.getpid)]
        print(f"{len(y):,} x {genes:,} float64, {data_mb:,.0f} MB, on {engines} engines")
        for name, options in {
            "mRMR, 50": {"k": 50, "method": "mrmr"},
            "mRMR by copula, 50": {"k": 50, "method": "mrmr", "redundancy": "copula"},
            "JMI, 50": {"k": 50, "method": "jmi"},
            "CMIM, 50": {"k": 50, "method": "cmim"},
            "p-values and q-values of all": {"alpha": 0.05},
        }.items():
            if which and not name.startswith(tuple(which)):
                continue
            load, cpu = os.getloadavg()[0], cpu_s(workers)
            with Peak() as peak:
                before = pss_mb(peak._processes)
                start = time.perf_counter()
                found = select_features("bench.X", y, cluster=cluster, **options)
                took = time.perf_counter() - start
            print(
                f"{name:30} {took:7.1f} s  ({cpu_s(workers) - cpu:.1f} s of CPU of the engines; "
                f"load before it {load:.1f}); {peak.mb - before:.0f} MB more while it ran; "
                f"{len(found)} columns",
                flush=True,
            )


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=int, help="the paper's size, on so many engines")
    parser.add_argument("--genes", type=int, default=19_637)
    parser.add_argument("--only", action="append", default=[], help="what begins like this")
    arguments = parser.parse_args()
    if arguments.engines:
        on_engines(arguments.genes, arguments.engines, arguments.only)
        return
    warnings.simplefilter("ignore")  # of theirs
    beside_others()
    agreement()


if __name__ == "__main__":
    main()
