"""Bias, spread and ranks of each estimator against known mutual informations.

``python -m tests.benchmarks.accuracy_mutualinfo docs/accuracy.md`` writes the tables of that page
anew (about four minutes on one core); without a file they are printed.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np

from memshare_jupyter.information import mutualinfo
from tests.benchmarks.known_truths import CASES, TASKS
from tests.benchmarks.ranking import SHAPES, wrong_shares

NORMAL = {"transform": "normal"}
JACKKNIFE = {"estimator": "kde", "bias_correction": True}
ESTIMATORS = {
    "PDE": {},
    "kernel": {"estimator": "kde"},
    "kernel, jackknife": JACKKNIFE,
    "KSG": {"estimator": "ksg"},
}
RUNS = {50: 200, 200: 100, 1000: 40, 10_000: 10}
OF_TASKS = {
    "PDE": {},
    "PDE, normal scores": NORMAL,
    "kernel, jackknife": JACKKNIFE,
    "the same, normal scores": JACKKNIFE | NORMAL,
    "KSG": {"estimator": "ksg"},
}
TASK_RUNS = {200: 40, 1000: 20, 5000: 6}
OF_RANKS = {
    "PDE": {},
    "PDE, corrected": {"bias_correction": True},
    "PDE, normal scores": NORMAL,
    "the same, corrected": {"bias_correction": True} | NORMAL,
    "kernel, jackknife": JACKKNIFE,
    "the same, normal scores": JACKKNIFE | NORMAL,
    "KSG": {"estimator": "ksg"},
}


def measured(case, n, runs, options):
    """Return bias and standard deviation, in nats."""
    x_discrete, y_discrete = case.discrete
    rng = np.random.default_rng(n)
    found = [
        mutualinfo(*case.draw(rng, n), x_discrete=x_discrete, y_discrete=y_discrete, **options)
        for _ in range(runs)
    ]
    return np.mean(found) - case.truth, np.std(found, ddof=1)


def accuracy(first, cases, estimators, runs):
    """Yield the lines of a Markdown table of bias and spread."""
    yield f"| {first} | truth | n | {' | '.join(estimators)} |"
    yield f"| --- | ---: | ---: | {' | '.join(['---:'] * len(estimators))} |"
    for case in cases:
        for n, times in runs.items():
            cells = []
            for options in estimators.values():
                if all(case.discrete) and options:
                    cells.append("as PDE")
                    continue
                bias, spread = measured(case, n, times, options)
                cells.append(f"{bias:+.3f} ± {spread:.3f}")
            yield f"| {case.name} | {case.truth:.3f} | {n:,} | {' | '.join(cells)} |"


def ranking():
    """Yield the lines of a Markdown table of wrong orders."""
    yield "| n | classes | estimator | of one shape | of any two | the worst two: 0.1 above 0.2 |"
    yield "| ---: | ---: | --- | ---: | ---: | --- |"
    for n in (200, 1000):
        for k in (2, 32):
            for name, options in OF_RANKS.items():
                estimate = functools.partial(mutualinfo, y_discrete=True, **options)
                wrong = wrong_shares(estimate, n, k)
                low, high = np.unravel_index(wrong.argmax(), wrong.shape)
                worst = f"{SHAPES[low].name} above {SHAPES[high].name}, {wrong.max():.0%}"
                worst = worst if wrong.max() >= 0.005 else "none"
                shares = f"{np.diag(wrong).mean():.1%} | {wrong.mean():.1%}"
                yield f"| {n:,} | {k} | {name} | {shares} | {worst} |"


TABLES = {
    "accuracy": lambda: accuracy("distribution", CASES, ESTIMATORS, RUNS),
    "tasks": lambda: accuracy("task", TASKS, OF_TASKS, TASK_RUNS),
    "ranking": ranking,
}


def main():
    """Print the tables, or put them into a file between their marks."""
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for name, rows in TABLES.items():
        if page is None:
            print("", *rows(), sep="\n", flush=True)
            continue
        lines = "".join(row + "\n" for row in rows())
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, rest = page.read_text("utf-8").split(begin)
        page.write_text(before + begin + lines + end + rest.split(end)[1], "utf-8")


if __name__ == "__main__":
    main()
