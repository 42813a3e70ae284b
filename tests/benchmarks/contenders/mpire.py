"""mpire: its workers are forked with the matrix as their shared object, without a copy."""

from __future__ import annotations

from functools import partial
from itertools import chain

from mpire import WorkerPool

from tests.benchmarks.workloads import chunks, count_of, part


def shared_part(X, items, margin, fun):
    return part(X, margin, fun, items)


class Contender:
    def __init__(self, workers):
        self.workers = workers

    def share(self, X):
        # What is shared is had by fork, so workers start anew for each matrix.
        self.X = X
        self.pool = WorkerPool(self.workers, start_method="fork", shared_objects=X, keep_alive=True)

    def apply(self, margin, fun):
        items = [(some,) for some in chunks(count_of(self.X, margin), self.workers)]
        work = partial(shared_part, margin=margin, fun=fun)
        # A task is a chunk already.
        return list(chain.from_iterable(self.pool.map(work, items, chunk_size=1)))

    def unshare(self):
        self.pool.stop_and_join()
        del self.X, self.pool

    def close(self):
        pass
