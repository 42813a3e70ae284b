"""joblib on loky's processes, the matrix dumped once and mapped by the workers.

``Parallel`` would dump a large array by itself, but at every call; its documentation shows this for
data that are used more often. The file is where joblib would put its own.
"""

from __future__ import annotations

import tempfile
from itertools import chain
from pathlib import Path

from joblib import Parallel, delayed, dump, load
from joblib.externals.loky import get_reusable_executor

from tests.benchmarks.workloads import chunks, count_of, part


class Contender:
    def __init__(self, workers):
        self.workers = workers
        # The chunks are batches already. Joining quick ones, as "auto" does, made cheap functions
        # take up to twice as long. The context keeps the workers between calls.
        self.parallel = Parallel(n_jobs=workers, batch_size=1).__enter__()

    def share(self, X):
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name, "X.joblib")
        dump(X, path)
        self.X = load(path, mmap_mode="r")

    def apply(self, margin, fun):
        items = chunks(count_of(self.X, margin), self.workers)
        tasks = (delayed(part)(self.X, margin, fun, some) for some in items)
        return list(chain.from_iterable(self.parallel(tasks)))

    def unshare(self):
        del self.X
        self.directory.cleanup()

    def close(self):
        self.parallel.__exit__(None, None, None)
        get_reusable_executor().shutdown(wait=True)
