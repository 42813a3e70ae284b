"""Where ascending queries fall among ascending values, faster than one binary search for each.

`numpy.searchsorted` starts every search anew. Here the values are put into buckets of equal width
once, and a search starts with its bucket, in which there are a few values left to halve. Values in
clumps fill few buckets; those are left to `numpy.interp`, which goes along both arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEWEST: Final = 1024  # values for which buckets pay
_MOST_HALVINGS: Final = 6  # in a bucket of up to 63 values; with more, interpolation is as fast
_SMALLEST_GAP: Final = 1e-250  # between values, for divisions by it


class Ascending:
    """Strictly ascending finite values, at least two, to be searched in more than once.

    No query may be below the first of them.
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._values = values
        self._places: NDArray[np.float64] | None = None
        self._starts: NDArray[np.intp] | None = None
        span = float(values[-1] - values[0])
        self._per_unit = values.size / span if 0.0 < span < np.inf else np.inf
        if values.size < _FEWEST or not np.isfinite(self._per_unit):
            return
        counts = np.bincount(self._bucket(values), minlength=values.size + 1)
        self._halvings = int(counts.max()).bit_length()
        if self._halvings > _MOST_HALVINGS:
            return
        self._starts = np.zeros(values.size + 2, dtype=np.intp)
        np.cumsum(counts, out=self._starts[1:])
        # What lies before a place and after the last value.
        self._padded = np.full(values.size + 1 + (1 << self._halvings), np.inf)
        self._padded[1 : values.size + 1] = values

    def up_to(self, queries: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return how many values are not above each of the ascending queries."""
        if self._starts is not None:
            # Rounding cannot put a value above a query into a bucket below the query's.
            found = self._starts.take(self._bucket(np.minimum(queries, self._values[-1])))
            for halving in reversed(range(self._halvings)):
                step = 1 << halving
                found += (self._padded.take(found + step, mode="clip") <= queries) * step
            return found
        if self._places is None:
            gaps = np.diff(self._values)
            wide = gaps.size > 0 and bool(gaps.min() > _SMALLEST_GAP)
            self._places = np.arange(float(self._values.size)) if wide else np.empty(0)
        if self._places.size == 0:
            return np.searchsorted(self._values, queries, side="right")
        # Interpolation's rounding can reach the next place, not more.
        last = np.interp(queries, self._values, self._places).astype(np.intp)
        last -= self._values[last] > queries
        last += 1
        return last

    def _bucket(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        buckets: NDArray[np.int64] = ((values - self._values[0]) * self._per_unit).astype(np.int64)
        return buckets
