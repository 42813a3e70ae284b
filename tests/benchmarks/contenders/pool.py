"""``multiprocessing.Pool`` over a ``SharedMemory`` block that its workers attach once."""

from __future__ import annotations

import functools
from itertools import chain
from multiprocessing import Barrier, Pool, resource_tracker
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from tests.benchmarks.workloads import chunks, count_of, part


@functools.cache
def attached(name, shape, order):
    block = SharedMemory(name)
    # The block has to live as long as the array.
    return block, np.ndarray(shape, np.float64, block.buf, order=order)


def begin(barrier):
    global all_workers  # noqa: PLW0603 -- one process, one worker
    all_workers = barrier


def detach(attach):
    attach.cache_clear()
    all_workers.wait()  # so that each of them takes one of these tasks


def attached_part(attach, where, margin, fun, items):
    return part(attach(*where)[1], margin, fun, items)


class Contender:
    attach = staticmethod(attached)

    def __init__(self, workers):
        self.workers = workers
        # One for all of them: a worker's own would remove the block when that worker ends.
        resource_tracker.ensure_running()
        self.pool = Pool(workers, begin, [Barrier(workers)])

    def share(self, X):
        self.block = SharedMemory(create=True, size=X.nbytes)
        self.where = self.block.name, X.shape, "C" if X.flags.c_contiguous else "F"
        self.X = np.ndarray(X.shape, X.dtype, self.block.buf, order=self.where[2])
        self.X[:] = X

    def apply(self, margin, fun):
        items = chunks(count_of(self.X, margin), self.workers)
        work = functools.partial(attached_part, self.attach, self.where, margin, fun)
        # A task is a chunk already.
        return list(chain.from_iterable(self.pool.map(work, items, chunksize=1)))

    def unshare(self):
        self.pool.map(detach, [self.attach] * self.workers, chunksize=1)
        del self.X
        self.free()

    def free(self):
        self.block.close()
        self.block.unlink()

    def close(self):
        self.pool.close()
        self.pool.join()
