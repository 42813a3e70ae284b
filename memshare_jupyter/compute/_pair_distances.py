"""One order statistic of all pairwise distances of a sorted sample, without forming them.

The distances of n values are n (n - 1) / 2 numbers, 54 million for n = 10,446. How many of them
do not exceed d is a merge of the sample with itself shifted by d; so the statistic is first
closed in by such counts, and only the few distances inside the last bracket are written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SUBSAMPLE: Final = 96  # its 4,560 distances give the first bracket
_MARGIN: Final = 0.02  # of the pairs, around the rank asked for, in that first bracket
_WRITE_OUT: Final = 4  # write distances out once the bracket has at most this many per value


def kth_pair_distance(ordered: NDArray[np.float64], rank: int) -> float:
    """Return the distance of the given rank among all pairs of an ordered sample.

    Parameters
    ----------
    ordered : ndarray of shape (n,), float64
        Finite values in ascending order, at least two; any number of ties.
    rank : int
        0 for the smallest of the ``n * (n - 1) / 2`` distances.

    Returns
    -------
    float
        The exact statistic: ``ordered[j] - ordered[i]``, as rounded, of the pair of that rank.

    Notes
    -----
    About four counts of O(n log n) time each, O(n) memory. Ties cost nothing more: equal values
    are counted once, with their multiplicity, so at most n pairs can share one distance and
    the bracket always becomes small enough to write out.
    """
    sample = _Sample(ordered)
    if rank < sample.tied:
        return 0.0
    low, high = _first_bracket(sample, ordered, rank)
    few = _WRITE_OUT * ordered.size
    for step in count():
        if high.reached - low.reached <= few:
            break
        # In turn: close in from below, from above, and (should the distances come in clumps,
        # where interpolation is slow) halve.
        aim = (rank - few / 4, rank + few / 4, None)[step % 3]
        share = 0.5 if aim is None else (aim - low.pairs) / (high.pairs - low.pairs)
        guess = low.distance + (high.distance - low.distance) * min(max(share, 0.001), 0.999)
        if not low.distance < guess < high.distance:
            break
        at_guess = sample.count_within(guess)
        if at_guess.pairs <= rank:
            low = at_guess
        else:
            high = at_guess
    return _select(sample, low, high, rank)


def tied_pairs(ordered: NDArray[np.float64]) -> int:
    """Return how many of the distances are 0."""
    return _Sample(ordered).tied


@dataclass(frozen=True, slots=True)
class _Count:
    """How far each value reaches within a distance."""

    distance: float
    edges: NDArray[np.intp]  # of each distinct value: the first one out of its reach
    reached: int  # pairs of distinct values within the distance
    pairs: int  # pairs of the sample within the distance, tied ones included


class _Sample:
    """An ordered sample as distinct values with their multiplicities."""

    def __init__(self, ordered: NDArray[np.float64]) -> None:
        first = np.empty(ordered.size, dtype=bool)
        first[0] = True
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        n = ordered.size
        self.values = ordered if starts.size == n else ordered[starts]
        self.all_pairs = n * (n - 1) // 2
        # Pairs are counted in int64: enough up to 4e9 values.
        self._before = np.append(starts, n)  # values of the sample before each distinct one
        self.multiplicity = np.diff(self._before)
        self.tied = int((self.multiplicity * (self.multiplicity - 1) // 2).sum())
        # What rounding can do to a difference against a sum of two of these values.
        self.rounding = 4 * float(np.spacing(max(abs(ordered[0]), abs(ordered[-1]))))

    def count_within(self, distance: float) -> _Count:
        edges = np.searchsorted(self.values, self.values + distance, side="right")
        return self._counted(distance, edges)

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


def _first_bracket(
    sample: _Sample, ordered: NDArray[np.float64], rank: int
) -> tuple[_Count, _Count]:
    """Bracket the statistic by that of an evenly spaced subsample, if it holds true."""
    low, high = sample.nothing(), sample.everything()
    if ordered.size < 2 * _SUBSAMPLE:
        return low, high
    few = ordered[np.linspace(0, ordered.size - 1, _SUBSAMPLE).astype(np.intp)]
    distances = np.sort((few[None, :] - few[:, None])[np.triu_indices(_SUBSAMPLE, 1)])
    share = rank / sample.all_pairs
    for edge in (share - _MARGIN, share + _MARGIN):
        guess = float(distances[int(min(max(edge, 0.0), 1.0) * (distances.size - 1))])
        if low.distance < guess < high.distance:
            at_guess = sample.count_within(guess)
            if at_guess.pairs <= rank:
                low = at_guess
            else:
                high = at_guess
    return low, high


def _select(sample: _Sample, low: _Count, high: _Count, rank: int) -> float:
    """Write out the distances of the bracket and take the one of that rank."""
    lowest, highest = sample.nothing(), sample.everything()
    while True:
        lengths = high.edges - low.edges
        left = np.repeat(np.arange(lengths.size), lengths)
        offsets = np.arange(left.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        right = low.edges[left] + offsets
        distances = sample.values[right] - sample.values[left]
        if sample.tied == 0:
            found = float(np.partition(distances, rank - low.pairs)[rank - low.pairs])
        else:
            order = np.argsort(distances)
            weights = (sample.multiplicity[left] * sample.multiplicity[right])[order]
            place = np.searchsorted(np.cumsum(weights), rank - low.pairs, side="right")
            found = float(distances[order[place]])
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
