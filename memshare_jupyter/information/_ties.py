"""Order and ranks of mutual informations that are equal but for rounding.

Equal columns get values that differ in the last bits: linear algebra adds in another order where a
column lies at another place of a batch. So what depends on the order of values, or on one being
as large as another, goes by groups: values that are less than `TOLERANCE` from the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: In nats or to a base: far above rounding (6e-15 was seen), far below what an estimate can mean.
TOLERANCE: Final = 1e-12


def best_first(values: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return places from the largest value on, equal ones in their own order, and their ranks.

    1 is the rank of the best; equal ones share the better rank.
    """
    order = np.argsort(-values, kind="stable")
    drops = -np.diff(values[order], prepend=np.inf) > TOLERANCE
    group = np.cumsum(drops)
    order = order[np.lexsort((order, group))]
    return order, np.flatnonzero(drops)[group - 1] + 1


def reaching(values: NDArray[np.float64], threshold: float) -> int:
    """Return how many values, in the order of `best_first`, belong to a group that reaches it."""
    _, ranks = best_first(values)
    reached = np.count_nonzero(values >= threshold - TOLERANCE)
    return int(np.count_nonzero(ranks <= ranks[reached - 1])) if reached else 0
