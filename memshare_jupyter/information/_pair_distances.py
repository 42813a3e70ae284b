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

from memshare_jupyter.information._ascending import Ascending
from memshare_jupyter.information._first_guess import first_guess

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEW: Final = 4  # write distances out once the bracket has at most this many per value,
_FEW_AT_LEAST: Final = 512  # or this many in all
_GUESSES: Final = 8  # counts that follow the density, before the bracket is closed in by halves


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
        self._search: Ascending | None = None  # made for the first count
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
        few = max(_FEW * self.values.size, _FEW_AT_LEAST)
        if bracket.inside > few:
            nearby = self._followed(bracket, rank, few)
            if not math.isnan(nearby):
                return nearby
        for aim in cycle((-few / 4, few / 4, None)):
            if bracket.inside <= few:
                break
            # In turn: close in from below, from above, and (should the distances come in
            # clumps, where interpolation is slow) halve.
            ends = bracket.low, bracket.high
            bracket.narrow(bracket.interpolated(aim))
            if (bracket.low, bracket.high) == ends:
                break
        return _select(self, bracket.low, bracket.high, rank)

    def _followed(self, bracket: _Bracket, rank: int, few: int) -> float:
        """Close in from a first guess along the slope of the counts, and walk the rest of the way.

        NaN if the distances are in clumps, or the bracket has come to hold but a few.
        """
        guess, slope = first_guess(self.ordered, rank)
        last: tuple[float, int] | None = None
        for _ in range(_GUESSES):
            over = bracket.narrow(guess)
            if bracket.inside <= few:
                break
            nearest = bracket.nearest
            # The first guess is usually off by far less than a pair per value.
            if abs(nearest.pairs - rank) < self.ordered.size / 16:
                nearby = self._walk(nearest, rank, slope)
                return nearby if abs(nearby - nearest.distance) > self.rounding else math.nan
            if last is not None and over != last[1]:
                slope = abs((guess - last[0]) / (over - last[1]))
            last = guess, over
            guess = bracket.inner(guess - over * slope)
        return math.nan

    def count_within(self, distance: float) -> _Count:
        if self._search is None:
            self._search = Ascending(self.values)
        return self._counted(distance, self._search.up_to(self.values + distance))

    def weights(self, left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return how many pairs of a tied sample each pair of distinct values stands for."""
        return self.multiplicity[left] * self.multiplicity[right]

    def _walk(self, counted: _Count, rank: int, slope: float) -> float:
        """Walk from a count to a rank nearby, from each value to the next pairs it has.

        `slope` is about how much the distance grows with the rank: it bounds the walk to a few
        hundred pairs. NaN if the rank is not among the pairs that it leads to.
        """
        up = counted.pairs <= rank
        away = rank - counted.pairs if up else counted.pairs - 1 - rank
        size = self.values.size
        if up:
            # Edges ascend, so the values without a next pair are the last ones.
            right = counted.edges[: int(np.searchsorted(counted.edges, size))]
            distance = self.values.take(right) - self.values[: right.size]
            bound = counted.distance
        else:
            right = counted.edges - 1
            distance = self.values - self.values.take(right)
            bound = -counted.distance
        bound += slope * (2 * away + 128)
        left = np.flatnonzero(distance <= bound)
        right, distance = right[left], distance[left]
        beyond: list[NDArray[np.float64]] = []
        stands_for: list[NDArray[np.intp]] = []
        while left.size > 0:
            inside = (right < size if up else right > left) & (distance <= bound)
            left, right = left[inside], right[inside]
            beyond.append(distance[inside])
            if self.tied:
                stands_for.append(self.weights(left, right))
            right = right + (1 if up else -1)
            within = right < size if up else right > left
            left, right = left[within], right[within]
            distance = self.values[right] - self.values[left]
            if not up:
                np.negative(distance, out=distance)
        if not beyond:
            return math.nan
        weights = np.concatenate(stands_for) if self.tied else None
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

    @property
    def nearest(self) -> _Count:
        """The end whose count is nearer to the rank."""
        nearer = self._rank - self.low.pairs < self.high.pairs - self._rank
        return self.low if nearer else self.high

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

    def inner(self, distance: float) -> float:
        """Return a guess inside the bracket: this one, or what the ends say."""
        if self.low.distance < distance < self.high.distance:
            return distance
        return self.interpolated(0.0)

    def interpolated(self, aim: float | None) -> float:
        """Guess the distance that many pairs over the rank; the middle if None."""
        low, high = self.low, self.high
        share = 0.5
        if aim is not None:
            share = (self._rank + aim - low.pairs) / (high.pairs - low.pairs)
            share = min(max(share, 0.001), 0.999)
        return low.distance + (high.distance - low.distance) * share


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
        weights = sample.weights(left, right) if sample.tied else None
        found = _ranked(distances, weights, rank - low.pairs)
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
