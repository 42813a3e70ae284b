"""Variables as codes of a few bins, and what tables of codes tell of one another.

What choosing features one after the other needs thousands of times: a table of two codes costs one
count of the samples, whatever the variables were.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memshare_jupyter.information._inputs import as_codes, as_numbers, missing, raise_missing
from memshare_jupyter.information._normal_scores import normal_quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_LEVELS: Final = 256  # a code is a byte
_NO_SPREAD: Final = 1e-12
_TABLE_CELLS: Final = 2**17  # of the tables that are looked at together


class QuantileCodes:
    """Codes of the columns of a block: in which of so many bins of equal counts a value is.

    Equal values share a bin, so there are fewer bins where more values are equal.

    Parameters
    ----------
    bins : int
        At most 256.
    labels : ndarray of shape (n_features,), bool, optional
        Columns whose values are codes already, or labels: each different one is a code.
    """

    def __init__(self, bins: int, labels: NDArray[np.bool_] | None = None) -> None:
        self._bins = bins
        self._labels = labels

    def __call__(self, block: NDArray[Any], first: int = 0) -> NDArray[np.uint8]:
        """Return codes of shape (k, n_samples) of an array of shape (n_samples, k)."""
        codes = np.empty((block.shape[1], block.shape[0]), dtype=np.uint8)
        for place, raw in enumerate(np.ascontiguousarray(block.T)):
            name = f"column {first + place} of X"
            if self._labels is not None and self._labels[first + place]:
                codes[place] = _levels(raw, name)
                continue
            column = as_numbers(raw, name)
            if not np.isfinite(column).all():
                raise_missing(**{name: ~np.isfinite(column)})
            codes[place] = self.of(column)
        return codes

    def of(self, column: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the codes of one finite variable."""
        if column.size == 0:
            return np.empty(0, dtype=np.uint8)
        ordered = np.sort(column)
        edges = np.unique(ordered[np.arange(1, self._bins) * column.size // self._bins])
        edges = edges[edges > ordered[0]]
        return np.searchsorted(edges, column, side="right").astype(np.uint8)


def _levels(raw: NDArray[Any], name: str) -> NDArray[np.intp]:
    if missing(raw).any():
        raise_missing(**{name: missing(raw)})
    codes = as_codes(raw, name)
    if (levels := int(codes.max(initial=0)) + 1) > _MOST_LEVELS:
        raise ValueError(
            f"{name} has {levels} labels, and this method can tell {_MOST_LEVELS} apart; take it "
            "for numbers, or join some"
        )
    return codes


def information_with(
    codes: NDArray[np.uint8], other: NDArray[np.intp], levels: int
) -> NDArray[np.float64]:
    """Mutual information in nats of each row of codes with another code; may be below 0.

    Of the table, less Miller and Madow's bias by the levels that are present [1]_.

    References
    ----------
    .. [1] G. A. Miller, "Note on the bias of information estimates", in H. Quastler (ed.),
       Information Theory in Psychology II-B, Free Press 1955, pp. 95-100.
    """
    n = other.size
    c_log_c = _c_log_c(n)
    bins = int(codes.max(initial=0)) + 1
    in_other = np.bincount(other, minlength=levels)
    found = np.empty(len(codes))
    for start, tables in _tables(codes, other, bins, levels):
        in_code = tables.sum(axis=2)
        nats = (c_log_c[tables].sum(axis=(1, 2)) - c_log_c[in_code].sum(axis=1)) / n
        nats += np.log(n) - c_log_c[in_other].sum() / n
        spare = ((in_code > 0).sum(axis=1) - 1) * (np.count_nonzero(in_other) - 1)
        found[start : start + len(tables)] = nats - spare / (2 * n)
    return found


def information_given(
    codes: NDArray[np.uint8],
    label: NDArray[np.intp],
    classes: int,
    given: NDArray[np.intp],
    levels: int,
) -> NDArray[np.float64]:
    """Mutual information in nats of each row of codes with a label within the levels of a third.

    Corrected level by level as `information_with` is.
    """
    n = label.size
    c_log_c = _c_log_c(n)
    bins = int(codes.max(initial=0)) + 1
    both = given * classes + label
    in_both = np.bincount(both, minlength=levels * classes).reshape(levels, classes)
    in_given = in_both.sum(axis=1)
    constant = c_log_c[in_given].sum() - c_log_c[in_both].sum()
    found = np.empty(len(codes))
    for start, flat in _tables(codes, both, bins, levels * classes):
        tables = flat.reshape(len(flat), bins, levels, classes)
        in_pair = tables.sum(axis=3)
        nats = c_log_c[tables].sum(axis=(1, 2, 3)) - c_log_c[in_pair].sum(axis=(1, 2)) + constant
        spare_bins = np.maximum((in_pair > 0).sum(axis=1) - 1, 0)
        spare_classes = np.maximum((in_both > 0).sum(axis=1) - 1, 0)
        spare = (spare_bins * spare_classes).sum(axis=1)
        found[start : start + len(flat)] = (nats - spare / 2) / n
    return found


def scores_of(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return normal scores of a variable's codes, with mean 0 and variance 1; 0 for a constant."""
    return np.asarray(_scores(np.bincount(codes, minlength=_MOST_LEVELS))[codes])


def information_by_copula(
    codes: NDArray[np.uint8], scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mutual information in nats of each row of codes with a variable, as if both were normal.

    `scores` are those of the variable.
    """
    counts = np.empty((len(codes), _MOST_LEVELS))
    sums = np.empty_like(counts)
    for place, some in enumerate(codes):
        row = some.astype(np.intp)  # once, and not by each count
        counts[place] = np.bincount(row, minlength=_MOST_LEVELS)
        sums[place] = np.bincount(row, weights=scores, minlength=_MOST_LEVELS)
    correlations = (_scores(counts) * sums).sum(axis=1) / max(scores.size, 1)
    return information_of_copula(correlations)


def _scores(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the score of each code, from how often it occurs; the last axis is that of codes."""
    n = max(int(counts.sum(axis=-1).max(initial=0)), 1)
    middle = np.cumsum(counts, axis=-1) - (counts - 1) / 2  # mean of the ranks, from 1
    scores = normal_quantile(np.minimum(middle, n) / (n + 1))
    scores -= (counts * scores).sum(axis=-1, keepdims=True) / n
    spread = np.sqrt((counts * scores**2).sum(axis=-1, keepdims=True) / n)
    return np.asarray(scores / np.where(spread > _NO_SPREAD, spread, np.inf))


def information_of_copula(correlations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mutual information in nats of normal pairs; no more than codes of one byte can have [1]_.

    References
    ----------
    .. [1] J. Ma, Z. Sun, "Mutual information is copula entropy", Tsinghua Science and Technology
       16:51-54, 2011. :doi:`10.1016/S1007-0214(11)70008-6`
    """
    apart = np.maximum(1.0 - np.square(correlations), 1.0 / _MOST_LEVELS**2)
    return np.asarray(-np.log(apart) / 2)


def _tables(codes: NDArray[np.uint8], other: NDArray[np.intp], bins: int, levels: int) -> Any:
    """Yield tables of shape (some, bins, levels), and the row of codes that the first one is of."""
    step = max(1, _TABLE_CELLS // (bins * levels))
    for start in range(0, len(codes), step):
        some = codes[start : start + step]
        tables = np.empty((len(some), bins, levels), dtype=np.intp)
        for table, row in zip(tables, some, strict=True):
            flat = np.multiply(row, levels, dtype=np.intp)
            flat += other
            table[...] = np.bincount(flat, minlength=bins * levels).reshape(bins, levels)
        yield start, tables


@lru_cache(maxsize=4)
def _c_log_c(n: int) -> NDArray[np.float64]:
    """Return c log c for the counts c = 0 to n: to look one up is quicker than its logarithm."""
    counts = np.arange(n + 1.0)
    return np.asarray(counts * np.log(np.maximum(counts, 1.0)))
