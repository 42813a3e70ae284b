"""One runtime directory for a user on a host, however a process was started."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys

import pytest

import memshare_jupyter as ms
from memshare_jupyter.core import _directories
from memshare_jupyter.core.ledger import _elsewhere, _runtime
from memshare_jupyter.errors import NotEnoughMemoryError, PageNotFoundError, RegistryCorruptError

UID = os.getuid()
NOBODY = 65534
NAME = f"memshare-{UID}"
root_only = pytest.mark.skipif(UID != 0, reason="only root can give a file away (CAP_CHOWN)")


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A host whose only shared directories are two of ours, without any variable set."""
    for name in ("shm", "tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o1777)
    monkeypatch.setattr(_runtime, "_WITHOUT_LOGIN", (tmp_path / "shm", tmp_path / "tmp"))
    monkeypatch.setattr(_runtime, "_chosen", {})
    monkeypatch.setattr(_elsewhere, "_seen", (-1e9, tmp_path, []))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    return tmp_path / "shm"


def somebody_elses(path):
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY, NOBODY)


def linked(path):
    path.symlink_to(path.parent)


def open_to_all(path):
    path.mkdir()
    path.chmod(0o777)


# --- the choice --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, "", f"/run/user/{UID}", f"/var/run/user/{UID}/", "/nonexistent", "run"]
)
def test_a_login_or_none_makes_no_difference(base, monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert _runtime.runtime_directory() == base / NAME


def test_a_variable_that_somebody_set_to_a_directory_of_theirs_counts(base, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert _runtime.runtime_directory() == tmp_path / "memshare"


def test_our_own_variable_comes_before_all_others(base, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("MEMSHARE_RUNTIME_DIR", str(tmp_path / "chosen"))
    assert _runtime.runtime_directory() == tmp_path / "chosen"


@root_only
def test_somebody_elses_directory_is_not_used_and_said_why(base, monkeypatch, tmp_path):
    os.chown(tmp_path, NOBODY, NOBODY)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert _runtime.runtime_directory() == base / NAME
    assert _runtime.why_not_used(str(tmp_path)) == f"belongs to user {NOBODY}"


SQUATTED = {
    "a file": lambda path: path.touch(),
    "a pipe": os.mkfifo,
    "a link": linked,
    "a directory open to all": open_to_all,
    "somebody else's directory": pytest.param(somebody_elses, marks=root_only),
}


@pytest.mark.parametrize("squat", SQUATTED.values(), ids=SQUATTED.keys())
def test_a_name_that_is_taken_denies_nothing(base, squat):
    squat(base / NAME)
    squat(base / f"{NAME}-1")
    found = _runtime.runtime_directory()
    assert found == base / f"{NAME}-2"
    _runtime.make_directory(found)
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    assert _runtime.runtime_directory() == found


def test_a_directory_that_others_could_replace_is_passed_over(base):
    base.chmod(0o777)  # without the sticky bit
    assert _runtime.runtime_directory() == base.with_name("tmp") / NAME


def test_what_lies_on_another_host_is_passed_over_while_there_is_something_here(base, monkeypatch):
    real = _directories.file_system

    def network(path):
        return "nfs4" if base in (path, *path.parents) else real(path)

    monkeypatch.setattr(_directories, "file_system", network)
    assert _runtime.runtime_directory() == base.with_name("tmp") / NAME


def test_over_a_network_each_host_has_its_own(base, monkeypatch, tmp_path):
    monkeypatch.setattr(_directories, "file_system", lambda path: "nfs4")
    monkeypatch.setenv("MEMSHARE_RUNTIME_DIR", str(tmp_path / "chosen"))
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read()[:8]
    assert _runtime.runtime_directory() == tmp_path / f"chosen-{boot}"
    monkeypatch.delenv("MEMSHARE_RUNTIME_DIR")
    assert _runtime.runtime_directory() == base / f"{NAME}-{boot}"


@pytest.fixture
def session_in(child):
    """Begin a session in a directory, in a process of its own."""

    def begin(directory):
        one = child(f"os.environ['MEMSHARE_RUNTIME_DIR'] = {str(directory)!r}")
        one.run("ms.register_variables(f'begun{os.getpid()}', {'here': [1]})")
        return one

    return begin


def test_who_comes_later_joins_those_that_had_to_go_elsewhere(base, session_in, monkeypatch):
    squatter = base / NAME
    squatter.touch()
    first = session_in(base / f"{NAME}-1")
    squatter.unlink()
    assert _runtime.runtime_directory() == base / f"{NAME}-1"
    first.exit()
    monkeypatch.setattr(_runtime, "_chosen", {})
    assert _runtime.runtime_directory() == base / NAME


def test_a_choice_stands_until_what_it_lies_in_is_gone(base, session_in, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run))
    before = _runtime.runtime_directory()
    session_in(base / NAME)  # where it would join otherwise
    assert _runtime.still(before) == _runtime.runtime_directory() == before == run / "memshare"
    run.rmdir()
    assert _runtime.still(before) == base / NAME


def test_a_directory_is_made_for_its_user_alone_whatever_the_umask(tmp_path):
    for number, mask in enumerate((0o777, 0o000)):
        before = os.umask(mask)
        try:
            _runtime.make_directory(tmp_path / str(number))
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / str(number)).stat().st_mode) == 0o700


