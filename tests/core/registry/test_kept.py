"""Views that somebody keeps for later: mapped, listed as what they are, and in nobody's way."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _endings, registry

X = np.arange(200_000.0)


@pytest.fixture
def told(monkeypatch):
    """What was told to those that keep views."""
    told = []
    monkeypatch.setattr(_endings, "_hooks", [told.append])
    return told


def uuid_of(name="n.x"):
    (page,) = (page for page in registry().snapshot().pages if page.name == name)
    return bytes.fromhex(page.uuid)


def roles(name="n.x"):
    return [
        h.role for page in registry().snapshot().pages if page.name == name for h in page.holders
    ]


def keep(uuid):
    """Have a view of a page, and keep it when it is not used any more."""
    view = ms.retrieve_views("n", "x")["x"]
    kept = registry().keep(uuid)
    assert ms.release_views("n", "x") == ["n.x"]
    del view
    assert registry().rest([uuid]) == []
    return kept


@pytest.fixture
def owner(child):
    """Another process, which owns a page."""
    return child("ms.register_variables('n', {'x': np.arange(200_000.)})")


def test_a_kept_view_is_listed_as_that_and_is_no_view(owner, listed, truth):
    kept = keep(uuid_of())
    assert roles() == ["owner", "kept"]
    assert ms.snapshot().pages[0].views == 0
    assert ms.view_list() == []
    with pytest.raises(ms.PageNotFoundError, match=r"no view of n\.x \(it has: none\)"):
        ms.release_views("n", "x")
    assert listed() == truth()
    del kept
    assert roles() == ["owner"]
    assert listed() == truth()


def test_a_kept_view_is_used_again_without_mapping_it_anew(owner):
    kept = keep(uuid_of())
    address = np.frombuffer(kept, np.uint8).__array_interface__["data"][0]
    view = ms.retrieve_views("n", "x")["x"]
    assert view.__array_interface__["data"][0] == address
    assert view[5] == 5.0
    assert roles() == ["owner", "view"]
    assert ms.view_list() == ["n.x"]
    ms.release_views("n", "x")
    del view
    registry().rest([uuid_of()])
    assert roles() == ["owner", "kept"]
    del kept
    assert roles() == ["owner"]


def test_arrays_that_are_left_make_it_a_view_until_they_end(owner):
    uuid = uuid_of()
    view = ms.retrieve_views("n", "x")["x"]
    kept = registry().keep(uuid)
    part = np.asarray(view)[3:5]
    assert ms.release_views("n", "x") == ["n.x"]
    del view
    registry().rest([uuid])
    assert roles() == ["owner", "view"]
    assert ms.view_list() == ["n.x"]
    del kept
    assert roles() == ["owner", "view"]
    assert part.tolist() == [3.0, 4.0]
    del part
    assert roles() == ["owner"]


def test_whoever_keeps_it_sees_that_it_was_released(owner):
    uuid = uuid_of()
    kept = keep(uuid)
    assert registry().rest([uuid], look=True) == []
    owner.run("ms.release_variables('n', 'x')")
    assert registry().rest([uuid]) == [uuid]
    assert registry().keep(uuid) is None
    del kept
    assert registry().snapshot().pages == ()


def test_whoever_keeps_it_sees_that_its_owner_has_died(owner):
    uuid = uuid_of()
    kept = keep(uuid)
    owner.kill()
    assert registry().rest([uuid], look=True) == [uuid]
    assert roles() == ["kept"]
    with pytest.raises(ms.PageNotFoundError):  # nobody has it, so nobody can adopt it
        ms.adopt("n", "x")
    del kept
    assert registry().snapshot().pages == ()


def test_the_same_name_has_its_new_value_at_once(owner):
    uuid = uuid_of()
    kept = keep(uuid)
    owner.run("ms.register_variables('n', {'x': np.zeros(200_000)})")
    assert ms.retrieve_views("n", "x")["x"].sum() == 0
    ms.release_views("n", "x")
    assert registry().rest([uuid]) == [uuid]
    del kept


def test_release_and_registration_tell_those_that_keep_views(told):
    ms.register_variables("n", {"x": X, "y": X})
    x, y = uuid_of("n.x"), uuid_of("n.y")
    ms.register_variables("n", {"x": X[:5]})
    assert told == [{x}]
    ms.release_variables("n", ["x", "y"])
    assert y in told[-1]
    assert len(told) == 2


def test_nobody_is_told_in_the_middle_of_a_turn(monkeypatch):
    from memshare_jupyter.core.registry._turn import LOCK

    inside = []
    monkeypatch.setattr(_endings, "_hooks", [lambda _: inside.append(LOCK._is_owned())])
    ms.register_variables("n", {"x": X})
    ms.release_variables("n", "x")
    ms.register_variables("n", {"x": X})
    registry().gc("n")
    assert inside == [False, False]


def test_memory_is_written_anew_when_those_that_keep_it_let_go(monkeypatch, child):
    ms.register_variables("n", {"x": X})
    uuid = uuid_of()
    other = child(
        "from memshare_jupyter.core.registry import registry\n"
        "x = ms.retrieve_views('n', 'x')\n"
        f"kept = registry().keep({uuid!r})\n"
        "ms.release_views('n', 'x'); del x\n"
        f"registry().rest([{uuid!r}])"
    )
    assert roles() == ["owner", "kept"]
    monkeypatch.setattr(_endings, "_hooks", [lambda _: other.run("kept = None")])
    ms.register_variables("n", {"x": X + 1})
    assert uuid_of() == uuid
    assert roles() == ["owner"]
    assert ms.retrieve_views("n", "x")["x"][0] == 1.0
    ms.release_views("n", "x")
    ms.release_variables("n", "x")


def test_letting_everything_go_tells_those_that_keep_views(owner, told):
    kept = keep(uuid_of())
    assert registry().gc("n") == ([], [])
    assert told == [{uuid_of()}]
    del kept


def test_a_forked_child_does_not_list_what_its_parent_keeps(owner, listed, truth):
    uuid = uuid_of()
    kept = keep(uuid)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            names = ms.view_list(), sum(r != "owner" for r in roles())
            kept = None
            gc.collect()
            maps = Path("/proc/self/maps").read_text().count(f"memfd:memshare:{uuid.hex()}")
            os.write(write, repr((names, maps)).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 1000).decode() == "(([], 1), 0)"  # the parent's, as before
    os.close(read)
    os.close(write)
    assert roles() == ["owner", "kept"]
    del kept
    assert listed() == truth()


def test_a_forked_child_lists_what_it_uses_of_it(owner):
    uuid = uuid_of()
    view = ms.retrieve_views("n", "x")["x"]
    kept = registry().keep(uuid)
    ms.release_views("n", "x")
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, repr((ms.view_list(), float(view[7]))).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 1000).decode() == "(['n.x'], 7.0)"
    os.close(read)
    os.close(write)
    del view, kept


def test_what_ends_in_several_threads_is_told_of_each_once(monkeypatch):
    told = []
    monkeypatch.setattr(_endings, "_hooks", [told.extend])
    endings, uuids = _endings.Endings(), [os.urandom(16) for _ in range(2000)]

    def end(some):
        for uuid in some:
            endings.append(uuid)
            endings.tell()

    threads = [threading.Thread(target=end, args=(uuids[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == sorted(uuids)
