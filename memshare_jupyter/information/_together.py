"""Choose columns for what they tell together: here, or with the engines of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memshare_jupyter.information._blocks import over_columns
from memshare_jupyter.information._codes import QuantileCodes
from memshare_jupyter.information._inputs import as_codes, as_numbers, missing, raise_missing
from memshare_jupyter.information._shared_codes import codes_of_all
from memshare_jupyter.information._stepwise import (
    BINS,
    COPULA_BINS,
    Beside,
    Relevance,
    With,
    chosen_stepwise,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memshare_jupyter.information._stepwise import Method, Redundancy


def chosen_together(
    X: Any,
    y: NDArray[Any],
    kinds: NDArray[np.bool_],
    method: Method,
    redundancy: Redundancy,
    k: int,
    namespace: str | None,
    engines: dict[str, Any],
    *,
    y_discrete: bool,
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return columns in the order of their choice, their scores, and the relevance of all."""
    bins = BINS[method]
    if missing(y).any():
        raise_missing(y=missing(y))
    if y_discrete:
        label = as_codes(y, "y")
    else:
        numbers = as_numbers(y, "y", remedy="; for labels pass y_discrete=True")
        label = QuantileCodes(bins).of(numbers).astype(np.intp)
    classes = int(label.max(initial=0)) + 1
    kept = COPULA_BINS if redundancy == "copula" else bins
    pass_beside = Beside(method, redundancy, label, classes)
    with codes_of_all(X, kept, kinds, namespace, engines, y.size) as (code_of, over_all):
        if kept == bins:
            relevance = over_all(With(label, classes))
        else:
            first = Relevance(QuantileCodes(bins), label, classes)
            relevance = over_columns(X, first, kinds, namespace, engines)
        chosen, scores = chosen_stepwise(
            method, k, relevance, lambda best: over_all(pass_beside(code_of(best)))
        )
    return chosen, scores, relevance
