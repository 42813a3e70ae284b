"""Memory is asked for, and promised, before it is taken."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memshare_jupyter.core.blocks import _promises, _reserve, _room
from memshare_jupyter.core.blocks._promises import Promise
from memshare_jupyter.errors import NotEnoughMemoryError

MB = 1_000_000
LARGE = 20 * MB


@pytest.fixture
def free(tmp_path, monkeypatch):
    """A machine with as much memory as is set, in MB, and no limit but that."""

    class Memory:
        def __setattr__(self, name, value):
            kilobytes = value * MB >> 10
            (tmp_path / "meminfo").write_text(
                f"MemTotal: 8000000 kB\nMemAvailable: {kilobytes} kB\n"
                "SwapTotal: 0 kB\nSwapFree: 0 kB\n"
            )

    (tmp_path / "self").write_text("")
    monkeypatch.setattr(_room, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(_room, "_GROUPS_OF_SELF", tmp_path / "self")
    monkeypatch.setattr(os, "sysconf", lambda name: 1)
    _reserve._allowance.reset()
    yield Memory()
    _reserve._allowance.reset()


@pytest.fixture
def reserve(tmp_path):
    tmp_path.chmod(0o700)

    def make(size_bytes, place=""):
        return _reserve.reserved("n.x", size_bytes, lambda: "held", place, runtime=tmp_path)

    return make


def promises(tmp_path):
    return tmp_path / _promises.FILE_NAME


# --- promises ----------------------------------------------------------------------------


def test_what_one_is_about_to_fill_is_not_there_for_the_other(free, reserve, tmp_path):
    free.mb = 50
    refused = pytest.raises(NotEnoughMemoryError, match=r"19.9 MB .*30.1 MB are being filled")
    with reserve(30 * MB), refused as caught, reserve(LARGE):
        pytest.fail("there was no room")
    assert "n.x: it needs 20.0 MB" in str(caught.value)
    with reserve(LARGE):
        pass
    assert not promises(tmp_path).exists()


def test_what_was_filled_is_used_and_not_counted_twice(free, reserve):
    free.mb = 60
    with reserve(40 * MB) as filled:
        filled(30 * MB)
        free.mb = 30  # as the system sees it by now
        with pytest.raises(NotEnoughMemoryError), reserve(LARGE):
            pytest.fail("10 MB will be missing")
        filled(10 * MB)
        free.mb = 21
        with reserve(LARGE):
            pass


def test_a_promise_ends_with_an_error(free, reserve, tmp_path):
    free.mb = 50
    with pytest.raises(KeyboardInterrupt), reserve(30 * MB):
        raise KeyboardInterrupt
    assert not promises(tmp_path).exists()
    with reserve(30 * MB):
        pass


def test_promises_of_several_threads_add_up(free, reserve, tmp_path):
    free.mb = 100
    refused = []
    inside = threading.Barrier(4)

    def work():
        try:
            with reserve(30 * MB):
                inside.wait(20)
        except NotEnoughMemoryError as error:
            refused.append(error)
            inside.wait(20)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert not promises(tmp_path).exists()


PROMISE = (
    "from memshare_jupyter.core.blocks import _promises\n"
    "made = _promises.promised(Path({!r}), _promises.Promise({}, 0, ''), lambda others: True)\n"
    "filled = made.__enter__()"
)


def test_a_promise_of_another_process_counts_until_it_dies(child, tmp_path):
    one = child(PROMISE.format(str(tmp_path), 5))
    two = child(PROMISE.format(str(tmp_path), 7))
    assert sorted(p.size_bytes for p in _promises.others(tmp_path)) == [5, 7]
    two.run("filled(3)")
    assert sorted(p.size_bytes for p in _promises.others(tmp_path)) == [4, 5]
    one.kill()
    assert [p.size_bytes for p in _promises.others(tmp_path)] == [4]
    two.kill()
    assert _promises.others(tmp_path) == []
    assert not promises(tmp_path).exists()


def test_a_forked_child_has_not_promised_what_its_parent_did(child, tmp_path):
    one = child(PROMISE.format(str(tmp_path), 5))
    one.run(
        "if (pid := os.fork()) == 0:\n"
        "    made.__exit__(None, None, None)\n"
        "    time.sleep(60)\n"
        "child = pid"
    )
    assert [p.size_bytes for p in _promises.others(tmp_path)] == [5]
    one.run("made.__exit__(None, None, None)")
    assert _promises.others(tmp_path) == []
    one.run("os.kill(child, 9); os.waitpid(child, 0)")


def test_a_stopped_process_keeps_nobody_from_going_on(child, tmp_path):
    one = child("from memshare_jupyter.core.blocks import _promises")
    one.send(
        "at_call('memshare_jupyter.core.blocks._promises._Book.living', 1, 'before', stop)\n"
        + PROMISE.format(str(tmp_path), 5)
    )
    while not one.stopped():
        time.sleep(0.002)
    began = time.monotonic()
    with _promises.promised(tmp_path, Promise(7, 0, ""), lambda others: True) as filled:
        filled(1)
    assert time.monotonic() - began < 5
    one.kill()


def test_who_comes_again_in_the_same_thread_does_not_wait_for_itself(tmp_path):
    # As a signal handler does, or a finalizer.
    def fits(others):
        with _promises.promised(tmp_path, Promise(7, 0, ""), lambda others: True):
            return True

    began = time.monotonic()
    with _promises.promised(tmp_path, Promise(5, 0, ""), fits):
        assert [p.size_bytes for p in _promises.others(tmp_path)] == [5]
    assert time.monotonic() - began < _promises._PATIENCE_S


def test_a_file_removed_by_a_cleaner_does_no_harm(tmp_path):
    with _promises.promised(tmp_path, Promise(5, 0, ""), lambda others: True) as filled:
        promises(tmp_path).unlink()
        filled(1)
        with _promises.promised(tmp_path, Promise(7, 0, ""), lambda others: True):
            pass
    assert not promises(tmp_path).exists()
    with _promises.promised(tmp_path, Promise(5, 0, ""), lambda others: True):
        assert [p.size_bytes for p in _promises.others(tmp_path)] == [5]


def unusable(path):
    path.mkdir()


@pytest.mark.parametrize("make", [unusable, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_where_nothing_can_be_promised_it_is_done_without(free, reserve, tmp_path, make):
    make(promises(tmp_path))
    free.mb = 50
    with reserve(LARGE):
        pass
    with pytest.raises(NotEnoughMemoryError), reserve(60 * MB):
        pytest.fail("there was no room")


def test_without_a_runtime_directory_it_is_done_without(free, tmp_path):
    free.mb = 50
    gone = tmp_path / "gone" / "memshare"
    with _reserve.reserved("n.x", LARGE, lambda: "", runtime=gone):
        assert not gone.exists()
    with pytest.raises(NotEnoughMemoryError):
        _reserve.require("n.x", 60 * MB, lambda: "")


def test_the_first_process_of_all_promises_too(free, tmp_path):
    free.mb = 50
    runtime = tmp_path / "memshare"
    with _reserve.reserved("n.x", LARGE, lambda: "", runtime=runtime):
        assert runtime.stat().st_mode & 0o777 == 0o700
        assert len(_promises.others(runtime)) == 1
    assert not runtime.exists()


def test_nothing_is_told_where_others_can_write(free, tmp_path):
    free.mb = 50
    runtime = tmp_path / "memshare"
    runtime.mkdir()
    runtime.chmod(0o777)
    with _reserve.reserved("n.x", LARGE, lambda: "", runtime=runtime):
        assert list(runtime.iterdir()) == []


def test_garbage_is_no_promise(free, reserve, tmp_path):
    promises(tmp_path).write_bytes(b"\xff" * 5000)
    free.mb = 50
    with reserve(LARGE):
        pass
    assert not promises(tmp_path).exists()


def test_more_promises_than_there_is_room_for_are_kept_to_oneself(tmp_path, monkeypatch):
    monkeypatch.setattr(_promises, "_SLOTS", 2)
    with contextlib.ExitStack() as stack:
        for size in (1, 2, 3):
            one = _promises.promised(tmp_path, Promise(size, 0, ""), lambda others: True)
            stack.enter_context(one)
        assert [p.size_bytes for p in _promises.others(tmp_path)] == [1, 2]


@pytest.mark.parametrize(
    ("promised", "group", "counts"),
    [
        ("memory:/a", "memory:/a", True),
        ("memory:/a/b", "memory:/a", True),
        ("memory:/a", "memory:/a/b", False),
        ("memory:/ab", "memory:/a", False),
        ("memory:/a", "memory:/", True),
        (":/a", "memory:/", False),
    ],
)
def test_a_promise_counts_where_it_will_be_charged(promised, group, counts):
    assert Promise(1, 5, promised).counts_for(5, group) is counts
    assert not Promise(1, 6, promised).counts_for(5, group)


# --- small pages -------------------------------------------------------------------------


def test_small_pages_are_looked_at_when_enough_of_them_came_together(free, reserve, monkeypatch):
    free.mb = 4000
    looks = []
    bare = _reserve._Allowance.bare_bytes
    monkeypatch.setattr(_reserve._Allowance, "bare_bytes", lambda *a: looks.append(1) or bare(*a))
    for _ in range(32):
        with reserve(MB):
            pass
    assert 2 <= len(looks) <= 4


def test_near_the_end_small_pages_are_looked_at_the_more_often(free, reserve):
    taken = 0
    with contextlib.suppress(NotEnoughMemoryError):
        for taken in range(20):
            free.mb = 10 - taken
            with reserve(MB):
                pass
    assert 8 <= taken <= 10


def test_an_allowance_is_soon_worth_nothing(free, reserve, monkeypatch):
    free.mb = 4000
    with reserve(MB):
        pass
    free.mb = 0
    with reserve(MB):
        pass
    monkeypatch.setattr(_reserve, "_ALLOWED_S", 0.0)
    _reserve._allowance.give(4000 * MB)
    time.sleep(0.001)
    with pytest.raises(NotEnoughMemoryError), reserve(MB):
        pytest.fail("there was no room")


def test_small_pages_see_what_others_promised(free, reserve):
    free.mb = 40
    with reserve(39 * MB), pytest.raises(NotEnoughMemoryError), reserve(MB):
        pytest.fail("there was no room")


def test_asking_for_a_small_page_costs_little(tmp_path):
    def asked():
        begun = time.perf_counter()
        for _ in range(200):
            with _reserve.reserved("n.x", 8 << 20, lambda: "", runtime=tmp_path):
                pass
        return (time.perf_counter() - begun) / 200

    assert min(asked() for _ in range(5)) < 100e-6  # 9 µs here, 20 to 40 in a control group


# --- files -------------------------------------------------------------------------------


def test_files_on_a_disk_take_no_memory(free, reserve, tmp_path, monkeypatch):
    free.mb = 1
    monkeypatch.setattr(_room._directories, "file_system", lambda path: "ext4")
    for size in (MB, LARGE):
        with reserve(size, str(tmp_path)):
            pass
    monkeypatch.setattr(_room._directories, "file_system", lambda path: "tmpfs")
    for size in (2 * MB, LARGE):
        with pytest.raises(NotEnoughMemoryError), reserve(size, str(tmp_path)):
            pytest.fail("there was no room")


# --- for real: a control group -----------------------------------------------------------

LIMIT = 200 * MB
FIRST, SECOND = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@pytest.fixture
def in_group(child_environment):
    """Start interpreters in a control group of 200 MB, whose kills are counted."""
    first = (FIRST / "memory.limit_in_bytes").exists()
    group = (FIRST if first else SECOND) / f"memshare-tests-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(LIMIT))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no memory control group can be made: {error}")
    made = []

    def start(code):
        enter = f"open('{group}/cgroup.procs', 'w').write('0')\n"
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "-W", "error", "-c", enter + code]
        made.append(subprocess.Popen(command, env=child_environment, text=True, **pipes))
        return made[-1]

    try:
        yield start
    finally:
        for one in made:
            one.kill()
            one.communicate()
        deadline = time.monotonic() + 20
        while True:
            try:
                group.rmdir()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


TOGETHER = """
import numpy as np, memshare_jupyter as ms, sys, os
x = np.zeros(100_000_000, "u1")  # takes no memory until it is written to
ms.page_list()
print("ready", flush=True); input()
try:
    ms.register_variables(f"n{os.getpid()}", {"x": x})
    print("has it", flush=True)
