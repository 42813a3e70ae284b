"""Pages that engines keep mapped from one call to the next, and when they let go of them."""

from __future__ import annotations

import contextlib
import gc
import os
import time

import ipykernel
import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.engines import _lines
from memshare_jupyter.worker import MOST_KEPT

X = np.arange(200_000.0).reshape(400, 500)


@pytest.fixture(scope="module")
def cluster():
    if ipykernel.version_info < (7,):
        pytest.skip("the kernel has no lock that a line could wait for: calls are messages")
    cluster = ms.local_cluster(2, quiet=True)
    yield cluster
    cluster.stop()


@pytest.fixture
def view(cluster, eventually):
    """Two engines, each of which has a line and keeps nothing."""
    view = cluster.view(2)

    def have_lines():
        assert ms.memapply(X[:, :8], "cols", total, cluster=view) == sums(X[:, :8])
        return all(_lines.lines_of(cluster.client)._free.get(n) for n in view.targets)

    eventually(have_lines)
    yield view
    for lines in _lines._of_clients.values():  # what was kept goes with the lines
        lines.close()
    eventually(lambda: view.apply_sync(kept) == [[], []])


@pytest.fixture
def rna():
    with ms.Namespace("rna") as namespace:
        namespace["X"] = X
        yield namespace


def total(column):
    return float(column.sum())


def sums(matrix):
    return [float(column.sum()) for column in matrix.T]


def kept():
    """What an engine keeps, and where."""
    import numpy as np

    from memshare_jupyter.worker import _kept

    return [
        (uuid, np.frombuffer(one.mapping, np.uint8).__array_interface__["data"][0])
        for uuid, one in _kept._kept.items()
    ]


def roles(name="rna.X"):
    return [h.role for p in ms.snapshot().pages if p.name == name for h in p.holders]


def uuid_of(name="rna.X"):
    (page,) = (page for page in ms.snapshot().pages if page.name == name)
    return bytes.fromhex(page.uuid)


def test_a_page_stays_mapped_from_call_to_call(view, rna):
    ms.memapply("rna.X", "cols", total, cluster=view)
    before = view.apply_sync(kept)
    assert [uuid for ((uuid, _),) in before] == [uuid_of()] * 2
    assert roles() == ["owner", "kept", "kept"]
    assert ms.memapply("rna.X", "cols", total, cluster=view) == sums(X)
    assert view.apply_sync(kept) == before


def test_a_view_counts_as_its_page_and_so_do_vars(view, rna):
    rna["y"] = X[0]
    found = ms.memapply(
        rna["X"], "rows", lambda row, y: float((row - y).sum()), cluster=view, vars={"y": rna["y"]}
    )
    assert found == [float((row - X[0]).sum()) for row in X]
    assert roles("rna.y").count("kept") == 2
    assert roles("rna.X").count("kept") == 2
    gc.collect()


def test_what_is_registered_for_one_call_is_not_kept(view):
    ms.memapply(X, "cols", total, cluster=view)
    assert view.apply_sync(kept) == [[], []]
    assert ms.snapshot().pages == ()


def test_memory_is_back_when_its_owner_releases_it(view):
    ms.register_variables("rna", {"X": X})
    ms.memapply("rna.X", "cols", total, cluster=view)
    sent = len(view.client.history)
    ms.release_variables("rna", "X")
    deadline = time.monotonic() + 30
    while ms.snapshot().pages and time.monotonic() < deadline:
        time.sleep(0.005)
    assert ms.snapshot().pages == ()
    assert len(view.client.history) == sent
    assert view.apply_sync(kept) == [[], []]


def test_a_name_that_is_registered_again_has_its_new_value(view, rna):
    for number in range(3):
        rna["X"] = X + number
        assert ms.memapply("rna.X", "cols", total, cluster=view) == sums(X + number)
    rna["X"] = X[:7, :9] * 2
    assert ms.memapply("rna.X", "cols", total, cluster=view) == sums(X[:7, :9] * 2)
    assert roles().count("kept") == 2


def test_memory_is_written_anew_although_engines_kept_it(view, rna, eventually):
    def written_anew():  # if an idle engine is not given its turn in time it is new memory
        ms.memapply("rna.X", "cols", total, cluster=view)
        before = uuid_of()
        rna["X"] = X * 2
        return uuid_of() == before

    eventually(written_anew)
    assert ms.memapply("rna.X", "cols", total, cluster=view) == sums(X * 2)


