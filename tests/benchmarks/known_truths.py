"""Joint distributions whose mutual information is known, to be drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import digamma, gammaln, ndtr

if TYPE_CHECKING:
    from collections.abc import Callable


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

# The tasks of one dimension of P. Czyz et al., "Beyond normal: on the evaluation of mutual
# information estimators", NeurIPS 2023. Most are a normal pair of correlation 0.75 whose variables
# go through increasing functions, which leave mutual information as it is.
RHO = 0.75


def transformed(name, of_x, of_y):
    base = normal(RHO)

    def draw(rng, n):
        x, y = base.draw(rng, n)
        return of_x(x), of_y(y)

    return Case(name, base.truth, draw)


def mixture(weight, first, second):
    """Return the function that makes a normal variable a mixture of two, of s.d. 1."""
    x = np.linspace(-12, 12, 24_001)
    below = weight * ndtr(x - first) + (1 - weight) * ndtr(x - second)
    return lambda z: np.interp(ndtr(z), below, x)


def additive_noise(half_width):
    """Uniform x from 0 to 1, and y = x + uniform noise."""
    wide = 1 / (4 * half_width)
    truth = wide if half_width >= 0.5 else half_width - math.log(2 * half_width)

    def draw(rng, n):
        x = rng.random(n)
        return x, x + rng.uniform(-half_width, half_width, n)

    return Case(f"uniform x, noise of ±{half_width}", truth, draw)


def student(degrees, rho=0.0, outer=None):
    """Two Student's t variables that share their scale: dependent even if uncorrelated."""
    half = degrees / 2

    def entropy(dimensions):
        sum_ = half + dimensions / 2
        of_scale = gammaln(half) - gammaln(sum_) + dimensions / 2 * math.log(degrees * math.pi)
        return of_scale + sum_ * (digamma(sum_) - digamma(half))

    truth = float(2 * entropy(1) - entropy(2) - math.log(1 - rho**2) / 2)

    def draw(rng, n):
        x, y = normal(rho).draw(rng, n)
        scale = np.sqrt(rng.chisquare(degrees, n) / degrees)
        x, y = x / scale, y / scale
        return (x, y) if outer is None else (outer(x), outer(y))

    shape = "" if outer is None else f"{outer.__name__} of "
    return Case(f"{shape}Student's t, {degrees} d.f., rho = {rho}", truth, draw)


def half_cube(z):
    return z * np.sqrt(np.abs(z))


def wiggly_x(z):
    return z + 0.4 * np.sin(z) + 0.2 * np.sin(1.7 * z + 1) + 0.03 * np.sin(3.3 * z - 2.5)


def wiggly_y(z):
    return z - 0.4 * np.sin(0.4 * z) + 0.17 * np.sin(1.3 * z + 3.5) + 0.02 * np.sin(4.3 * z - 2.5)


TASKS = [
    transformed("normal pair", np.positive, np.positive),
    transformed("uniform margins", ndtr, ndtr),
    transformed("half-cube, long tails", half_cube, half_cube),
    transformed("bimodal margins", mixture(0.3, 0, 5), mixture(0.5, -1, 3)),
    transformed("wiggly margins", wiggly_x, wiggly_y),
    additive_noise(0.1),
    additive_noise(0.75),
    student(1),
    student(1, outer=np.arcsinh),
    student(5, RHO),
    # Not of the benchmark: what raw expression looks like.
    transformed("log-normal x, exp(2 z)", lambda z: np.exp(2 * z), np.positive),
]