def test_roots_of_two_user_namespaces_each_find_a_directory_of_their_own(
    child_environment, tmp_path
):
    # Both are user 0, in namespaces where the other's files belong to nobody.
    shared = tmp_path / "shm"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "memshare-0").mkdir(mode=0o700)
    if UID == 0:
        os.chown(shared / "memshare-0", 1001, 1001)
    code = (
        "from pathlib import Path; from memshare_jupyter.core.ledger import _runtime as r\n"
        f"r._WITHOUT_LOGIN = (Path({str(shared)!r}),)\n"
        "d = r.runtime_directory(); r.make_directory(d); print(d.name)"
    )
    environment = {k: v for k, v in child_environment.items() if k != "XDG_RUNTIME_DIR"}
    python = [sys.executable, "-c", code]
    command = ["unshare", "--user", "--map-root-user", *python]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "unshare failed" in done.stderr:
        pytest.skip(f"no user namespace can be made: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("memshare-0-1" if UID == 0 else "memshare-0")


# --- who is elsewhere --------------------------------------------------------------------


@pytest.fixture
def elsewhere(base, tmp_path):
    """Say who is elsewhere, as seen from the default directory; not what others do meanwhile."""

    def look():
        _elsewhere._seen = (-1e9, base, [])
        return [one for one in _runtime.elsewhere(base / NAME) if str(tmp_path) in one.directory]

    return look


def anything(image):
    return True


def test_processes_that_list_their_pages_elsewhere_are_named(base, elsewhere, session_in, tmp_path):
    assert elsewhere() == []
    one, two = session_in(tmp_path / "a"), session_in(tmp_path / "a")
    (found,) = elsewhere()
    assert found[:3] == (str(tmp_path / "a"), tuple(sorted((one.pid, two.pid))), False)
    one.kill()
    two.kill()
    assert elsewhere() == []


def test_only_those_are_named_that_have_what_is_not_here(base, elsewhere, session_in, tmp_path):
    one, other = session_in(tmp_path / "a"), session_in(tmp_path / "b")
    one.run("ms.register_variables('somewhere', {'else_': [1]})")
    other.run("ms.register_variables('somewhere', {'other': [1]})")
    assert len(elsewhere()) == 2
    said = _runtime.hint(base / NAME, lambda image: b"somewhereelse_" in image)
    assert said.startswith(f"it is listed by process {one.pid} in {tmp_path}/a, and")
    assert str(other.pid) not in said
    assert f"this process looks in {base / NAME}" in said
    assert "MEMSHARE_RUNTIME_DIR (or XDG_RUNTIME_DIR)" in said
    one.run("ms.release_variables('somewhere', 'else_')")
    assert _runtime.hint(base / NAME, lambda image: b"somewhereelse_" in image) == ""


def test_a_page_that_is_not_found_is_told_to_be_elsewhere(child, session_in, tmp_path):
    one = session_in(tmp_path / "a")
    one.run("ms.register_variables('somewhere', {'else_': np.arange(5)})")
    seeker = child()
    with pytest.raises(
        PageNotFoundError, match=rf"listed by process {one.pid} in {tmp_path}/a, and"
    ):
        seeker.run("ms.retrieve_views('somewhere', 'else_')")
    sent = one.eval("pickle.dumps(ms.Namespace('somewhere')['else_'])")
    with pytest.raises(
        PageNotFoundError, match=rf"listed by process {one.pid} in {tmp_path}/a, and"
    ):
        seeker.run(f"pickle.loads({sent!r})")
    one.exit()


def test_a_squatted_name_hides_nobody_who_came_before(base, elsewhere, session_in):
    there = session_in(base / f"{NAME}-7")
    (found,) = elsewhere()
    assert found[:3] == (str(base / f"{NAME}-7"), (there.pid,), False)


def test_those_that_can_be_seen_are_not_elsewhere(base, elsewhere, session_in):
    session_in(base / NAME)
    assert elsewhere() == []


def test_looking_for_others_costs_nobody_the_lock_that_says_they_live(child):
    ms.register_variables("n", {"x": [1]})
    mine = ms.core.registry._process.registry().session_file.parent
    _elsewhere.living(mine)
    assert child().eval("[p.name for p in ms.snapshot().pages]") == ["n.x"]
    ms.release_variables("n", "x")


def test_a_directory_of_the_same_name_in_another_mount_namespace_is_told_apart(
    child_environment, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    code = (
        "import memshare_jupyter as ms; ms.register_variables('n', {'x': [1]})\n"
        "print(1, flush=True); input()"
    )
    mount = f'mount -t tmpfs tmpfs {run} && chmod 700 {run} && exec "$0" -c "$1"'
    environment = {**child_environment, "XDG_RUNTIME_DIR": str(run)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = ["unshare", "--mount", "sh", "-c", mount, sys.executable, code]
    with subprocess.Popen(command, env=environment, text=True, **pipes) as other:
        if other.stdout.readline() != "1\n":
            pytest.skip(f"no file system can be mounted: {other.stderr.read().strip()}")
        monkeypatch.setattr(_elsewhere, "_seen", (-1e9, run, []))
        said = _runtime.hint(run / "memshare", anything)
        other.communicate("\n")
    assert f"{other.pid} in a {run}/memshare that only its container or job sees" in said


# --- what is wrong with it ---------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_file_system_is_named_and_is_a_lack_of_memory(tmp_path, number):
    with pytest.raises(NotEnoughMemoryError, match=str(tmp_path)) as caught:
        _runtime.raise_if_unusable(OSError(number, os.strerror(number)), tmp_path)
    assert ("is full" in str(caught.value)) is (number != errno.EFBIG)
    assert ("ulimit -f" in str(caught.value)) is (number == errno.EFBIG)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EISDIR, errno.ELOOP, errno.EROFS])
def test_a_file_that_cannot_be_used_is_named_with_the_way_out(tmp_path, number):
    with pytest.raises(RegistryCorruptError, match=f"{tmp_path}/names.lock cannot be used"):
        _runtime.raise_if_unusable(OSError(number, "no"), tmp_path, "names.lock")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOENT, errno.EINVAL])
def test_other_errors_are_left_to_whom_they_concern(tmp_path, number):
    _runtime.raise_if_unusable(OSError(number, "no"), tmp_path)


def test_a_full_file_system_leaves_no_bare_error(child_environment, tmp_path):
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    script = (
        f"mount -t tmpfs -o nr_inodes=1,mode=700 tmpfs {run} && exec {sys.executable} -c "
        "'from pathlib import Path; from memshare_jupyter.core.ledger import _runtime as r\n"
        f'try: r.make_directory(Path("{run}/memshare"))\n'
        "except Exception as e: print(type(e).__name__, e)'"
    )
    command = ["unshare", "--mount", "sh", "-c", script]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    assert done.stdout.startswith("NotEnoughMemoryError")
    assert f"the runtime directory {run}/memshare is full" in done.stdout
