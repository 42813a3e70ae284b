"""The session file: alive as long as its process, whatever happens to it meanwhile."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core._locks import is_locked
from memshare_jupyter.core.ledger import _runtime as directories
from memshare_jupyter.core.ledger._session import SLOT_BYTES, SessionFile, Who, make_directory
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.errors import RegistryCorruptError


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "memshare"


@pytest.fixture
def file(directory):
    made = begun(directory, "kernel")
    yield made
    made.end()


@pytest.fixture
def page(child):
    ms.register_variables("n", {"x": np.arange(5)})
    yield
    process.registry().gc("n")


def begun(directory, label=""):
    made = SessionFile(directory, Who.me(label), [])
    made.begin()
    return made


def mine(runtime_directory):
    (path,) = runtime_directory.glob(f"{os.getpid()}-*.session")
    return path


def seen_by(other):
    return other.eval("[(p.name, h.pid) for p in ms.snapshot().pages for h in p.holders]")


# --- its own file ------------------------------------------------------------------------


def test_a_session_file_is_private_and_locked(file, child):
    found = os.stat(file.path)
    assert (found.st_mode & 0o777, found.st_nlink) == (0o600, 1)
    assert os.stat(file.path.parent).st_mode & 0o777 == 0o700
    other = child(f"fd = os.open({str(file.path)!r}, os.O_RDONLY)")
    assert other.eval("is_locked(fd)")


def test_an_ended_session_leaves_no_file(directory):
    file = begun(directory)
    file.put([b"x" * SLOT_BYTES])
    file.end()
    assert list(directory.iterdir()) == []


def test_emptied_slots_are_used_again(file):
    first, second = file.put([b"a" * SLOT_BYTES, b"b" * SLOT_BYTES])
    file.clear(first)
    assert file.put([b"c" * SLOT_BYTES]) == [first]
    assert file.put([b"d" * SLOT_BYTES]) not in ([first], [second])
    size = file.path.stat().st_size
    for _ in range(100):
        file.clear(first)
        file.put([b"e" * SLOT_BYTES])
    assert file.path.stat().st_size == size


def test_an_ended_session_writes_to_no_other_file(directory, tmp_path):
    file = begun(directory)
    file.end()
    others = [os.open(tmp_path / f"{i}", os.O_RDWR | os.O_CREAT) for i in range(20)]
    with pytest.raises((OSError, ValueError), match="file descriptor"):
        file.put([b"x" * SLOT_BYTES])
    assert all(os.fstat(fd).st_size == 0 for fd in others)
    for fd in others:
        os.close(fd)


def test_a_long_label_is_cut_between_characters(directory):
    file = begun(directory, "ü" * 40)
    file.relabel(Who.me("é" * 100))
    header = file.path.read_bytes()[:512]
    file.end()
    assert header.count("é".encode()) == 32


# --- accidents ---------------------------------------------------------------------------


def test_a_stray_close_is_made_good_at_the_next_operation(page, child, runtime_directory):
    other = child("process.registry()")
    path = mine(runtime_directory)
    os.close(os.open(path, os.O_RDONLY))  # drops every POSIX lock of this process on it
    check = child(f"fd = os.open({str(path)!r}, os.O_RDONLY)")
    assert not check.eval("is_locked(fd)")
    ms.snapshot()
    assert check.eval("is_locked(fd)")
    assert seen_by(other) == [("n.x", os.getpid())]


def test_who_looks_after_a_stray_close_still_counts_us(page, child, runtime_directory):
    other = child("process.registry()")
    assert seen_by(other) == [("n.x", os.getpid())]
    os.close(os.open(mine(runtime_directory), os.O_RDONLY))
    assert seen_by(other) == [("n.x", os.getpid())]
    assert seen_by(child()) == [("n.x", os.getpid())]
    mine(runtime_directory)
    assert other.eval("ms.Namespace('n')['x'].tolist()") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("operation", ["snapshot", "page_list", "view_list"])
def test_a_deleted_session_file_is_put_back(page, child, runtime_directory, operation):
    other = child("process.registry()")
    assert seen_by(other) == [("n.x", os.getpid())]
    mine(runtime_directory).unlink()
    getattr(ms, operation)()
    assert seen_by(other) == [("n.x", os.getpid())]


def test_a_deleted_directory_is_put_back(page, child, runtime_directory, listed, truth):
    other = child("ms.register_variables('n', {'y': np.ones(2)})")
    shutil.rmtree(runtime_directory)
    ms.register_variables("n", {"z": np.ones(2)})
    other.run("ms.page_list()")
    assert listed() == truth()
    assert {name for name, _ in seen_by(other)} == {"n.x", "n.y", "n.z"}
    assert seen_by(child()) == seen_by(other)


def test_everything_deleted_again_and_again_loses_nothing(child, runtime_directory, listed, truth):
    others = [child(f"ms.register_variables('n', {{'x{i}': np.ones(2)}})") for i in range(3)]
    for round_ in range(10):
        shutil.rmtree(runtime_directory)
        for i, other in enumerate(others):
            other.run(f"ms.register_variables('n', {{'x{i}': np.full(2, {round_})}})")
        assert listed() == truth()
        assert len(ms.snapshot().pages) == 3


# --- directories not to be trusted -------------------------------------------------------


def test_a_directory_that_is_a_link_is_refused(directory, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RegistryCorruptError, match="is a symbolic link; remove it if you may"):
        begun(directory)


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o777, 0o1777])
def test_a_directory_that_others_may_enter_is_refused(directory, mode):
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(RegistryCorruptError, match=f"has mode {mode:o}, so other users"):
        begun(directory)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(directory):
    directory.mkdir(mode=0o700)
    os.chown(directory, 65534, 65534)
    with pytest.raises(RegistryCorruptError, match="belongs to user 65534"):
        begun(directory)


def test_a_file_in_the_directorys_place_is_refused(directory):
    directory.touch()
    with pytest.raises(RegistryCorruptError, match="is not a directory"):
        begun(directory)


def test_a_directory_with_no_place_left_is_an_error_and_not_a_hang(directory):
    with pytest.raises(RegistryCorruptError, match="is gone, as after a logout"):
        make_directory(directory / "memshare")
    with pytest.raises(RegistryCorruptError, match="to a directory that stays"):
        begun(directory / "memshare")


def test_pages_are_still_freed_when_the_runtime_directory_has_gone(child, tmp_path, truth):
    gone = tmp_path / "run"
    gone.mkdir(mode=0o700)
    one = child(f"os.environ['XDG_RUNTIME_DIR'] = {str(gone)!r}")
    one.run("ms.register_variables('n', {'x': np.ones(5)})\nx = ms.Namespace('n')['x']")
    shutil.rmtree(gone)
    one.run("ms.release_variables('n', 'x')")  # what needs no list goes on
    assert one.eval("ms.page_list(), ms.view_list(), x.sum()") == ([], ["n.x"], 5)
    one.run("ms.register_variables('n', {'x': np.ones(5)})")  # listed in the next directory
    assert not gone.exists()
    assert one.eval("ms.page_list(), ms.Namespace('n')['x'].sum(), x.sum()") == (["n.x"], 5, 5)
    one.exit()
    assert truth() == {}


# --- which directory ---------------------------------------------------------------------


def test_the_directory_is_that_of_the_environment_when_it_is_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert directories.runtime_directory() == tmp_path / "memshare"


@pytest.mark.parametrize("value", ["", "/nonexistent", "/proc/1/root/nonexistent"])
def test_without_a_usable_environment_it_is_per_user(monkeypatch, value):
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert directories.runtime_directory().name == f"memshare-{os.getuid()}"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_runtime_directory_is_not_used(monkeypatch, tmp_path):
    os.chown(tmp_path, 65534, 65534)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert directories.runtime_directory().name == f"memshare-{os.getuid()}"


# --- ending ------------------------------------------------------------------------------


ENDINGS = {
    "end of code": "",
    "sys.exit": "import sys; sys.exit(0)",
    "views alive at the end": "import builtins; builtins.kept = ms.retrieve_views('n', 'x')",
    "closed before": "from memshare_jupyter.core.registry._process import close; close()",
    "daemon thread at work": """
