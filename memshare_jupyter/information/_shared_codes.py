"""The codes of all columns of a matrix: an array here, or a page that engines made and work on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from memshare_jupyter.apply import memapply
from memshare_jupyter.core.api import release_variables
from memshare_jupyter.core.names import parse
from memshare_jupyter.information._blocks import by_engines, numbers_of, on_engines, value_of
from memshare_jupyter.information._codes import QuantileCodes
from memshare_jupyter.worker import columns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from memshare_jupyter.information._stepwise import Pass


@contextmanager
def codes_of_all(
    X: Any,
    bins: int,
    labels: NDArray[np.bool_],
    namespace: str | None,
    engines: dict[str, Any],
    samples: int,
) -> Iterator[tuple[Callable[[int], NDArray[np.uint8]], Callable[[Pass], NDArray[np.float64]]]]:
    """Give the codes of a column, and a pass over those of all; one byte for each value."""
    if isinstance(X, str):
        X, namespace = str(parse(X, namespace)), None
    matrix = value_of(X)
    columns = columns_of(matrix)
    coded = QuantileCodes(bins, labels if labels.any() else None)
    shape = (len(matrix), len(columns)) if columns is not None else np.shape(matrix)
    if len(shape) != 2 or shape[0] != samples:
        raise ValueError(
            f"X must have one row for each of the {samples} values of y, but has shape {shape}"
        )
    if not on_engines(X, engines["cluster"], engines["max_cores"]):
        blocks = np.array_split(np.arange(shape[1]), max(1, shape[1] // 64))
        parts = [coded(numbers_of(matrix, b, labels), b[0]) for b in blocks if b.size]
        here = np.concatenate(parts)
        yield here.__getitem__, lambda one: one(here)
        return
    name = f"selection_{uuid4().hex[:12]}"
    where = (engines["cluster"], None, engines["max_cores"])
    page = f"{name}.codes"
    there = by_engines(X, coded, labels, None if isinstance(X, str) else name, engines, page)
    try:

        def over_all(one: Pass) -> NDArray[np.float64]:
            found = memapply(page, "rows", one, None, *where, batch=True, progress_after=None)
            return np.array(found, dtype=np.float64)

        yield there.__getitem__, over_all
    finally:
        release_variables(name, ["codes"])
