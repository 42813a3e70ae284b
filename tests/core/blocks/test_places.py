"""Directories of pages: whose they are, and what is removed from them, and when."""

from __future__ import annotations

import fcntl
import os
import time
import uuid as uuids

import pytest

from memshare_jupyter.core import _directories
from memshare_jupyter.core.blocks import _file, _places
from memshare_jupyter.errors import RegistryCorruptError


@pytest.fixture
def nothing_chosen(tmp_path, monkeypatch):
    shared = tmp_path / "shm"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(_directories, "SHARED", shared)
    monkeypatch.delenv("MEMSHARE_DIR", raising=False)
    return shared


@pytest.fixture
def places(nothing_chosen):
    return _places.Places(_file.reclaim)


@pytest.fixture
def place(tmp_path):
    made = tmp_path / "pages"
    made.mkdir(mode=0o700)
    return made


def file_in(place):
    uuid = uuids.uuid4()
    path = place / f"{uuid.hex}.page"
    path.touch()
    return path, uuid.bytes


# --- which directory ---------------------------------------------------------------------


def test_a_squatted_name_is_passed_over(nothing_chosen):
    default = nothing_chosen / f"memshare-{os.getuid()}-pages"
    assert _places.page_directory() == default
    default.touch()
    found = _places.page_directory()
    assert found == nothing_chosen / f"{default.name}-1"
    _places.make_page_directory(found)
    _places.remove_if_default(found)
    assert not found.exists()


def test_a_directory_that_somebody_chose_is_not_removed(place):
    _places.remove_if_default(place)
    assert place.exists()


def test_where_nothing_can_be_written_the_variable_is_named(nothing_chosen, monkeypatch):
    nothing_chosen.rmdir()

    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(_directories, "for_temporary_files", nowhere)
    with pytest.raises(RegistryCorruptError, match="set MEMSHARE_DIR to one of your own"):
        _places.page_directory()


def test_a_directory_over_the_network_is_refused(place, monkeypatch):
    # Locks that bind one host only would let another host's sweeper remove pages in use.
    monkeypatch.setattr(_directories, "file_system", lambda path: "nfs4")
    _places._kind.cache_clear()
    with pytest.raises(RegistryCorruptError, match="nfs4 file system, whose locks may bind one"):
        _places.make_page_directory(place)
    monkeypatch.undo()
    _places._kind.cache_clear()
    _places.make_page_directory(place)


# --- sweeping ----------------------------------------------------------------------------


def test_what_nobody_holds_is_removed_and_what_is_listed_is_not(places, place):
    (dead, _), (listed, uuid) = file_in(place), file_in(place)
    places.sweep([(str(place), uuid)])
    assert (dead.exists(), listed.exists()) == (False, True)
    places.sweep([])  # it is listed no more, and the directory did not change
    assert not listed.exists()


def test_what_was_held_goes_when_it_is_let_go_although_the_directory_did_not_change(places, place):
    path, _ = file_in(place)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        places.use(str(place))
        places.sweep([])
        assert path.exists()
    places.sweep([])
    assert not path.exists()


def test_what_comes_later_is_seen(places, place):
    places.use(str(place))
    time.sleep(2 * _places._TICK_NS / 1e9)
    places.sweep([])
    path, _ = file_in(place)
    time.sleep(0.05)
    places.sweep([])
    assert not path.exists()


def test_two_files_within_one_tick_of_the_clock_are_both_seen(places, place, eventually):
    places.use(str(place))
    for _ in range(20):
        first, _ = file_in(place)
        places.sweep([])
        second, _ = file_in(place)

        def both_gone(first=first, second=second):
            places.sweep([])
            return not first.exists() and not second.exists()

        eventually(both_gone)


def test_a_directory_is_listed_only_when_it_changed(places, place, monkeypatch):
    places.use(str(place))
    time.sleep(2 * _places._TICK_NS / 1e9)
    places.sweep([])
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    for _ in range(100):
        places.sweep([])
    assert str(place) not in listed
    (place / "new").touch()
    time.sleep(0.05)
    places.sweep([])
    assert str(place) in listed


def test_a_large_directory_that_changes_all_the_time_is_listed_seldom(places, place, monkeypatch):
    scandir, listed = os.scandir, []

    def slow(path):
        listed.append(path)
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass
        return scandir(path)

    monkeypatch.setattr(os, "scandir", slow)
    places.use(str(place))
    for number in range(50):
        (place / f"log{number}").touch()
        places.sweep([])
    assert listed.count(str(place)) == 1


def test_a_directory_on_another_host_is_left_to_those_who_use_it(places, place, monkeypatch):
    looked = []
    stat = os.stat
    monkeypatch.setattr(_directories, "over_network", lambda path: path.startswith("/mnt/far"))
    monkeypatch.setattr(os, "stat", lambda path, **kw: looked.append(str(path)) or stat(path, **kw))
    places.sweep([("/mnt/far/pages", bytes(16)), (str(place), bytes(16))])
    places.sweep([("/mnt/far/pages", bytes(16))])
    assert str(place) in looked
    assert [path for path in looked if path.startswith("/mnt")] == []


def test_a_damaged_list_may_name_anything(places):
    places.sweep([("\0", bytes(16)), ("/proc/self/mem", bytes(16)), ("relative", bytes(16))])


def test_very_many_files_of_others_are_not_listed_at_each_look(places, place, monkeypatch):
    for number in range(2_000):
        os.close(os.open(place / f"f{number}", os.O_CREAT | os.O_WRONLY))
    places.use(str(place))
    time.sleep(2 * _places._TICK_NS / 1e9)
    places._known[str(place)]._not_before_s = 0.0
    places.sweep([])
    listings = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listings.append(path) or scandir(path))
    for _ in range(100):
        places.sweep([])
    assert str(place) not in listings  # of 20,000 that takes 10 ms
    (place / "another").touch()
    places._known[str(place)]._not_before_s = 0.0
    places.sweep([])
    assert str(place) in listings
