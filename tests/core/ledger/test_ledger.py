"""The ledger: what readers make of other sessions' files, also damaged ones."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import memshare_jupyter as ms
from memshare_jupyter.core import _proc
from memshare_jupyter.core._locks import is_locked
from memshare_jupyter.core.ledger import _runtime as directories
from memshare_jupyter.core.ledger import _session as session
from memshare_jupyter.core.ledger import _slot as slots
from memshare_jupyter.core.ledger._ledger import Ledger
from memshare_jupyter.core.ledger._session import HEADER_BYTES, RING, Who
from memshare_jupyter.core.ledger._slot import (
    PAGE,
    SLOT_BYTES,
    VIEW,
    Entry,
    is_whole,
    unpack,
)
from memshare_jupyter.core.ledger._table import Table
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.core.values import unpack_about
from memshare_jupyter.core.values._about import About

text = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=32)
entries = st.builds(
    Entry,
    kind=st.sampled_from([PAGE, VIEW]),
    name=st.builds(PageName, text, text),
    uuid=st.binary(min_size=16, max_size=16),
    fd=st.integers(0, 2**31 - 1),
    size_bytes=st.integers(0, 2**63),
    writable=st.booleans(),
    created=st.floats(0, 1e12),
    since=st.floats(0, 1e12),
    owner_pid=st.integers(1, 2**22),
    owner_token=st.binary(min_size=16, max_size=16),
    about=st.binary(max_size=slots._ABOUT_BYTES // 2),
    backend=st.sampled_from(["memfd", "file"]),
    place=st.text(st.characters(exclude_categories=["C"]), max_size=16),
)


def entry(number=0, name="x"):
    uuid = number.to_bytes(16, "little")
    return Entry(PAGE, PageName("n", name), uuid, 3, 8, False, 1.0, 1.0, 7, b"t" * 16, b"{}")


# --- slots -------------------------------------------------------------------------------


@given(entries)
def test_an_entry_reads_back_as_it_was_written(entry):
    slot = entry.pack()
    assert len(slot) == SLOT_BYTES
    assert unpack(slot) == entry


def test_the_longest_names_and_summary_fit_a_slot():
    name = PageName("n" * 128, "v" * 128)
    longest = entry()._replace(name=name, about=b"s" * slots._ABOUT_BYTES)
    assert len(longest.pack()) == SLOT_BYTES
    assert unpack(longest.pack()) == longest


def test_an_empty_slot_is_whole_and_no_entry():
    assert is_whole(bytes(SLOT_BYTES))
    table = Table()
    table.put(0, entry().pack())
    table.put(0, None)
    assert table.entry(0) is None
    assert table.slots == {}


@given(entries, st.integers(0, SLOT_BYTES - 1), st.integers(1, 255))
def test_any_damaged_byte_of_a_slot_is_noticed(entry, at, change):
    slot = bytearray(entry.pack())
    slot[at] ^= change
    assert not is_whole(bytes(slot))


@given(entries, entries, st.integers(1, SLOT_BYTES - 1))
def test_a_half_written_slot_is_noticed(old, new, at):
    torn = new.pack()[:at] + old.pack()[at:]
    if torn not in (old.pack(), new.pack()):
        assert not is_whole(torn)


@pytest.mark.parametrize(
    "dtype", [np.dtype([(f"field number {i}", "f8") for i in range(40)]), np.dtype("f8")]
)
def test_a_summary_never_outgrows_its_slot(dtype):
    room = slots.about_room(PageName("n" * 128, "v" * 128))
    packed = About("array", str(dtype), "C", (10**9,) * 4).pack(room)
    assert len(packed) <= room
    shown = unpack_about(packed)
    assert (shown.kind, shown.shape) == ("array", (10**9,) * 4)
    assert str(dtype).startswith(shown.dtype.removesuffix("..."))


# --- reading others ----------------------------------------------------------------------


@pytest.fixture
def dead():
    """The files of pages that the reader is told of when it finds a session dead."""
    return []


@pytest.fixture
def writer(child, tmp_path, dead):
    """Another process with a session file in a directory of its own, and a reader of it."""
    one = child(
        f"from memshare_jupyter.core.ledger._slot import Entry, PAGE\n"
        f"from memshare_jupyter.core.names import PageName\n"
        f"mine = ledger.Ledger(Path({str(tmp_path / 'm')!r}), print, 'other')\n"
        "mine.relist()\n"
        "def entry(number, name='x'):\n"
        " uuid = number.to_bytes(16, 'little')\n"
        " name = PageName('n', name)\n"
        " at = (7, b't' * 16, b'{}', 'file', '/nowhere')\n"
        " return Entry(PAGE, name, uuid, 3, 8, False, 1.0, 1.0, *at)\n"
        "def put(number):\n"
        " made = entry(number)\n"
        " return mine.publish([made])[0], made\n"
    )
    reader = Ledger(tmp_path / "m", lambda where, token, files: dead.extend(files))
    yield one, reader
    reader.end()


def numbers(reader):
    return sorted(
        int.from_bytes(found.uuid, "little")
        for s in reader.sessions()
        if s is not reader.mine
        for found in map(s.table.entry, s.table.slots)
    )


@pytest.mark.parametrize("changes", [0, 1, RING - 1, RING, RING + 1, 3 * RING, 500])
def test_a_reader_is_right_after_any_number_of_changes(writer, changes):
    one, reader = writer
    one.run("slots = [put(i) for i in range(10)]")
    assert numbers(reader) == list(range(10))
    one.run(
        f"for i in range({changes}):\n"
        "    if i % 3 == 2: mine.withdraw(*slots.pop(0))\n"
        "    else: slots.append(put(100 + i))"
    )
    expected = [*range(10)]
    for i in range(changes):
        if i % 3 == 2:
            expected.pop(0)
        else:
            expected.append(100 + i)
    assert numbers(reader) == sorted(expected)


@pytest.mark.parametrize("count", [2, RING, RING + 1, 300])
def test_many_are_listed_at_once_wherever_there_are_free_places(writer, count):
    one, reader = writer
    one.run("slots = [put(i) for i in range(20)]")
    one.run("for i in (3, 4, 5, 11, 17): mine.withdraw(*slots[i])")
    kept = [i for i in range(20) if i not in (3, 4, 5, 11, 17)]
    assert numbers(reader) == kept
    many = f"[entry(100 + i) for i in range({count})]"
    taken = one.eval(f"mine.publish({many})")
    assert len(set(taken)) == count
    assert len({3, 4, 5, 11, 17} & set(taken)) == min(count, 5)
    assert not set(kept) & set(taken)
    assert numbers(reader) == [*kept, *range(100, 100 + count)]
    assert [one.eval(f"mine.mine.table.entry({i}).uuid[0]") for i in taken[:2]] == [100, 101]


def test_to_list_many_neighbours_takes_two_writes(writer):
    one, reader = writer
    one.run("written = []; pwrite = os.pwrite")
    one.run("os.pwrite = lambda *all: (written.append(all), pwrite(*all))[1]")
    one.run("mine.publish([entry(i) for i in range(100)])")
    assert one.eval("len(written)") == 2
    assert numbers(reader) == list(range(100))


def test_a_reader_is_right_after_a_rewrite(writer):
    one, reader = writer
    one.run("slots = [put(i) for i in range(10)]")
    assert numbers(reader) == list(range(10))
    one.run("mine.rewrite({3: entry(33), 5: entry(5)})")
    assert numbers(reader) == [5, 33]
    one.run("put(77)")
    assert numbers(reader) == [5, 33, 77]


def test_a_reader_sees_a_file_that_was_put_back_at_its_next_look(writer):
    one, reader = writer
    one.run("put(1)")
    assert numbers(reader) == [1]
    one.run("os.unlink(mine.path); assert not mine.is_listed()")
    one.run("mine.relist(); put(2)")
    assert numbers(reader) == [1, 2]


def test_a_change_in_the_tick_of_a_look_is_seen_however_long_the_look_takes(writer, monkeypatch):
    one, reader = writer
    one.run("put(1)")
    now_ns, late_ns, listdir = time.time_ns(), [0], os.listdir

    def slow_listdir(path):
        found = listdir(path)
        if not late_ns[0]:
            one.run("os.unlink(mine.path); mine.relist(); put(2)")
            os.utime(path, ns=(now_ns, now_ns))  # in the tick of the change before
            late_ns[0] = 10**9
        return found

    monkeypatch.setattr(time, "time_ns", lambda: now_ns + late_ns[0])
    monkeypatch.setattr(os, "listdir", slow_listdir)
    os.utime(reader.directory, ns=(now_ns, now_ns))
    numbers(reader)
    assert numbers(reader) == [1, 2]


def test_a_reader_sees_a_new_label(writer):
    one, reader = writer
    assert [s.who.label for s in reader.sessions()] == ["", "other"]
    one.run("mine.relabel('engine 3'); put(1)")
    assert [s.who.label for s in reader.sessions()] == ["", "engine 3"]


def test_a_reader_reads_only_what_changed(writer, monkeypatch):
    one, reader = writer
    one.run("slots = [put(i) for i in range(500)]")
    numbers(reader)
    sizes = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: sizes.append(n) or pread(fd, n, at))
    numbers(reader)
    assert sizes == [HEADER_BYTES]
    one.run("put(1000)")
    numbers(reader)
    assert sum(sizes) == 2 * HEADER_BYTES + SLOT_BYTES


def test_a_dead_session_is_removed_by_whoever_looks(writer, dead):
    one, reader = writer
    one.run("put(1)")
    path = one.eval("str(mine.path)")
    assert numbers(reader) == [1]
    one.kill()
    assert os.path.exists(path)
    assert numbers(reader) == []
    assert not os.path.exists(path)
    assert dead == [("/nowhere", entry(1).uuid)]


def test_a_dead_session_never_read_before_is_removed_too(writer, dead):
    one, reader = writer
    one.run("put(1)")
    path = one.eval("str(mine.path)")
    one.kill()
    assert numbers(reader) == []
    assert not os.path.exists(path)
    assert dead == [("/nowhere", entry(1).uuid)]


# --- liveness fails closed ---------------------------------------------------------------


def lock_dropped(one):
    """Drop the lock as a backup, a search or a copy of the directory would."""
    one.run("os.close(os.open(mine.path, os.O_RDONLY))")
    path = one.eval("str(mine.path)")
    fd = os.open(path, os.O_RDONLY)
    assert not is_locked(fd)
    os.close(fd)
    return path


def test_a_session_without_its_lock_counts_while_its_process_lives(writer, dead):
    one, reader = writer
    one.run("put(1)")
    path = lock_dropped(one)
    assert numbers(reader) == [1]
    one.run("put(2)")
    assert numbers(reader) == [1, 2]
    assert os.path.exists(path)
    one.kill()
    assert numbers(reader) == []
    assert not os.path.exists(path)
    assert dead == [("/nowhere", entry(n).uuid) for n in (1, 2)]


def test_a_session_without_its_lock_is_opened_while_its_process_lives(writer, dead):
    one, reader = writer
    one.run("put(1)")
    lock_dropped(one)
    assert numbers(reader) == [1]  # the first look of all
    assert dead == []


def test_the_lock_is_taken_again_by_the_next_act(writer):
    one, _ = writer
    path = lock_dropped(one)
    assert one.eval("mine.is_listed()")
    fd = os.open(path, os.O_RDONLY)
    assert is_locked(fd)
    os.close(fd)


def who_now(**changes):
    """A session of the process that started this one, and lives."""
    pid = os.getppid()
    other = Who.me("planted")._replace(pid=pid, start_ticks=_proc.start_time(pid))
    return other._replace(**changes)


MYSELF = {"pid": os.getpid(), "start_ticks": _proc.start_time(os.getpid())}


@pytest.mark.parametrize(
    ("changes", "remains"),
    [
        ({}, True),
        ({"start_ticks": 1}, False),
        ({"start_ticks": 0}, False),
        ({"pid": 2**22 + 1}, False),
        ({"pid_namespace": 1}, False),
        (MYSELF, False),
    ],
    ids=[
        *("that process", "another since", "not known", "no process", "another pid namespace"),
        "this process, whose end was broken off",
    ],
)
def test_an_unlocked_file_stays_only_if_its_process_can_be_seen(tmp_path, changes, remains):
    who, told = who_now(**changes), []
    path = tmp_path / f"{who.pid}-{who.token.hex()}-0.session"
    path.write_bytes(image(1, who))
    reader = Ledger(tmp_path, lambda where, token, files: told.append(token))
    assert numbers(reader) == [0] * remains
    assert path.exists() is remains
    assert told == [who.token] * (not remains)
    path.unlink(missing_ok=True)
    reader.end()


def test_a_killed_process_that_nobody_has_waited_for_is_dead(child):
    parent = child("""
