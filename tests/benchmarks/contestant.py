"""The process in which one contender runs, told what to do over a pipe.

Started as ``python -m tests.benchmarks.contestant MODULE DESCRIPTOR``; see session.py for the other
side. Each command is the name of a method of `Contestant` and its arguments.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
import traceback
from multiprocessing.connection import Connection

from tests.benchmarks.workloads import Matrix, first_element


class Contestant:
    """A contender and its matrix; what is timed here is in seconds."""

    def __init__(self, module):
        self.module = module

    def start(self, workers):
        """Start it, from the import of its library to the first result."""
        small = Matrix(2, 2, "C").make()
        begin = time.perf_counter()
        self.contender = importlib.import_module(self.module).Contender(workers)
        self.contender.share(small)
        self.contender.apply("cols", first_element)
        took = time.perf_counter() - begin
        self.contender.unshare()
        return took

    def make(self, matrix):
        self.X = None  # before there is another one
        self.X = matrix.make()

    def share(self):
        begin = self._begin()
        self.contender.share(self.X)
        return time.perf_counter() - begin

    def apply(self, margin, fun):
        begin = self._begin()
        results = self.contender.apply(margin, fun)
        return time.perf_counter() - begin, results

    def share_and_apply(self, margin, fun):
        begin = self._begin()
        self.contender.share(self.X)
        results = self.contender.apply(margin, fun)
        return time.perf_counter() - begin, results

    def unshare(self):
        begin = time.perf_counter()
        self.contender.unshare()
        took = time.perf_counter() - begin
        gc.collect()
        return took

    def close(self):
        self.X = None
        self.contender.close()

    @staticmethod
    def _begin():
        gc.collect()  # else some call or other would pay for all
        return time.perf_counter()


def main():
    contestant = Contestant(sys.argv[1])
    connection = Connection(int(sys.argv[2]))
    while True:
        try:
            command, *arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = "done", getattr(contestant, command)(*arguments)
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the other side wants to know
            traceback.print_exc()
            answer = "failed", traceback.format_exception_only(error)[-1].strip()
        connection.send(answer)


if __name__ == "__main__":
    main()
