"""SharedArray: in shared memory under a name, attached once by the workers of a ``Pool``."""

from __future__ import annotations

import functools
import secrets
from itertools import chain
from multiprocessing import Barrier, Pool

import SharedArray

from tests.benchmarks.workloads import chunks, count_of, part


@functools.cache
def attached(name, order):
    found = SharedArray.attach(name)
    return found if order == "C" else found.T


def begin(barrier):
    global all_workers  # noqa: PLW0603 -- one process, one worker
    all_workers = barrier


def detach(_):
    attached.cache_clear()
    all_workers.wait()  # so that each of them takes one of these tasks


def attached_part(where, margin, fun, items):
    return part(attached(*where), margin, fun, items)


class Contender:
    def __init__(self, workers):
        self.workers = workers
        self.pool = Pool(workers, begin, [Barrier(workers)])

    def share(self, X):
        order = "C" if X.flags.c_contiguous else "F"
        self.where = f"shm://memshare-bench-{secrets.token_hex(8)}", order
        lying = X if order == "C" else X.T  # its arrays are C-ordered
        shared = SharedArray.create(self.where[0], lying.shape, X.dtype)
        shared[:] = lying
        self.X = shared if order == "C" else shared.T

    def apply(self, margin, fun):
        items = chunks(count_of(self.X, margin), self.workers)
        work = functools.partial(attached_part, self.where, margin, fun)
        return list(chain.from_iterable(self.pool.map(work, items, chunksize=1)))

    def unshare(self):
        self.pool.map(detach, range(self.workers), chunksize=1)
        del self.X
        SharedArray.delete(self.where[0])

    def close(self):
        self.pool.close()
        self.pool.join()