read, write = os.pipe()
if (pid := os.fork()) == 0:
    with_parent()
    ms.register_variables('n', {'x': np.ones(3)})
    os.write(write, b'x'); time.sleep(60)
os.read(read, 1)
""")
    assert [page.name for page in ms.snapshot().pages] == ["n.x"]
    parent.run("os.kill(pid, signal.SIGKILL)")
    parent.run("os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)")  # it stays a zombie
    assert ms.snapshot().pages == ()
    parent.run("os.waitpid(pid, 0)")


def test_a_dead_session_of_any_name_is_removed_and_told_of(tmp_path):
    who, told = who_now(start_ticks=1), []
    (tmp_path / "copied by hand.session").write_bytes(image(1, who))
    reader = Ledger(tmp_path, lambda where, token, files: told.append((where, token)))
    assert numbers(reader) == []
    assert list(tmp_path.iterdir()) == []
    assert told == [(tmp_path, who.token)]
    reader.end()


def test_each_file_of_a_session_has_a_name_of_its_own(tmp_path):
    mine = Ledger(tmp_path / "m", print)
    paths = set()
    for number in range(5):
        mine.publish([entry(number)])
        paths.add(mine.path)
        mine.path.unlink()
        mine.relist()
    assert len(paths) == 5
    assert [path.name for path in (tmp_path / "m").iterdir()] == [mine.path.name]
    mine.end()


def test_what_a_sweeper_of_the_last_file_removes_is_not_the_next_one(writer, tmp_path):
    one, reader = writer
    one.run("put(1)")
    path = one.eval("str(mine.path)")
    assert numbers(reader) == [1]
    one.run("os.unlink(mine.path); mine.relist()")
    sweeper = os.open(tmp_path, os.O_RDONLY)  # has seen the first one dead, and comes late
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path, dir_fd=sweeper)
    os.close(sweeper)
    assert numbers(reader) == [1]


# --- looking needs no file ---------------------------------------------------------------


def test_who_only_looks_makes_no_file_and_no_directory(tmp_path):
    reader = Ledger(tmp_path / "m", print)
    assert numbers(reader) == []
    assert reader.path is None
    assert reader.is_listed()
    reader.end()
    assert not (tmp_path / "m").exists()


def test_the_first_entry_makes_the_file_and_the_end_removes_it(tmp_path):
    mine = Ledger(tmp_path / "m", print)
    (slot,) = mine.publish([entry(1)])
    assert mine.path.exists()
    mine.withdraw(slot, mine.mine.table.entry(slot))
    assert mine.path.exists()
    mine.end()
    assert list((tmp_path / "m").iterdir()) == []


def test_an_entry_that_lost_its_slot_takes_no_others_with_it(tmp_path):
    mine = Ledger(tmp_path / "m", print)
    old = entry(1)
    (slot,) = mine.publish([old])
    mine.withdraw(slot, old)
    assert mine.publish([entry(2)]) == [slot]
    mine.withdraw(slot, old)  # once more, too late
    assert mine.mine.table.entry(slot) == entry(2)
    mine.end()


def test_what_cannot_be_listed_is_noted_and_listed_with_everything_else(writer, tmp_path):
    _, reader = writer
    mine = Ledger(tmp_path / "m", print)
    mine.publish([entry(1)])
    mine.note(entry(2))
    assert not mine.is_listed()
    assert numbers(reader) == []  # rather nothing than less than there is
    mine.relist()
    assert mine.is_listed()
    assert mine.mine.table.entry(1) == entry(2)
    mine.end()


# --- damage ------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def what_is_planted_goes(runtime_directory):
    """A file that was changed may say that somebody else lives, and is nobody's to remove."""
    yield
    for path in runtime_directory.glob(f"1-{'?' * 16}-0.session"):
        path.unlink()


