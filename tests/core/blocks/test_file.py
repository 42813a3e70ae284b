"""Pages that are files: where they may lie, what they cost, what they leave, what they cannot."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
import uuid as uuids

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core import blocks
from memshare_jupyter.core.blocks import _file
from memshare_jupyter.core.blocks import _room as memory
from memshare_jupyter.core.ledger import _slot as entry
from memshare_jupyter.core.names import PageName
from memshare_jupyter.errors import InvalidNameError, NotEnoughMemoryError, RegistryCorruptError

X = np.arange(5_000)
REGISTER = "ms.register_variables('n', {{'x': np.arange(5_000)}}, directory={!r})"
ATTACH = "x = ms.retrieve_views('n', 'x')['x']"


@pytest.fixture
def place(tmp_path):
    directory = tmp_path / "pages"
    yield str(directory)
    if directory.exists() and not directory.is_symlink():
        assert os.listdir(directory) == []


# --- where -------------------------------------------------------------------------------


def test_a_directory_means_a_file_and_the_list_of_it_is_the_registry(place, listed, truth):
    ms.register_variables("n", {"x": X}, directory=place)
    assert len(os.listdir(place)) == 1
    assert os.stat(place).st_mode & 0o777 == 0o700
    assert ms.Namespace("n")["x"].sum() == X.sum()
    assert listed() == truth() != {}
    ms.release_variables("n", "x")


def test_memshare_dir_makes_files_the_default_but_a_memfd_can_be_had(place, monkeypatch):
    monkeypatch.setenv("MEMSHARE_DIR", place)
    ms.register_variables("n", {"x": X})
    ms.register_variables("n", {"y": X}, backend="memfd")
    assert len(os.listdir(place)) == 1
    ms.release_variables("n", ["x", "y"])


def test_without_a_directory_files_lie_in_one_that_goes_with_them(child):
    owner = child("ms.register_variables('n', {'x': np.arange(9)}, backend='file')")
    place = owner.eval("next(iter(process.registry()._handles.pages.values())).page.block.place")
    assert os.listdir(place)
    assert ms.Namespace("n")["x"].sum() == 36
    owner.exit()
    assert not os.path.exists(place)


@pytest.mark.parametrize(
    ("backend", "directory", "message"),
    [("tape", None, "unknown backend"), ("memfd", "/somewhere", "lies in no directory")],
)
def test_what_cannot_be_is_refused(backend, directory, message):
    with pytest.raises(ValueError, match=message):
        ms.register_variables("n", {"x": X}, backend=backend, directory=directory)


def test_a_directory_that_is_a_link_is_refused(tmp_path, place):
    (tmp_path / "real").mkdir(mode=0o700)
    os.symlink(tmp_path / "real", place)
    with pytest.raises(RegistryCorruptError, match="symbolic link"):
        ms.register_variables("n", {"x": X}, directory=place)


def test_a_directory_that_others_can_write_to_is_refused(place):
    os.mkdir(place)
    os.chmod(place, 0o770)  # noqa: S103 -- that is the point
    with pytest.raises(RegistryCorruptError, match="other users can write"):
        ms.register_variables("n", {"x": X}, directory=place)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(place):
    os.mkdir(place)
    os.chown(place, 65534, 65534)
    with pytest.raises(RegistryCorruptError, match="belongs to user 65534"):
        ms.register_variables("n", {"x": X}, directory=place)


def test_a_directory_in_no_directory_is_an_error(place):
    with pytest.raises(FileNotFoundError):
        ms.register_variables("n", {"x": X}, directory=f"{place}/deeper/still")


def test_a_long_path_fits_beside_long_names_or_is_refused_with_the_number(tmp_path):
    name = PageName("n" * 120, "v" * 120)
    room = 512 - entry._SLOT.size - 240 - entry._LEAST_ABOUT_BYTES
    base = str(tmp_path)
    fits, too_long = (base + "/" + "d" * (n - len(base) - 1) for n in (room, room + 1))
    ms.register_variables(name.namespace, {name.variable: X}, directory=fits)
    (page,) = ms.snapshot().pages
    assert page.kind == "array"
    assert ms.Namespace(name.namespace)[name.variable].sum() == X.sum()
    ms.release_variables(name.namespace, name.variable)
    with pytest.raises(InvalidNameError, match=f"may be {room} bytes long"):
        ms.register_variables(name.namespace, {name.variable: X}, directory=too_long)
    assert not os.path.exists(too_long)


# --- room --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", memory.FULL)
def test_a_full_file_system_is_one_clear_error_and_leaves_nothing(place, monkeypatch, number):
    def full(fd, offset, size):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NotEnoughMemoryError, match=r"n\.x: it needs 40\.2 kB, and the file"):
        ms.register_variables("n", {"x": X}, directory=place)
    assert ms.page_list() == []


def test_room_on_a_disk_is_the_disks_and_not_the_memorys(place, monkeypatch):
    monkeypatch.setattr(memory, "machine", lambda: memory.Room("this machine", 0, 0))
    monkeypatch.setattr(memory._directories, "file_system", lambda path: "ext4")
    assert memory.room(place).where == f"the file system of {place}"
    monkeypatch.setattr(memory._directories, "file_system", lambda path: "tmpfs")
    assert memory.room(place).where == "this machine"


@pytest.mark.parametrize("way", ["without", "refused"])
def test_a_file_system_that_cannot_allocate_is_filled_with_zeros(place, monkeypatch, way):
    def refused(fd, offset, size):
        raise OSError(errno.EOPNOTSUPP, "not here")

    if way == "without":
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refused)
    os.mkdir(place)
    block = _file.create(uuids.uuid4().bytes, 3 * (1 << 20) + 5, place)
    found = os.fstat(block.fd)
    assert found.st_size == 3 * (1 << 20) + 5
    assert found.st_blocks * 512 >= found.st_size
    block.close()


def test_a_file_system_without_locks_is_refused(place, monkeypatch):
    def no_locks(fd, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(RegistryCorruptError, match="has no locks"):
        ms.register_variables("n", {"x": X}, directory=place)


SMALL = """
import numpy as np, memshare_jupyter as ms, os, subprocess, sys
x = np.ones(500_000_000 // 8)
ms.register_variables("n", {"x": x})
there = "import memshare_jupyter as ms; print(int(ms.retrieve_views('n', 'x')['x'].sum()))"
seen = subprocess.run([sys.executable, "-c", there], capture_output=True, text=True, check=True)
print("memfd", seen.stdout.strip() == str(x.size))
ms.release_variables("n", "x")
for size in (500_000_000, 8_000_000):
    kept = 0
    try:
        for i in range(20):
            ms.register_variables("n", {f"f{i}": x[: size // 8]}, directory="/dev/shm/pages")
            kept += 1
    except ms.NotEnoughMemoryError as error:
        print("file", kept, str(error).split(";")[0])
    ms.memshare_gc("n")
print(os.listdir("/dev/shm/pages"))
"""


def test_with_64_mb_of_dev_shm_memfds_work_and_files_fail_clearly(child_environment):
    private = ["unshare", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    probe = subprocess.run([*private, mount], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"unshare is not permitted: {probe.stderr.strip()}")
    environment = {k: v for k, v in child_environment.items() if k != "XDG_RUNTIME_DIR"}
    command = [*private, f'{mount} && exec "$0" -W error -c "$1"', sys.executable, SMALL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    memfd, large, small, left = done.stdout.splitlines()
    assert memfd == "memfd True"
    assert large.startswith("file 0 cannot register n.f0: it needs 500.0 MB, and the file system")
    assert "has 67.1 MB of 67.1 MB free" in large
    assert small.startswith("file 8 cannot register n.f8: it needs 8.0 MB, and the file system")
    assert left == "[]"


# --- what stays --------------------------------------------------------------------------


def test_a_file_of_a_dead_session_goes_at_the_next_look_from_anywhere(place, child):
    owner = child(REGISTER.format(place))
    owner.kill()
    assert len(os.listdir(place)) == 1
    ms.snapshot()
    assert os.listdir(place) == []


def test_files_of_the_dead_go_when_a_process_of_that_directory_looks(place, child):
    maker = child("at_call('memshare_jupyter.core.blocks.fill', 1, 'before', die)")
    maker.dies(REGISTER.format(place))
    ms.snapshot()
    assert len(os.listdir(place)) == 1  # listed by nobody, in a directory that nobody named
    child(f"os.environ['MEMSHARE_DIR'] = {place!r}; ms.snapshot()").exit()
    assert os.listdir(place) == []


def test_files_of_the_dead_go_when_the_directory_is_used_again(place, child):
    maker = child("at_call('memshare_jupyter.core.blocks.fill', 1, 'before', die)")
    maker.dies(REGISTER.format(place))
    ms.register_variables("n", {"x": X}, directory=place)
    assert len(os.listdir(place)) == 1
    ms.release_variables("n", "x")


def test_sweeping_leaves_alone_what_is_not_ours(tmp_path):
    name = uuids.uuid4().hex + ".page"
    kept = [tmp_path / "notes.txt", tmp_path / "x.page", tmp_path / name[1:]]
    for path in kept:
        path.write_text("mine")
    (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / (uuids.uuid4().hex + ".page"))
    os.symlink(kept[0], tmp_path / (uuids.uuid4().hex + ".page"))
    before = sorted(os.listdir(tmp_path))
    blocks.Places(blocks.reclaim).use(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == before


def test_sweeping_removes_what_nobody_holds_but_not_what_is_listed(tmp_path):
    dead, listed_one = uuids.uuid4(), uuids.uuid4()
    for uuid in (dead, listed_one):
        (tmp_path / f"{uuid.hex}.page").touch()
    blocks.Places(blocks.reclaim).sweep([(str(tmp_path), listed_one.bytes)])
    assert os.listdir(tmp_path) == [f"{listed_one.hex}.page"]


def test_a_new_file_that_a_sweeper_removes_before_it_is_locked_is_made_again(place, monkeypatch):
    flock, swept = fcntl.flock, []

    def sweeping(fd, kind):
        if not swept:
            swept.extend(os.listdir(place))
            os.unlink(f"{place}/{swept[0]}")
        return flock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", sweeping)
    block = _file.create(uuids.uuid4().bytes, 100, place)
    assert os.listdir(place) == swept
    block.close()


def test_a_new_file_that_a_sweeper_has_locked_is_made_again(place, monkeypatch):
    flock, swept = fcntl.flock, []

    def sweeping(fd, kind):
        if not swept:
            swept.append(os.open(f"{place}/{os.listdir(place)[0]}", os.O_RDONLY))
            flock(swept[0], fcntl.LOCK_EX)
            os.unlink(f"{place}/{os.listdir(place)[0]}")
        return flock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", sweeping)
    block = _file.create(uuids.uuid4().bytes, 100, place)
    assert len(os.listdir(place)) == 1
    block.close()
    os.close(swept[0])


def test_an_attach_that_a_removal_overtakes_finds_the_page_gone(place, monkeypatch):
    os.mkdir(place)
    block = _file.create(uuids.uuid4().bytes, 100, place)
    flock = fcntl.flock

    def overtaken(fd, kind):
        monkeypatch.setattr(fcntl, "flock", flock)
        block.close()
        return flock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    with pytest.raises(_file.SegmentGone):
        _file.attach(block.uuid, place, writable=False)


def test_a_viewer_that_lets_go_while_its_owner_asks_whether_it_is_alone_removes_no_file(
    place, monkeypatch
):
    owner = _file.create(uuids.uuid4().bytes, 100, place)
    viewer = _file.attach(owner.uuid, place, writable=False)
    flock, control, refused = fcntl.flock, fcntl.fcntl, []

    def then_the_viewer_goes(call):
        def asked(fd, *arguments):
            try:
                return call(fd, *arguments)
            except OSError:
                monkeypatch.undo()
                refused.append(fd)
                viewer.close()
                raise

        return asked

    monkeypatch.setattr(fcntl, "flock", then_the_viewer_goes(flock))
    monkeypatch.setattr(fcntl, "fcntl", then_the_viewer_goes(control))
    assert not owner.try_alone()
    assert refused == [owner.fd]
    assert os.path.exists(f"{place}/{uuids.UUID(bytes=owner.uuid).hex}.page")
    assert owner.try_alone()
    owner.close()


def test_nobody_attaches_a_file_whose_owner_is_alone_with_it_and_anybody_may_later(place):
    owner = _file.create(uuids.uuid4().bytes, 100, place)
    assert owner.try_alone()
    with pytest.raises(blocks.BlockBusy):
        _file.attach(owner.uuid, place, writable=False)
    owner.share()
    _file.attach(owner.uuid, place, writable=False).close()
    owner.close()


@pytest.mark.parametrize("what", ["system", "file system"])
def test_where_there_are_no_ofd_locks_no_owner_knows_that_it_is_alone(place, monkeypatch, what):
    if what == "system":
        monkeypatch.delattr(fcntl, "F_OFD_SETLK")
    else:
        control = fcntl.fcntl

        def no_ofd_locks(fd, command, *rest):
            if command == fcntl.F_OFD_SETLK:
                raise OSError(errno.EINVAL, "Invalid argument")
            return control(fd, command, *rest)

        monkeypatch.setattr(fcntl, "fcntl", no_ofd_locks)
    for _ in range(2):
        ms.register_variables("n", {"x": X}, directory=place)
        assert ms.Namespace("n")["x"].sum() == X.sum()
    owner = _file.create(uuids.uuid4().bytes, 100, place)
    assert not owner.try_alone()
    owner.share()
    owner.close()
    ms.release_variables("n", "x")


def test_an_interpreter_that_ends_with_arrays_in_use_leaves_no_file(place, interpreter):
    interpreter(
        "import numpy as np, memshare_jupyter as ms\n"
        f"ms.register_variables('n', {{'x': np.arange(9)}}, directory={place!r})\n"
        "x = ms.retrieve_views('n', 'x')['x']\n"
        "def later():\n"
        "    yield x\n"
        "kept = later(); next(kept)\n"
    )
    assert os.listdir(place) == []


def test_a_forked_child_keeps_the_page_of_its_killed_parent(
    place, child, listed, truth, eventually
):
    owner = child(REGISTER.format(place))
    owner.run(
        "ours = os.pipe()\n"
        "if (pid := os.fork()) == 0:\n"
        "    os.write(ours[1], b'x')\n"
        "    signal.pause()\n"
        "os.read(ours[0], 1)"
    )
    pid = owner.eval("pid")
    assert listed() == truth()
    assert {p for p, _ in listed()} == {owner.pid, pid}
    view = ms.retrieve_views("n", "x")["x"]
    owner.kill()
    assert view.sum() == X.sum()
    assert listed() == truth()
    ms.release_views("n", "x")
    del view
    assert ms.Namespace("n")["x"].sum() == X.sum()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not listed())


def test_a_child_forked_without_a_descriptor_left_keeps_its_file(place, child, listed, truth):
    owner = child(
        "import resource\n"
        f"ms.register_variables('n', {{'x': np.ones(9)}}, directory={place!r})\n"
        "view = ms.retrieve_views('n', 'x')['x']\n"
        "limits = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "highest = max(int(fd) for fd in os.listdir('/proc/self/fd'))\n"
        "full = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest + 1)]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (highest, limits[1]))\n"
    )
    owner.run(
        "if (pid := os.fork()) == 0:\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, limits)\n"
        "    ms.snapshot()\n"
        "    signal.pause()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, limits)\n"
        "[os.close(fd) for fd in full]"
    )
    heir = os.pidfd_open(pid := owner.eval("pid"))
    try:
        owner.run("del view; ms.release_views('n', 'x'); ms.release_variables('n', 'x')")
        assert [pid for pid, _ in truth()] == [pid]
        assert len(os.listdir(place)) == 1
    finally:
        signal.pidfd_send_signal(heir, signal.SIGKILL)
        select.select([heir], [], [], 10)
        os.close(heir)
    assert not listed()
    assert os.listdir(place) == []


# --- what it cannot ----------------------------------------------------------------------


def test_viewers_have_it_open_for_reading_and_its_mode_says_so(place):
    ms.register_variables("n", {"x": X}, directory=place)
    (name,) = os.listdir(place)
    assert os.stat(f"{place}/{name}").st_mode & 0o777 == 0o400
    ms.register_variables("n", {"x": X}, directory=place, writable=True)
    (name,) = os.listdir(place)
    assert os.stat(f"{place}/{name}").st_mode & 0o777 == 0o600
    ms.release_variables("n", "x")


def test_a_page_whose_file_was_removed_by_hand_stays_valid_but_cannot_be_found(place, child):
    ms.register_variables("n", {"x": X}, directory=place)
    view = ms.retrieve_views("n", "x")["x"]
    os.unlink(f"{place}/{os.listdir(place)[0]}")
    assert view.sum() == X.sum()
    other = child()
    with pytest.raises(ms.PageNotFoundError, match="was removed"):
        other.run(ATTACH)
    del view
    ms.release_views("n", "x")
    ms.release_variables("n", "x")


@pytest.mark.parametrize("place", ["a\0b", "/nowhere/at/all", "/dev/null", "x" * 5000])
def test_a_place_that_cannot_be_one_is_not_swept(place):
    blocks.Places(blocks.reclaim).use(place)
