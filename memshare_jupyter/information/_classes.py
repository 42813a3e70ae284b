"""The classes of a label, and what gridded variables tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memshare_jupyter.information._estimates import MOST_BINS, continuous_discrete, entropy
from memshare_jupyter.information._smoothing import GRID_POINTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from memshare_jupyter.information._density import Gridded
    from memshare_jupyter.information._options import Options

_TABLE_BYTES: Final = 2 * 2**20  # of tables smoothed in one go: they stay in the cache


class Classes:
    """The classes of some samples.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,), int
        Of the label: 0, 1, ...
    options : Options
        What to estimate.
    """

    def __init__(self, codes: NDArray[np.intp], options: Options) -> None:
        counts = np.bincount(codes, minlength=1)
        self.count = counts.size
        self.codes = codes.astype(np.min_scalar_type(self.count))
        self.entropy = entropy(counts)
        self._weights = counts / max(codes.size, 1)
        self._options = options

    def nats(
        self, variables: Sequence[Gridded | None], codes: NDArray[Any] | None = None
    ) -> NDArray[np.float64]:
        """Return the mutual information of variables with the label; 0 for those that are None.

        `codes` are those of the samples in another order.
        """
        codes = self.codes if codes is None else codes
        found = np.zeros(len(variables))
        alike: dict[int, list[tuple[int, Gridded]]] = {}
        for place, gridded in enumerate(variables):
            if gridded is not None:
                alike.setdefault(min(gridded.distinct, MOST_BINS), []).append((place, gridded))
        for distinct, members in alike.items():
            for some in _portions(members, max(1, _TABLE_BYTES // (8 * 512 * self.count))):
                places = [place for place, _ in some]
                found[places] = self._of_tables([grid for _, grid in some], distinct, codes)
        return found

    def _of_tables(
        self, variables: list[Gridded], distinct: int, codes: NDArray[Any]
    ) -> NDArray[np.float64]:
        tables = np.empty((GRID_POINTS, len(variables), self.count))
        for place, variable in enumerate(variables):
            flat = variable.cell.astype(np.intp, copy=False) * self.count + codes
            counts = np.bincount(flat, minlength=GRID_POINTS * self.count)
            tables[:, place] = counts.reshape(GRID_POINTS, self.count)
        widths = np.array([variable.width for variable in variables])
        tied = np.array([variable.mostly_tied for variable in variables])
        return continuous_discrete(
            *(tables, distinct, widths, tied, self._weights, self._options.eps),
            bias_correction=self._options.bias_correction,
        )


def _portions(members: list[tuple[int, Gridded]], size: int) -> Iterator[list[tuple[int, Gridded]]]:
    return (members[start : start + size] for start in range(0, len(members), size))