@contextlib.contextmanager
def planted(content, directory):
    """Plant a session file that looks alive; a forked child holds its lock."""
    path = directory / f"1-{os.urandom(8).hex()}-0.session"  # each a new session to readers
    directory.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content)
    ready, tell = os.pipe()
    wait, finish = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(finish)
            fd = os.open(path, os.O_RDWR)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
            os.write(tell, b"x")
            os.read(wait, 1)
        finally:
            os._exit(0)
    try:
        os.close(wait)
        os.read(ready, 1)
        yield path
    finally:
        os.close(finish)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(tell)


def checked(content):
    """Give what looks like a header and slots valid checksums."""
    content = bytearray(content.ljust(HEADER_BYTES, b"\0"))
    start = session.STATE_OFFSET
    end = start + session.STATE.size
    content[end : end + 4] = session.CRC.pack(zlib.crc32(content[start:end]))
    for at in range(HEADER_BYTES, len(content) - SLOT_BYTES + 1, SLOT_BYTES):
        content[at : at + 4] = session.CRC.pack(zlib.crc32(content[at + 4 : at + SLOT_BYTES]))
    return bytes(content)


PLANTED = Who(1, 0, 0, 0, 1.0, b"t" * 16, "planted")
COUNT_AT = session.STATE_OFFSET + 8


