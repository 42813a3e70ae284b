"""How often columns have as much mutual information with a permutation of y as with y itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memshare_jupyter.information._kinds import score_of
from memshare_jupyter.information._ties import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Permuted:
    """Says which columns have as much mutual information with a permutation of y as with y."""

    def __init__(self, y: NDArray[Any], values: NDArray[np.float64], options: Any) -> None:
        self._y = y
        self._score: Callable[[NDArray[np.intp]], NDArray[np.float64]] | None = None
        self._order: Callable[[np.random.Generator], NDArray[np.intp]]
        self._least = values - TOLERANCE
        self._options = options

    def __call__(
        self, _: NDArray[np.intp], X: NDArray[Any], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Do so for one permutation, whichever process it falls to."""
        if self._score is None:  # once in each process, which sees one X only
            score = score_of(self._y, **self._options)
            self._score, self._order = score.permuter(X), score.order
        return self._score(self._order(rng)) >= self._least


class Numbered:
    """A function with a random generator that depends on a seed and the number it is called for."""

    def __init__(self, fun: Any, entropy: Any) -> None:
        self._fun, self._entropy = fun, entropy
        self.__name__ = "permutation"  # for the user, who sees how far it is

    def __call__(self, number: NDArray[np.intp], X: NDArray[Any]) -> Any:
        seed = np.random.SeedSequence(self._entropy, spawn_key=(int(number[0]),))
        return self._fun(number, X, np.random.default_rng(seed))
