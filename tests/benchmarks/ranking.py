"""How often a feature that tells 0.1 nats about a label is put above one that tells 0.2.

Features of six shapes, each with a parameter that depends on the class; how much it must depend
for 0.1 and for 0.2 nats is found by integration.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import nbinom, norm

LEVELS = (0.1, 0.2)
_GRID = np.linspace(-40, 60, 6001)
_LOG_GRID = np.linspace(-60, 15, 6001)
_COUNTS = np.arange(3000)


@functools.cache
def scores(k):
    """Return where the classes are: quantiles of the normal distribution, of s.d. 1."""
    found = ndtri((np.arange(k) + 0.5) / k)
    return found / found.std()


def nats(densities, step):
    """Return the mutual information of equal classes with these densities on a grid."""
    overall = densities.mean(axis=0)
    ratio = np.log(np.maximum(densities, 1e-300)) - np.log(np.maximum(overall, 1e-300))
    return float((densities * ratio).sum() / len(densities) * step)


class Normal:
    """Shifted by the class."""

    name = "normal"

    def truth(self, strength, k):
        shift = strength * scores(k)[:, None]
        return nats(norm.pdf(_GRID - shift), _GRID[1] - _GRID[0])

    def draw(self, rng, y, strength, k):
        return rng.normal(size=y.size) + strength * scores(k)[y]


class LogNormal(Normal):
    """The same, as expression is before it is transformed."""

    name = "log-normal"

    def draw(self, rng, y, strength, k):
        return np.exp(2 * super().draw(rng, y, strength, k))


class Scale:
    """Normal, as wide as the class says."""

    name = "scale"

    def truth(self, strength, k):
        width = np.exp(strength * scores(k))[:, None]
        return nats(norm.pdf(_GRID / width) / width, _GRID[1] - _GRID[0])

    def draw(self, rng, y, strength, k):
        return rng.normal(size=y.size) * np.exp(strength * scores(k))[y]


class Exponential:
    """Exponential, with a mean by the class."""

    name = "exponential"

    def truth(self, strength, k):
        rate, x = np.exp(-strength * scores(k))[:, None], np.exp(_LOG_GRID)
        return nats(rate * np.exp(-rate * x) * x, _LOG_GRID[1] - _LOG_GRID[0])

    def draw(self, rng, y, strength, k):
        return rng.exponential(size=y.size) * np.exp(strength * scores(k))[y]


class Bimodal:
    """Two normal modes, with shares by the class."""

    name = "bimodal"

    def _upper(self, strength, k):
        return 1 / (1 + np.exp(-strength * scores(k)))

    def truth(self, strength, k):
        upper = self._upper(strength, k)[:, None]
        densities = upper * norm.pdf(_GRID - 5) + (1 - upper) * norm.pdf(_GRID)
        return nats(densities, _GRID[1] - _GRID[0])

    def draw(self, rng, y, strength, k):
        upper = rng.random(y.size) < self._upper(strength, k)[y]
        return rng.normal(size=y.size) + 5.0 * upper


class ZeroInflated:
    """Counts of a mean by the class; half of them are 0 whatever it is."""

    name = "zero-inflated counts"

    def _stop(self, strength, k):
        return 1 / (1 + 20 * np.exp(strength * scores(k)))

    def truth(self, strength, k):
        shares = nbinom.pmf(_COUNTS, 1, self._stop(strength, k)[:, None]) / 2
        shares[:, 0] += 0.5
        return nats(shares, 1.0)

    def draw(self, rng, y, strength, k):
        counts = rng.negative_binomial(1, self._stop(strength, k)[y])
        return np.where(rng.random(y.size) < 0.5, 0.0, counts)


SHAPES = (Normal(), Exponential(), Bimodal(), ZeroInflated(), LogNormal(), Scale())


@functools.cache
def strength_for(shape, level, k):
    """Return how much the shape must depend on the class for so much mutual information."""
    return brentq(lambda strength: shape.truth(strength, k) - level, 1e-4, 2.5, xtol=1e-5)


def wrong_shares(estimate, n, k, *, features=12, labelings=4):
    """Return how often 0.1 is not below 0.2, for the shapes of the one and the other: (6, 6).

    Equal estimates count half.
    """
    found = {(shape, level): [] for shape in SHAPES for level in LEVELS}
    for labeling in range(labelings):
        rng = np.random.default_rng([n, k, labeling])
        y = rng.permutation(np.arange(n) % k)
        for (shape, level), values in found.items():
            strength = strength_for(shape, level, k)
            values += [estimate(shape.draw(rng, y, strength, k), y) for _ in range(features)]
    low, high = (np.array([found[shape, level] for shape in SHAPES]) for level in LEVELS)
    above = low[:, None, :, None] - high[None, :, None, :]
    return ((above > 0) + (above == 0) / 2).mean(axis=(2, 3))