def image(count=2, who=PLANTED):
    state = session.STATE.pack(count, count, *([0] * RING))
    header = (who.pack() + state).ljust(HEADER_BYTES, b"\0")
    return checked(header + b"".join(entry(i, f"v{i}").pack() for i in range(count)))


def look():
    """Do everything that reads the ledger."""
    pages = ms.snapshot().pages
    assert repr(pages)
    with pytest.raises(ms.PageNotFoundError):
        ms.retrieve_views("n", "v0")
    with pytest.raises((ms.PageNotFoundError, ms.NotOwnerError)):
        ms.release_variables("n", "v0")
    return pages


def test_a_planted_file_is_read_as_a_session(runtime_directory):
    process.registry()
    with planted(image(), runtime_directory):
        assert [page.name for page in look()] == ["n.v0", "n.v1"]
    assert look() == ()


@pytest.mark.slow
@given(st.one_of(st.binary(max_size=1200), st.integers(0, 1535).map(lambda n: image()[:n])))
@settings(max_examples=25)
def test_a_file_of_anything_is_no_session_and_no_crash(content):
    process.registry()
    with planted(content, directories.runtime_directory()) as path:
        assert {page.name for page in look()} <= {"n.v0", "n.v1"}
    assert look() == ()
    # One of another version may be a living process's for all that this one can tell.
    assert path.exists() is (Who.read(content) is None)
    path.unlink(missing_ok=True)


