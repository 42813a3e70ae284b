"""A list comprehension."""

from __future__ import annotations

from tests.benchmarks.workloads import count_of, part


class Contender:
    def __init__(self, workers):
        del workers

    def share(self, X):
        self.X = X

    def apply(self, margin, fun):
        return part(self.X, margin, fun, range(count_of(self.X, margin)))

    def unshare(self):
        del self.X

    def close(self):
        pass
