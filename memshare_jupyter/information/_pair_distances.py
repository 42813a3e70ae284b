"""One order statistic of all pairwise distances of a sorted sample, without forming them.

The distances of n values are n (n - 1) / 2 numbers, 54 million for n = 10,446. How many of them
do not exceed d is a merge of the sample with itself shifted by d; so the statistic is first
closed in by such counts, and only the few distances inside the last bracket are written out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BINS: Final = 4096  # of the histogram that gives the first guess
_FEW: Final = 4  # write distances out once the bracket has at most this many per value,
_FEW_AT_LEAST: Final = 4096  # or this many in all
_SMALLEST_GAP: Final = 1e-250  # between values, for divisions by it


@dataclass(frozen=True, slots=True, eq=False)
class _Count:
    """How far each value reaches within a distance."""

    distance: float
    edges: NDArray[np.intp]  # of each distinct value: the first one out of its reach
    reached: int  # pairs of distinct values within the distance
    pairs: int  # pairs of the sample within the distance, tied ones included


class PairDistances:
    """The distances between all pairs of an ordered sample.

    Parameters
    ----------
    ordered : ndarray of shape (n,), float64
        Finite values in ascending order, at least two; any number of ties.

    Attributes
    ----------
    number : int
        Of all pairs, ``n * (n - 1) / 2``.
    tied : int
        Of pairs whose distance is 0.
    values : ndarray
        The distinct values.

    Notes
    -----
    Equal values are counted once, with their multiplicity, so at most n pairs can share one
    distance and a bracket of distances always becomes small enough to write out.
    """

    def __init__(self, ordered: NDArray[np.float64]) -> None:
        n = ordered.size
        gaps = np.diff(ordered)
        self.ordered = ordered
        self.values = ordered
        self.number = n * (n - 1) // 2  # in int64: enough for 4e9 values
        self.tied = 0
        if not gaps.all():
            starts = np.flatnonzero(np.concatenate(([True], gaps != 0.0)))
            self.values = ordered[starts]
            self._before = np.append(starts, n)  # values of the sample before each distinct one
            self.multiplicity = np.diff(self._before)
            self.tied = int((self.multiplicity * (self.multiplicity - 1) // 2).sum())
            gaps = gaps[gaps != 0.0]
        # Interpolation divides by the gaps.
        self._interpolable = gaps.size > 0 and bool(gaps.min() > _SMALLEST_GAP)
        self._places = np.arange(float(self.values.size))
        # What rounding can do to a difference against a sum of two of these values.
        self.rounding = 4 * float(np.spacing(max(abs(ordered[0]), abs(ordered[-1]))))

    def kth(self, rank: int) -> float:
        """Return the distance of that rank, 0 being the smallest.

        Exactly ``ordered[j] - ordered[i]``, as rounded, of the pair of that rank: about three
        counts of O(n) time each, O(n) memory.
        """
        if rank < self.tied:
            return 0.0
        bracket = _Bracket(self, rank)
        few = max(_FEW * self.ordered.size, _FEW_AT_LEAST)
        if bracket.inside > few:
            guess, slope = _first_guess(self.ordered, rank)
            over = bracket.narrow(guess)
            # The first guess is usually off by far less than a pair per value.
            nearest = bracket.high if over > 0 else bracket.low
            if abs(nearest.pairs - rank) < self.ordered.size / 2:
                nearby = self._walk(nearest, rank)
                if abs(nearby - guess) > self.rounding:
                    return nearby
            margin = few / 32 + abs(over) / 8
            bracket.narrow(guess - (over + (margin if over > 0 else -margin)) * slope)
        for aim in cycle((-few / 4, few / 4, None)):
            if bracket.inside <= few:
                break
            # In turn: close in from below, from above, and (should the distances come in
            # clumps, where interpolation is slow) halve.
            before = bracket.low, bracket.high
            bracket.narrow(bracket.interpolated(aim))
            if (bracket.low, bracket.high) == before:
                break
        return _select(self, bracket.low, bracket.high, rank)

    def count_within(self, distance: float) -> _Count:
        reach = self.values + distance
        if not self._interpolable:
            return self._counted(distance, np.searchsorted(self.values, reach, side="right"))
        # np.interp goes through both ascending arrays once, where searchsorted starts each search
        # anew: a third of its time. Its rounding can reach the next place, not more.
        last = np.interp(reach, self.values, self._places).astype(np.intp)
        last -= self.values[last] > reach
        last += 1
        return self._counted(distance, last)

    def weights(self, left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.intp] | None:
        """Return how many pairs of the sample each pair of distinct values stands for."""
        return self.multiplicity[left] * self.multiplicity[right] if self.tied else None

    def _walk(self, counted: _Count, rank: int) -> float:
        """Walk from a count to a rank nearby, from each value to the next pairs it has.

        NaN if the rank is further than all values' next pairs.
        """
        up = counted.pairs <= rank
        away = rank - counted.pairs if up else counted.pairs - 1 - rank
        left = np.arange(self.values.size)
        right = counted.edges if up else counted.edges - 1
        bound = math.nan
        beyond: list[NDArray[np.float64]] = []
        lefts: list[NDArray[np.intp]] = []
        rights: list[NDArray[np.intp]] = []
        while left.size > 0:
            inside = right < self.values.size if up else right > left
            left, right = left[inside], right[inside]
            distance = self.values[right] - self.values[left]
            if not up:
                np.negative(distance, out=distance)
            if not beyond:
                # The answer is not beyond the one among the next pairs alone.
                bound = _ranked(distance, self.weights(left, right), away)
                if math.isnan(bound):
                    return bound
            near = distance <= bound
            left, right = left[near], right[near]
            beyond.append(distance[near])
            lefts.append(left)
            rights.append(right)
            right = right + (1 if up else -1)
        weights = self.weights(np.concatenate(lefts), np.concatenate(rights))
        return abs(_ranked(np.concatenate(beyond), weights, away))

    def nothing(self) -> _Count:
        return self._counted(0.0, np.arange(1, self.values.size + 1))

    def everything(self) -> _Count:
        size = self.values.size
        return self._counted(float(self.values[-1] - self.values[0]), np.full(size, size))

    def _counted(self, distance: float, edges: NDArray[np.intp]) -> _Count:
        size = self.values.size
        reached = int(edges.sum()) - size * (size + 1) // 2
        if self.tied == 0:
            return _Count(distance, edges, reached, reached)
        within = self._before[edges] - self._before[1:]
        return _Count(distance, edges, reached, int(self.multiplicity @ within) + self.tied)


class _Bracket:
    """Two counts with the rank between them."""

    def __init__(self, sample: PairDistances, rank: int) -> None:
        self._sample, self._rank = sample, rank
        self.low, self.high = sample.nothing(), sample.everything()

    @property
    def inside(self) -> int:
        """Pairs of distinct values whose distances would have to be written out."""
        return self.high.reached - self.low.reached

    def narrow(self, distance: float) -> int:
        """Count within that distance, keep it as an end, and say how far it is over the rank."""
        if not self.low.distance < distance < self.high.distance:
            return 0
        found = self._sample.count_within(distance)
        if found.pairs <= self._rank:
            self.low = found
        else:
            self.high = found
        return found.pairs - self._rank

    def interpolated(self, aim: float | None) -> float:
        """Guess the distance that many pairs over the rank; the middle if None."""
        low, high = self.low, self.high
        share = 0.5
        if aim is not None:
            share = (self._rank + aim - low.pairs) / (high.pairs - low.pairs)
            share = min(max(share, 0.001), 0.999)
        return low.distance + (high.distance - low.distance) * share


def _first_guess(ordered: NDArray[np.float64], rank: int) -> tuple[float, float]:
    """Guess the statistic, and how much it grows with the rank, from a histogram.

    The histogram's autocorrelation counts the pairs by the difference of their bins, and half of
    those m apart are nearer than m bins: so too for a value with many ties, when it is the middle
    of its bin, as the smallest value is here. Right to much less than one pair per value
    for a smooth density.
    """
    start, span = float(ordered[0]), float(ordered[-1] - ordered[0])
    bins = ((ordered - start) * (_BINS / span) + 0.5).astype(np.intp)
    counts = np.bincount(bins, minlength=_BINS)
    spectrum = np.fft.rfft(counts, 2 * _BINS)
    apart = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, 2 * _BINS)[:_BINS]
    apart[0] = (apart[0] - ordered.size) / 2
    within = np.cumsum(apart) - apart / 2
    within[0] = 0.0
    place = min(int(np.searchsorted(within, rank, side="right")) - 1, _BINS - 2)
    slope = span / _BINS / max(float(within[place + 1] - within[place]), 1.0)
    return place * span / _BINS + (rank - float(within[place])) * slope, slope


def _ranked(distances: NDArray[np.float64], weights: NDArray[np.intp] | None, rank: int) -> float:
    """Return the distance of that rank, each counted as often as its weight; NaN if too few."""
    if weights is None:
        return float(np.partition(distances, rank)[rank]) if rank < distances.size else math.nan
    order = np.argsort(distances)
    place = int(np.searchsorted(np.cumsum(weights[order]), rank, side="right"))
    return float(distances[order[place]]) if place < order.size else math.nan


def _select(sample: PairDistances, low: _Count, high: _Count, rank: int) -> float:
    """Write out the distances of the bracket and take the one of that rank."""
    lowest, highest = sample.nothing(), sample.everything()
    while True:
        lengths = high.edges - low.edges
        left = np.repeat(np.arange(lengths.size), lengths)
        offsets = np.arange(left.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        right = low.edges[left] + offsets
        distances = sample.values[right] - sample.values[left]
        found = _ranked(distances, sample.weights(left, right), rank - low.pairs)
        # The counts compare sums, x_i + d with x_j; the statistic is one of differences. The two
        # can disagree within rounding of the bracket's ends and nowhere else, so a statistic
        # found there asks for a wider bracket.
        safe_low = low.pairs == lowest.pairs or found > low.distance + sample.rounding
        safe_high = high.pairs == highest.pairs or found < high.distance - sample.rounding
        if safe_low and safe_high:
            return found
        if not safe_low:
            wider = low.distance - 2 * sample.rounding
            low = sample.count_within(wider) if wider > 0 else lowest
        if not safe_high:
            wider = high.distance + 2 * sample.rounding
            high = sample.count_within(wider) if wider < highest.distance else highest