import threading
def work():
    while True:
        ms.register_variables('n', {'y': np.ones(2)})
threading.Thread(target=work, daemon=True).start()
""",
    "child left by os._exit": "import os; pid = os.fork() or os._exit(0); os.waitpid(pid, 0)",
}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_the_last_process_to_exit_leaves_no_file_and_no_directory(
    interpreter, runtime_directory, ending
):
    process.close()
    shutil.rmtree(runtime_directory, ignore_errors=True)
    interpreter(
        f"import numpy as np, memshare_jupyter as ms\n"
        f"ms.register_variables('n', {{'x': np.ones(3)}})\n{ending}"
    )
    assert not runtime_directory.exists()


def test_a_process_that_exits_while_others_live_leaves_them_the_directory(page, interpreter):
    interpreter(
        "import memshare_jupyter as ms\nassert ms.Namespace('n')['x'].tolist() == [0, 1, 2, 3, 4]"
    )
    assert [p.name for p in ms.snapshot().pages] == ["n.x"]


def test_processes_that_begin_and_end_at_once_never_trip_over_each_other(child):
    children = [child() for _ in range(6)]
    for one in children:
        one.send(
            "for _ in range(60):\n"
            " ms.register_variables(f'n{os.getpid()}', {'x': np.ones(2)})\n process.close()"
        )
    for one in children:
        one.result()
    assert ms.snapshot().pages == ()


def test_the_lock_is_that_of_the_process_and_not_of_the_descriptor(file, child):
    # OFD and flock locks would survive in a forked child.
    other = child(f"fd = os.open({str(file.path)!r}, os.O_RDONLY)")
    assert other.eval("is_locked(fd)")
    with Path(file.path).open("rb") as own:
        assert not is_locked(own.fileno())
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