except ms.NotEnoughMemoryError as error:
    print("refused", error, flush=True)
input()
"""


@pytest.mark.slow
def test_of_two_that_register_at_once_one_is_refused_and_none_killed(in_group):
    for _ in range(3):
        both = [in_group(TOGETHER) for _ in range(2)]
        assert [one.stdout.readline() for one in both] == ["ready\n"] * 2
        for one in both:
            one.stdin.write("\n")
            one.stdin.flush()
        said = sorted(one.stdout.readline().split(" ")[0].strip() for one in both)
        ended = [one.communicate("\n") and one.returncode for one in both]
        assert (said, ended) == (["has", "refused"], [0, 0])


def test_a_loop_of_small_pages_ends_in_an_error_and_not_in_a_kill(in_group):
    loop = in_group(
        "import numpy as np, memshare_jupyter as ms\n"
        "x = np.zeros(8_000_000, 'u1')\n"
        "try:\n"
        "    for i in range(60):\n"
        "        ms.register_variables('n', {f'v{i}': x})\n"
        "except ms.NotEnoughMemoryError as error:\n"
        "    print(i, error)\n"
    )
    said, errors = loop.communicate(timeout=60)
    assert loop.returncode == 0, errors
    assert 12 <= int(said.split()[0]) <= 24
    assert "control group" in said


def test_memory_that_holds_files_is_free_for_pages(in_group, tmp_path):
    read = in_group(
        "import numpy as np, memshare_jupyter as ms\n"
        f"with open('{tmp_path}/file', 'wb') as file:\n"
        "    for _ in range(140):\n"
        "        file.write(bytes(1_000_000))\n"
        "    file.flush(); __import__('os').fsync(file.fileno())\n"
        "for _ in range(4):\n"
        f"    with open('{tmp_path}/file', 'rb') as file:\n"
        "        while file.read(1 << 20): pass\n"
        "ms.register_variables('n', {'x': np.zeros(80_000_000, 'u1')})\n"
        "print(int(ms.Namespace('n')['x'].sum()), len(ms.page_list()))\n"
    )
    said, errors = read.communicate(timeout=60)
    assert (read.returncode, said) == (0, "0 1\n"), errors


@pytest.mark.slow
def test_a_page_just_below_the_limit_is_refused_or_fits_but_nobody_is_killed(in_group):
    for share in (0.8, 0.9, 0.95, 0.99):
        one = in_group(
            "import numpy as np, memshare_jupyter as ms\n"
            "from memshare_jupyter.core.blocks import room\n"
            f"x = np.zeros(int(room().free_bytes * {share}), 'u1')\n"
            "try:\n    ms.register_variables('n', {'x': x}); print('has it')\n"
            "except ms.NotEnoughMemoryError: print('refused')\n"
        )
        said, errors = one.communicate(timeout=60)
        assert (one.returncode, said in {"has it\n", "refused\n"}) == (0, True), (share, errors)