@given(st.lists(st.tuples(st.integers(0, 1535), st.binary(min_size=1, max_size=9)), max_size=4))
@example([(COUNT_AT, b"\xff\xff\xff\xff")])
@example([(session.STATE_OFFSET, b"\xff" * 8), (COUNT_AT, b"\xff" * 4)])
@example([(HEADER_BYTES + 4, b"\x07")])  # a kind there is not
@example([(HEADER_BYTES + 6, b"\xff\xff")])  # lengths of names that reach over the end
@example([(HEADER_BYTES + 70, b"\xff\xff")])
@settings(max_examples=40)
@pytest.mark.slow
def test_a_damaged_session_with_right_checksums_is_no_crash(damage):
    content = bytearray(image())
    for at, new in damage:
        content[at : at + len(new)] = new
    process.registry()
    with planted(checked(bytes(content)), directories.runtime_directory()):
        ms.snapshot()
        with pytest.raises(ms.PageNotFoundError):
            ms.retrieve_views("n", "v0")
    assert look() == ()


@pytest.mark.parametrize(
    "about", [b"5", b"[]", b'{"shape": 5}', b'{"shape": null}', b'{"shape": "ab"}', b"\xff", b""]
)
def test_a_strange_summary_is_no_crash(runtime_directory, about):
    process.registry()
    content = image(1)[:HEADER_BYTES] + entry()._replace(about=about).pack()
    with planted(content, runtime_directory):
        (page,) = ms.snapshot().pages
        assert isinstance(page.shape, tuple)
        assert repr(ms.Namespace("n"))


