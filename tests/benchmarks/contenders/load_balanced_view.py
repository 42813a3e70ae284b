"""ipyparallel's ``LoadBalancedView.map``; a ``DirectView`` pushes the matrix."""

from __future__ import annotations

from tests.benchmarks.contenders import direct_view
from tests.benchmarks.workloads import chunks


class Contender(direct_view.Contender):
    def __init__(self, workers):
        super().__init__(workers)
        self.balanced = self.client.load_balanced_view()

    def mapped(self, function, count):
        size = len(chunks(count, self.workers)[0])
        return self.balanced.map_sync(function, range(count), chunksize=size)
