"""Random repetitions that are the same wherever they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memshare_jupyter.apply import memapply
from memshare_jupyter.information._blocks import on_engines
from memshare_jupyter.information._permuted import Numbered

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Repeated:
    """Calls a function of a number, a matrix and a generator for many numbers, here or on engines.

    The generator of a number depends on the seed and the number alone.
    """

    def __init__(self, seed: int | None, X: Any, engines: dict[str, Any]) -> None:
        self.engines = engines
        self._entropy = np.random.SeedSequence(seed).entropy
        self._there = on_engines(X, engines["cluster"], engines["max_cores"])

    def __call__(self, fun: Any, numbers: range, X: NDArray[Any]) -> list[Any]:
        numbered = Numbered(fun, self._entropy)
        items = np.asarray(numbers)[:, None]
        if not self._there:
            return [numbered(item, X) for item in items]
        found: list[Any] = memapply(
            *(items, 1, numbered, "select_features"), vars={"X": X}, **self.engines
        )
        return found
