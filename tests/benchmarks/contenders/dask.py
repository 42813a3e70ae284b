"""dask.distributed: the matrix scattered to all workers once, futures for the chunks."""

from __future__ import annotations

from itertools import chain

from distributed import Client

from tests.benchmarks.workloads import chunks, count_of, part


def part_of(items, X, margin, fun):
    return part(X, margin, fun, items)


class Contender:
    def __init__(self, workers):
        self.workers = workers
        self.client = Client(n_workers=workers, threads_per_worker=1, dashboard_address=None)

    def share(self, X):
        self.X = X
        # Without a hash, which would be computed over all values.
        self.scattered = self.client.scatter(X, broadcast=True, hash=False)

    def apply(self, margin, fun):
        items = chunks(count_of(self.X, margin), self.workers)
        # Not pure: a call with the same arguments would only look up its former result.
        tasks = self.client.map(
            part_of, items, X=self.scattered, margin=margin, fun=fun, pure=False
        )
        return list(chain.from_iterable(self.client.gather(tasks)))

    def unshare(self):
        self.scattered.release()
        del self.X, self.scattered

    def close(self):
        self.client.shutdown()
