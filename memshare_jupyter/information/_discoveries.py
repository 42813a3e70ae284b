"""p-values of all columns by permutation, as many permutations as each of them needs.

All variables of n different values have the same normal scores in another order, so one null
distribution, that of one of them, serves all. Columns with ties have a null each: permutations of
y go on until ten of them reach what the column has with y itself, or there are enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memshare_jupyter.information._columns import ColumnMutualInfo
from memshare_jupyter.information._inputs import as_array, missing
from memshare_jupyter.information._ties import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    # Calls a function of a number, a matrix and a random generator for each number, here or on
    # engines: as many results.
    Repeat = Callable[[Any, range, NDArray[Any]], list[Any]]

_TOGETHER: Final = 20  # permutations of the one column whose tables are smoothed side by side
_REACHED: Final = 10  # permutations that end the wait for more, as Besag and Clifford advise
_FIRST_ROUND: Final = 40
_COPIED_VALUES: Final = 20_000_000
_EARLY: Final = 120  # permutations after which the number of discoveries is guessed


class Untied:
    """Say which columns of a block have as many different values as samples."""

    def __call__(self, block: NDArray[Any], _: int = 0) -> NDArray[np.bool_]:
        columns = np.sort(np.ascontiguousarray(as_array(block, "X").T), axis=1)
        return np.asarray((columns[:, 1:] > columns[:, :-1]).all(axis=1))


class NullOfUntied:
    """Mutual information of y with some random orders of n different values."""

    def __init__(self, y: NDArray[Any], options: dict[str, Any]) -> None:
        self._score = ColumnMutualInfo(y, **options | {"x_discrete": False})
        self._n = y.size

    def __call__(
        self, _: NDArray[np.intp], _x: NDArray[Any], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        orders = [rng.permutation(self._n) for _ in range(_TOGETHER)]
        return self._score(np.array(orders, dtype=np.float64).T)


def shared_p_values(
    values: NDArray[np.float64],
    y: NDArray[Any],
    options: dict[str, Any],
    enough: int,
    repeat: Repeat,
) -> NDArray[np.float64]:
    """p-values of untied columns from one null of at least so many permutations."""
    items = range(-(-enough // _TOGETHER))
    null = np.sort(np.concatenate(repeat(NullOfUntied(y, options), items, np.empty((1, 0)))))
    reached = null.size - np.searchsorted(null, values - TOLERANCE)
    return np.asarray((1 + reached) / (1 + null.size))


def sequential_p_values(
    values: NDArray[np.float64],
    part_of: Callable[[NDArray[np.intp]], NDArray[Any]],
    permuted: Callable[[NDArray[np.intp]], Any],
    repeat: Repeat,
    most: Callable[[int], int],
    samples: int,
) -> NDArray[np.float64]:
    """p-values of columns, each by as many permutations as it needs [1]_.

    Parameters
    ----------
    values : ndarray of shape (n_columns,)
        Mutual information with y.
    part_of : callable
        Gives columns of X by their places among these.
    permuted : callable
        Gives the function of one permutation that says which of some columns reach their values.
    repeat : callable
        Does one permutation for each number, the same one wherever and however often.
    most : callable
        How many permutations to make at most, if so many columns have not been reached once.
    samples : int
        Of each column: a copy of some columns is made at a time, of 160 MB.

    Returns
    -------
    ndarray of shape (n_columns,)
        ``10 / l`` for a column that was reached for the tenth time by permutation l; else
        ``(g + 1) / (L + 1)`` if it was g times in all L. Valid under independence in either case.

    References
    ----------
    .. [1] J. Besag, P. Clifford, "Sequential Monte Carlo p-values", Biometrika 78:301-304, 1991.
       :doi:`10.1093/biomet/78.2.301`
    """
    found = np.ones(values.size)
    waiting = np.arange(values.size)
    reached = np.zeros(values.size, dtype=np.intp)
    done, last, size = 0, most(0), _FIRST_ROUND
    while waiting.size and done < last:
        size = min(size, last - done)
        blocks = np.array_split(waiting, -(-waiting.size * samples // _COPIED_VALUES))
        results = [
            np.asarray(repeat(permuted(some), range(done, done + size), part_of(some)), np.intp)
            for some in blocks
        ]
        counts = reached[waiting] + np.cumsum(np.hstack(results), axis=0)
        full = counts[-1] >= _REACHED
        found[waiting[full]] = _REACHED / (
            done + 1 + np.argmax(counts[:, full] >= _REACHED, axis=0)
        )
        reached[waiting] = counts[-1]
        waiting = waiting[~full]
        done += size
        size *= 2
        if done >= _EARLY:
            # It grows again as columns are reached after all: fewer need smaller p-values.
            last = max(done, most(int(np.count_nonzero(reached[waiting] == 0))))
    found[waiting] = (reached[waiting] + 1) / (done + 1)
    return found


def q_values(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest false discovery rates at which each p-value is a discovery [1]_.

    References
    ----------
    .. [1] Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate: a practical and
       powerful approach to multiple testing", Journal of the Royal Statistical Society B
       57:289-300, 1995. :doi:`10.1111/j.2517-6161.1995.tb02031.x`

    Examples
    --------
    >>> q_values(np.array([0.01, 0.5, 0.02, 0.04])).round(3)
    array([0.04 , 0.5  , 0.04 , 0.053])
    """
    order = np.argsort(p_values)
    rates = p_values[order] * p_values.size / np.arange(1, p_values.size + 1)
    found = np.empty(p_values.size)
    found[order] = np.minimum(np.minimum.accumulate(rates[::-1])[::-1], 1.0)
    return found


def may_share(y: NDArray[Any], options: dict[str, Any]) -> bool:
    """Say whether all untied columns have one null: on normal scores, with no label missing."""
    return options.get("transform") == "normal" and not missing(y).any()