def test_a_page_of_another_process_is_let_go_when_that_releases_it(view, child, eventually):
    owner = child("ms.register_variables('rna', {'X': np.ones((3, 4))})")
    assert ms.memapply("rna.X", "cols", total, cluster=view) == [3.0] * 4
    assert roles() == ["owner", "kept", "kept"]
    owner.run("ms.register_variables('rna', {'X': np.zeros((3, 4))})")
    assert ms.memapply("rna.X", "cols", total, cluster=view) == [0.0] * 4
    owner.run("ms.release_variables('rna', 'X')")
    eventually(lambda: ms.snapshot().pages == ())


def test_a_page_of_another_process_ends_with_that(view, child, eventually):
    owner = child("ms.register_variables('rna', {'X': np.ones((3, 4))})")
    assert ms.memapply("rna.X", "cols", total, cluster=view) == [3.0] * 4
    owner.kill()
    eventually(lambda: ms.snapshot().pages == ())


def test_an_engine_lets_go_of_what_it_owns_itself(view):
    engine = view.client[view.targets[0]]
    engine.apply_sync(
        lambda x: __import__("memshare_jupyter").register_variables("rna", x), {"X": X}
    )
    assert ms.memapply("rna.X", "cols", total, cluster=engine) == sums(X)
    assert roles() == ["owner", "kept"]
    engine.apply_sync(lambda: __import__("memshare_jupyter").release_variables("rna", "X"))
    assert ms.snapshot().pages == ()


def test_what_the_function_holds_on_to_is_a_view_and_not_kept(view, rna, eventually):
    def stow(row):
        from IPython import get_ipython

        get_ipython().user_ns["stowed"] = row
        return time.sleep(0.001)  # so that both engines have a share

    ms.memapply("rna.X", "rows", stow, cluster=view)  # columns may be gathered
    assert roles() == ["owner", "view", "view"]
    view.execute("del stowed", block=True)
    eventually(lambda: roles() == ["owner", "kept", "kept"])


def test_only_what_was_asked_for_lately_is_kept(view):
    with ms.Namespace("many") as many:
        for number in range(MOST_KEPT + 3):
            many[f"x{number}"] = X[:4, :4] + number
            ms.memapply(f"many.x{number}", "cols", total, cluster=view)
        last = [uuid_of(f"many.x{number}") for number in range(3, MOST_KEPT + 3)]
        assert [[uuid for uuid, _ in one] for one in view.apply_sync(kept)] == [last] * 2
    assert view.apply_sync(kept) == [[], []]


def test_what_nobody_asks_for_is_let_go(view, rna, eventually):
    ms.memapply("rna.X", "cols", total, cluster=view)

    def hurry(idle_s):
        from memshare_jupyter.worker import _kept

        before, _kept._IDLE_S = _kept._IDLE_S, idle_s
        return before

    (before, _) = view.apply_sync(hurry, 0.0)
    eventually(lambda: roles() == ["owner"])
    view.apply_sync(hurry, before)


def test_what_was_kept_ends_with_the_line(view, rna, eventually):
    ms.memapply("rna.X", "cols", total, cluster=view)
    _lines.lines_of(view.client).close()
    eventually(lambda: roles() == ["owner"])


def test_letting_a_namespace_go_on_engines_lets_go_of_what_they_keep(view, rna):
    ms.memapply("rna.X", "cols", total, cluster=view)
    assert ms.memshare_gc("other", view)["engine 0"] == []
    assert roles() == ["owner", "kept", "kept"]
    assert set(map(tuple, ms.memshare_gc("rna", view).values())) == {("rna.X",), ()}
    assert ms.snapshot().pages == ()


def test_what_an_engine_forks_keeps_nothing(view, rna, eventually):
    ms.memapply("rna.X", "cols", total, cluster=view)

    def fork():
        import os
        import signal
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from Python 3.12 on, of threads
            pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            signal.pause()
            os._exit(0)
        return pid

    pids = view.apply_sync(fork)
    try:
        uuid = uuid_of().hex()
        for pid in pids:
            eventually(lambda pid=pid: uuid not in _open_and_mapped(pid))
        holders = [h for page in ms.snapshot().pages for h in page.holders]
        assert not {h.pid for h in holders} & {*pids}
        rna["X"] = X + 1
        assert ms.memapply("rna.X", "cols", total, cluster=view) == sums(X + 1)
        del rna["X"]
        eventually(lambda: ms.snapshot().pages == ())
    finally:
        for pid in pids:
            os.kill(pid, 9)


def _open_and_mapped(pid):
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed at this moment
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    with open(f"/proc/{pid}/maps") as maps:
        return " ".join([maps.read(), *links])
