"""Threads of the standard library: nothing has to be shared, but they take turns in Python code."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

from tests.benchmarks.workloads import chunks, count_of, part


class Contender:
    def __init__(self, workers):
        self.workers = workers
        self.pool = ThreadPoolExecutor(workers)

    def share(self, X):
        self.X = X

    def apply(self, margin, fun):
        items = chunks(count_of(self.X, margin), self.workers)
        return list(chain.from_iterable(self.pool.map(partial(part, self.X, margin, fun), items)))

    def unshare(self):
        del self.X

    def close(self):
        self.pool.shutdown()
