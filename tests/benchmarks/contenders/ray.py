"""ray: the matrix put into its object store once, and passed to the tasks by reference."""

from __future__ import annotations

import os
import tempfile
from itertools import chain

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read at its import

import ray

from tests.benchmarks.workloads import chunks, count_of, part


class Contender:
    def __init__(self, workers):
        self.workers = workers
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            _temp_dir=tempfile.gettempdir(),
        )
        self.part = ray.remote(part)

    def share(self, X):
        self.X = X
        self.reference = ray.put(X)

    def apply(self, margin, fun):
        items = chunks(count_of(self.X, margin), self.workers)
        tasks = [self.part.remote(self.reference, margin, fun, some) for some in items]
        return list(chain.from_iterable(ray.get(tasks)))

    def unshare(self):
        del self.X, self.reference

    def close(self):
        ray.shutdown()