def test_what_is_no_file_is_no_session(runtime_directory):
    runtime_directory.mkdir(mode=0o700, exist_ok=True)
    odd = {
        "directory": lambda path: path.mkdir(),
        "link": lambda path: path.symlink_to("/etc/passwd"),
        "pipe": os.mkfifo,
    }
    for name, make in odd.items():
        make(runtime_directory / f"{name}.session")
    try:
        assert ms.snapshot().pages == ()
    finally:
        for name in odd:
            path = runtime_directory / f"{name}.session"
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)


def test_what_an_interrupt_kept_a_look_from_remembering_is_closed_by_the_next_one(child):
    other = child("ms.register_variables('n', {'x': np.ones(2)})")
    one = child(
        "def sessions():\n"
        "    names = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')\n"
        "             if os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "    return sum('.session' in name for name in names)\n"
        "ms.register_variables('n', {'y': np.ones(2)}); before = sessions()\n"
    )
    assert one.eval("before") == 2
    one.run(
        "process.registry()._handles.ledger._close_others()\n"
        "process.registry()._handles.ledger._others.clear()\n"
        "undo = failing('memshare_jupyter.core.ledger._reader.Reader.refresh', 1,\n"
        "               KeyboardInterrupt())\n"
        "try: ms.snapshot()\n"
        "except KeyboardInterrupt as error: kept = error  # as a notebook does\n"
        "undo(); ms.snapshot()"
    )
    assert one.eval("(type(kept).__name__, sessions())") == ("KeyboardInterrupt", 2)
    other.exit()


def test_who_still_uses_a_registry_that_was_closed_keeps_no_session_open(child):
    other = child("ms.register_variables('n', {'x': np.ones(2)})")
    one = child("old = process.registry(); process.close(); old.snapshot()")
    open_now = "[os.path.basename(os.readlink(f'/proc/self/fd/{fd}')) for fd in range(3, 40)"
    open_now += " if os.path.lexists(f'/proc/self/fd/{fd}')]"
    assert f"{other.pid}-" not in " ".join(one.eval(open_now))
    assert one.eval("[page.name for page in old.snapshot().pages]") == ["n.x"]
