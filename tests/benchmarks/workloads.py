"""What the contenders of the apply benchmark compute: matrices, functions, and how to split them.

Everything here is importable in every contender's workers, and the same for all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Margin = Literal["rows", "cols"]
Order = Literal["C", "F"]

CHUNKS_PER_WORKER = 16
"""For contenders that leave the size of a task to the user: an overhead of a few ms each, as their
documentation asks for, and small enough that one dear chunk does not keep the others waiting."""
DEAR = 200
SPIN_VALUES = 4096


@dataclass(frozen=True)
class Matrix:
    """A random matrix with values in [0, 1), in which a few rows and columns are marked."""

    rows: int
    cols: int
    order: Order

    def make(self) -> np.ndarray:
        rng = np.random.default_rng(20_637)
        if self.order == "C":
            X = rng.random((self.rows, self.cols))
        else:
            X = rng.random((self.cols, self.rows)).T
        X[0, self._marked(self.cols)] = 2.0
        X[self._marked(self.rows), 0] = 2.0
        return X

    @staticmethod
    def _marked(count: int) -> np.ndarray:
        return np.random.default_rng(8).choice(np.arange(1, count), max(1, count // 500), False)


@dataclass(frozen=True)
class Workload:
    """A function for every row or column of a matrix."""

    name: str
    order: Order
    margin: Margin
    fun: Callable[[np.ndarray], float]

    @property
    def key(self) -> str:
        return f"{self.name}, {self.margin}, {self.order} order"


@dataclass(frozen=True)
class Spin:
    """Compute for a while: `turns` times as long as one turn, and `dear` times that if marked.

    It computes rather than sleeps, in numpy's loops, which let go of the interpreter's lock: so
    that threads get their chance.
    """

    turns: int
    dear: int = 1

    def __call__(self, values: np.ndarray) -> float:
        turning = np.array(values[:SPIN_VALUES])
        for _ in range(self.turns * (self.dear if values[0] > 1 else 1)):
            turning = np.cos(turning)
        # Cosines of cosines all come to the same; the last value tells the items apart.
        return float(turning.sum()) + float(values[-1])


def first_element(values: np.ndarray) -> float:
    """The function that costs nothing."""
    return float(values[0])


def turns_for(seconds: float, count: int) -> int:
    """Return how many turns of `Spin` take so long for items of `count` values."""
    values = np.linspace(0.0, 0.9, count)
    trial = Spin(100)
    fastest = math.inf
    for _ in range(10):
        begin = time.perf_counter()
        trial(values)
        fastest = min(fastest, time.perf_counter() - begin)
    return max(1, round(seconds / fastest * trial.turns))


def workloads(rows: int) -> list[Workload]:
    """Return all workloads for matrices of so many rows."""
    two_ms = Spin(turns_for(2e-3, rows))
    skewed = Spin(turns_for(0.2e-3, rows), DEAR)
    functions = {"one element": first_element, "np.std": np.std, "2 ms": two_ms, "skewed": skewed}
    orders: tuple[Order, ...] = ("C", "F")
    return [
        *(
            Workload(name, order, "cols", fun)
            for order in orders
            for name, fun in functions.items()
        ),
        *(
            Workload(name, order, "rows", functions[name])
            for order in orders
            for name in ("one element", "np.std")
        ),
    ]


def chunks(count: int, workers: int) -> list[range]:
    """Split so many items into tasks."""
    size = math.ceil(count / (workers * CHUNKS_PER_WORKER))
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def count_of(X: np.ndarray, margin: Margin) -> int:
    return X.shape[0 if margin == "rows" else 1]


def part(X: np.ndarray, margin: Margin, fun: Callable[..., Any], items: range) -> list[Any]:
    """Return the results of a chunk: what a task of most contenders does."""
    along = X if margin == "rows" else X.T
    return [fun(along[item]) for item in items]
