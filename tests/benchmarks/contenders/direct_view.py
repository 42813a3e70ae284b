"""ipyparallel's ``DirectView.map`` over the indexes of a matrix that was pushed once."""

from __future__ import annotations

import tempfile

import ipyparallel

from tests.benchmarks.workloads import count_of


@ipyparallel.interactive  # finds `fun` and `X` among the variables of the engine
def column(item):
    return fun(X[:, item])  # noqa: F821


@ipyparallel.interactive
def row(item):
    return fun(X[item])  # noqa: F821


class Contender:
    def __init__(self, workers):
        self.workers = workers
        self.directory = tempfile.TemporaryDirectory()
        self.cluster = ipyparallel.Cluster(
            n=workers,
            profile_dir=self.directory.name,
            log_level=40,
            send_engines_connection_env=True,
        )
        self.client = self.cluster.start_and_connect_sync()
        self.view = self.client[:]

    def share(self, X):
        self.X = X
        # Pushed as it is, an F-ordered matrix would be C-ordered on the engines.
        if X.flags.c_contiguous:
            self.view.push({"X": X}, block=True)
        else:
            self.view.push({"X": X.T}, block=True)
            self.view.execute("X = X.T", block=True)

    def apply(self, margin, fun):
        self.view.push({"fun": fun}, block=True)
        return self.mapped(row if margin == "rows" else column, count_of(self.X, margin))

    def mapped(self, function, count):
        return self.view.map_sync(function, range(count))

    def unshare(self):
        self.view.execute("del X", block=True)
        self.client.purge_everything()
        del self.X

    def close(self):
        self.client.close()
        self.cluster.stop_cluster_sync()
        self.directory.cleanup()
