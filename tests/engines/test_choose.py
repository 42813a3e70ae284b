"""Which engines a call uses."""

from __future__ import annotations

import os

import ipyparallel as ipp
import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.engines import _choose
from memshare_jupyter.engines.local import _cluster

X = np.arange(6.0).reshape(2, 3)


def pid_of_engine(_row):
    return os.getpid()


@pytest.fixture(scope="module")
def local():
    cluster = ms.local_cluster(2, quiet=True)
    yield cluster
    cluster.stop()


def test_a_client_or_cluster_means_all_its_engines_and_a_view_those_it_has(local):
    pids = local.view().apply_sync(os.getpid)
    many = np.zeros((200, 1))
    assert set(ms.memapply(many, 1, pid_of_engine, cluster=local)) <= set(pids)
    assert set(ms.memapply(many, 1, pid_of_engine, cluster=local.client)) <= set(pids)
    only = local.client[local.client.ids[1]]
    assert set(ms.memapply(many, 1, pid_of_engine, cluster=only)) == {pids[1]}
    assert set(ms.memapply(many, 1, pid_of_engine, cluster=local.client[:1])) == {pids[0]}


def test_max_cores_limits_the_engines(local):
    pids = ms.memapply(np.zeros((200, 1)), 1, pid_of_engine, cluster=local.client, max_cores=1)
    assert len(set(pids)) == 1


@pytest.mark.parametrize("number", [True, 0, 1.0, "1"])
def test_max_cores_is_a_whole_number_of_any_kind(local, number):
    assert ms.memapply(X, 1, len, cluster=local, max_cores=np.int64(1)) == [3, 3]
    with pytest.raises(ValueError, match="a whole number of at least 1, not"):
        ms.memapply(X, 1, len, cluster=local, max_cores=number)


def test_no_more_engines_are_started_for_a_call_than_there_are_cores(local, monkeypatch):
    monkeypatch.setattr(_cluster, "usable_cores", lambda: 2)
    ms.memapply(np.zeros((400, 1)), 1, pid_of_engine, max_cores=100)
    assert local.n == 2


def test_an_engine_more_for_one_call_is_not_used_by_the_next(local, monkeypatch):
    monkeypatch.setattr(_cluster, "usable_cores", lambda: 3)
    many = np.zeros((400, 1))
    ms.memapply(many, 1, pid_of_engine, max_cores=3)
    assert local.n == 3
    run = ms.memapply(many, 1, pid_of_engine, block=False)
    run.result(60)
    assert len(run.engines) == 2


def test_with_no_cluster_a_local_one_is_started_kept_and_reused(local):
    first = set(ms.memapply(X, 1, pid_of_engine))
    second = set(ms.memapply(X, 1, pid_of_engine, max_cores=2))
    assert first | second <= set(local.view().apply_sync(os.getpid))
    assert os.getpid() not in first


def test_a_view_without_engines_is_an_error_that_says_what_to_do(local):
    with pytest.raises(ms.ClusterError, match="no engines; start some"):
        ms.memapply(X, 1, len, cluster=local.client.direct_view(targets=[]))


def test_a_load_balanced_view_is_refused_with_the_remedy(local):
    with pytest.raises(TypeError, match=r"pass the client, or client\[:\]"):
        ms.memapply(X, 1, len, cluster=local.client.load_balanced_view())


def test_gc_lets_go_of_a_namespace_here_and_on_engines(local):
    view = local.view(2)
    ms.register_variables("study", {"X": X})
    views = ms.retrieve_views("study", "X")
    view.push({"X": views["X"]}, block=True)
    assert ms.retrieve_metadata("study", "X")["X"].views == 3
    del views
    view.execute("del X", block=True)
    assert ms.memshare_gc("study") == {"here": ["study.X"]}
    assert ms.snapshot().pages == ()


def test_gc_says_which_holder_let_go_of_what(local):
    view = local.view(2)
    ms.register_variables("study", {"X": X})
    view.apply_sync(lambda: __import__("memshare_jupyter").retrieve_views("study", "X") and None)
    assert ms.retrieve_metadata("study", "X")["X"].views == 2
    engines = {f"engine {i}": ["study.X"] for i in view.targets}
    assert ms.memshare_gc("study", view) == {"here": ["study.X"], **engines}
    assert ms.snapshot().pages == ()


@pytest.mark.slow
def test_an_ipyparallel_cluster_can_be_passed_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    with ipp.Cluster(n=1, log_level=40) as client:
        client.wait_for_engines(1, timeout=60)
        assert ms.memapply(X, 1, np.sum, cluster=client.cluster) == [3.0, 12.0]
        assert ms.memapply(X, 1, np.sum, cluster=client) == [3.0, 12.0]


def test_an_engine_that_only_got_a_view_is_called_by_its_number():
    cluster = ms.local_cluster(2, quiet=True)
    view = cluster.view(1)
    with ms.Namespace("study") as study:
        study["X"] = X
        view.push({"X": study["X"]}, block=True)
        (page,) = ms.snapshot().pages
        assert page.holders[1].label == f"engine {view.targets[0]}"
        view.execute("del X", block=True)
    cluster.stop()


def test_what_a_process_chose_is_for_calls_of_that_process_alone():
    cluster = ms.local_cluster(2, quiet=True)
    view = cluster.view(1)
    _choose.use(view)
    try:
        run = ms.memapply(X, 1, len, block=False)
        assert (run.result(60), run.engines) == ([3, 3], tuple(view.targets))
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:  # a client's sockets are the parent's
            os.write(writer, b"1" if _choose.in_use(None) is None else b"0")
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(reader, 1) == b"1"
        os.close(reader)
        os.close(writer)
    finally:
        _choose.use(None)
        cluster.stop()
    assert _choose.in_use(None) is None
