"""Bias and spread of each estimator against known mutual informations.

``python tests/benchmarks/accuracy_mutualinfo.py docs/mutualinfo.md`` writes the table of that page
anew (about two minutes on one core); without a file it is printed.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memshare_jupyter.information import mutualinfo

if TYPE_CHECKING:
    from collections.abc import Callable

ESTIMATORS = {
    "PDE": {},
    "kernel": {"estimator": "kde"},
    "kernel, jackknife": {"estimator": "kde", "bias_correction": True},
    "KSG": {"estimator": "ksg"},
}
RUNS = {50: 200, 200: 100, 1000: 40, 10_000: 10}
BEGIN, END = "<!-- accuracy: begin -->\n", "<!-- accuracy: end -->\n"


@dataclass(frozen=True)
class Case:
    """A joint distribution whose mutual information is known."""

    name: str
    truth: float
    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
    discrete: tuple[bool, bool] = (False, False)


def normal_density(x):
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def normal(rho):
    def draw(rng, n):
        x, noise = rng.normal(size=(2, n))
        return x, rho * x + math.sqrt(1 - rho**2) * noise

    return Case(f"normal pair, rho = {rho}", abs(math.log(1 - rho**2)) / 2, draw)


def half_censored(rho):
    """Normal pair whose x is 0 in its lower half: the truth by integration over both."""
    y, x = np.linspace(-9, 9, 2001), np.linspace(0, 9, 2001)
    step_y, step_x = y[1] - y[0], x[1] - x[0]
    spread = math.sqrt(1 - rho**2)
    below = np.array([math.erfc(rho * v / spread / math.sqrt(2)) / 2 for v in y])
    joint = normal_density(x)[:, None] * normal_density((y - rho * x[:, None]) / spread) / spread
    product = normal_density(x)[:, None] * normal_density(y)
    ends = np.where(np.isin(x, (x[0], x[-1])), 0.5, 1.0)[:, None]
    truth = (ends * joint * np.log(np.maximum(joint, 1e-300) / product)).sum() * step_x * step_y
    truth += (below * normal_density(y) * np.log(np.maximum(below, 1e-300) / 0.5)).sum() * step_y

    def draw(rng, n):
        x, y = normal(rho).draw(rng, n)
        return np.maximum(x, 0.0), y

    return Case(f"the same, x half censored, rho = {rho}", float(truth), draw)


def classes(k, distance):
    """Draw from k equal classes whose normal densities lie a distance apart."""
    x = np.linspace(-9, 9 + k * distance, 40_001)
    given = np.array([normal_density(x - c * distance) for c in range(k)])
    ratio = np.maximum(given, 1e-300) / given.mean(axis=0)
    truth = float((given * np.log(ratio)).sum() / k * (x[1] - x[0]))

    def draw(rng, n):
        y = rng.integers(0, k, size=n)
        return y * distance + rng.normal(size=n), y

    return Case(f"{k} classes {distance} s.d. apart", truth, draw, (False, True))


def table(k, dependence):
    """Draw two labels of k levels that are the same one with this probability, else independent."""
    same, other = dependence + (1 - dependence) / k, (1 - dependence) / k
    truth = same * math.log(same * k) + (k - 1) * other * math.log(other * k)

    def draw(rng, n):
        x = rng.integers(0, k, size=n)
        return x, np.where(rng.random(n) < dependence, x, rng.integers(0, k, size=n))

    return Case(f"{k} by {k} table, dependence {dependence}", truth, draw, (True, True))


CASES = [
    normal(0.0),
    normal(0.5),
    normal(0.9),
    half_censored(0.6),
    classes(2, 0.0),
    classes(2, 2.0),
    classes(5, 1.0),
    classes(32, 0.0),
    table(4, 0.0),
    table(4, 0.5),
]


def measured(case, n, options):
    """Return bias and standard deviation, in nats."""
    x_discrete, y_discrete = case.discrete
    rng = np.random.default_rng(n)
    found = [
        mutualinfo(*case.draw(rng, n), x_discrete=x_discrete, y_discrete=y_discrete, **options)
        for _ in range(RUNS[n])
    ]
    return np.mean(found) - case.truth, np.std(found, ddof=1)


def rows():
    """Yield the lines of a Markdown table."""
    yield f"| distribution | truth | n | {' | '.join(ESTIMATORS)} |"
    yield f"| --- | ---: | ---: | {' | '.join(['---:'] * len(ESTIMATORS))} |"
    for case in CASES:
        for n in RUNS:
            cells = []
            for options in ESTIMATORS.values():
                if all(case.discrete) and options:
                    cells.append("as PDE")
                    continue
                bias, spread = measured(case, n, options)
                cells.append(f"{bias:+.3f} ± {spread:.3f}")
            yield f"| {case.name} | {case.truth:.3f} | {n:,} | {' | '.join(cells)} |"


def main():
    """Print the table, or put it into a file between its marks."""
    if len(sys.argv) == 1:
        for row in rows():
            print(row, flush=True)
        return
    page = Path(sys.argv[1])
    before, rest = page.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    lines = "".join(row + "\n" for row in rows())
    page.write_text(before + BEGIN + lines + END + after, "utf-8")


if __name__ == "__main__":
    main()
