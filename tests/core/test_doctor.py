"""What the doctor finds, and what it says to do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

import memshare_jupyter as ms
from memshare_jupyter.core import _proc, blocks, ledger
from memshare_jupyter.core.blocks import _ability
from memshare_jupyter.core.blocks import _room as memory
from memshare_jupyter.core.doctor import Check, examine, render
from memshare_jupyter.core.doctor import _examine as doctor
from memshare_jupyter.core.doctor import _surroundings as around
from memshare_jupyter.core.ledger import _elsewhere
from memshare_jupyter.core.registry import _process as process


def found(name):
    return next(check for check in examine() if check.name == name)


def test_on_a_sound_system_everything_is_in_order_and_nothing_stays(listed, truth):
    checks = examine()
    assert {check.name for check in checks if check.state == "fail"} == set()
    assert len({check.name for check in checks}) == len(checks) >= 9
    assert all(check.found for check in checks)
    assert listed() == truth() == {}


def test_a_child_process_really_attaches(monkeypatch):
    assert found("attach").state == "ok"
    monkeypatch.setattr(doctor, "_ATTACH", "raise SystemExit('cannot begin')")
    check = found("attach")
    assert (check.state, check.found) == ("fail", "a child process said: cannot begin")
    monkeypatch.setattr(doctor, "_ATTACH", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "_PATIENCE_S", 0.1)
    assert "did not attach within" in found("attach").found


def test_files_are_named_with_their_directory_and_its_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMSHARE_DIR", str(tmp_path / "pages"))
    assert found("backend").found == f"file in {tmp_path}/pages, because MEMSHARE_DIR is set"
    assert found("attach").state == "ok"
    assert str(tmp_path) in found("directory of files").found


def test_a_directory_that_others_can_change_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMSHARE_DIR", str(tmp_path / "pages"))
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages").chmod(0o777)
    assert found("directory of files").state == "fail"
    assert found("attach").state == "fail"


def test_a_socket_is_named_with_its_reason(child):
    other = child(
        "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\nfrom memshare_jupyter.core import doctor"
    )
    (backend,) = other.eval("[c.found for c in doctor.examine() if c.name == 'backend']")
    assert backend == "memfd, which others reach through a socket, too: the process is not dumpable"
    other.exit()


def test_little_memory_is_a_warning_with_a_way_out(monkeypatch):
    monkeypatch.setattr(blocks, "room", lambda: memory.Room("this machine", 5, 100))
    check = found("memory")
    assert check.state == "warn"
    assert "MEMSHARE_DIR" in check.advice


def test_sessions_are_counted_and_named(child):
    other = child(
        "process.registry().label('engine 7'); ms.register_variables('begun', {'here': [1]})"
    )
    check = found("sessions")
    assert "besides this one" in check.found
    assert f"{other.pid} engine 7" in check.found


def test_a_session_of_another_version_is_a_warning(child):
    other = child("session.VERSION += 1; ms.register_variables('begun', {'here': [1]})")
    check = found("other versions")
    assert check.state == "warn"
    assert check.found == f"{other.pid} cannot be seen here"
    other.exit()  # nobody else may remove what it wrote


def test_the_lock_of_this_process_survives_being_examined(child):
    ms.register_variables("n", {"x": [1]})
    examine()
    assert child().eval("[p.name for p in ms.snapshot().pages]") == ["n.x"]
    ms.release_variables("n", "x")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_runtime_directory_that_another_user_made_first_is_passed_over(tmp_path, interpreter):
    (tmp_path / "memshare").mkdir()
    os.chown(tmp_path / "memshare", 65534, 65534)
    said = interpreter(
        f"import os; os.environ['XDG_RUNTIME_DIR'] = {str(tmp_path)!r}\n"
        "from memshare_jupyter.core.doctor import *; print(render(examine()))"
    )
    assert f"warn  runtime directory   {tmp_path}/memshare-1 " in said
    assert f"{tmp_path}/memshare is not used: it belongs to user 65534; only its owner or" in said
    assert "ok    attach" in said


def test_text_has_a_line_for_each_check_and_advice():
    checks = [Check("a", "ok", "fine"), Check("longer", "warn", "so so", "do this")]
    assert render(checks).splitlines() == [
        "ok    a       fine",
        "warn  longer  so so",
        "              -> do this",
    ]
    assert render([]) == ""


def test_another_system_is_told_what_it_lacks(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "only Linux has memfds" in next(around.system()).advice


# --- where there is less -----------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch):
    """Let a test look at the user's own runtime directory; leave none that was not there."""
    yield monkeypatch
    with contextlib.suppress(OSError):
        ledger.runtime_directory().rmdir()  # if it is empty


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_variable_that_leads_to_somebody_elses_directory_is_a_warning(tmp_path, elsewhere):
    os.chown(tmp_path, 65534, 65534)
    elsewhere.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    checks = {check.name: check for check in doctor._runtime()}
    check = checks["XDG_RUNTIME_DIR"]
    assert (check.state, check.found) == (
        "warn", f"{tmp_path} is not used: it belongs to user 65534"
    )  # fmt: skip
    assert "MEMSHARE_RUNTIME_DIR" in check.advice


def test_that_the_directory_of_a_login_is_not_used_is_no_fault(elsewhere):
    elsewhere.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    (check,) = (check for check in doctor._runtime() if check.name == "XDG_RUNTIME_DIR")
    assert (check.state, check.advice) == ("ok", "")
    assert "is that of a login session" in check.found


def test_processes_that_are_out_of_sight_are_named_with_their_directory(child, tmp_path):
    other = child(f"os.environ['MEMSHARE_RUNTIME_DIR'] = {str(tmp_path / 'r')!r}")
    other.run("ms.register_variables('begun', {'here': [1]})")
    _elsewhere._seen = (-1e9, tmp_path, [])
    check = found("other directories")
    assert check.state == "warn"
    assert f"{other.pid} in {tmp_path}/r" in check.found
    other.exit()


def test_that_memfds_are_refused_is_told_with_the_reason(monkeypatch):
    monkeypatch.setattr(_ability, "_known", ["the system refuses them (Operation not permitted)"])
    check = found("backend")
    assert check.state == "warn"
    assert "because of memfds the system refuses them (Operation not permitted)" in check.found


def test_a_process_that_cannot_be_opened_is_named_with_the_way_out(child, monkeypatch):
    owner = child("ms.register_variables('n', {'x': [1]})")
    assert found("reach").state == "ok"
    opens = _proc.opens
    monkeypatch.setattr(_proc, "opens", lambda pid: pid != owner.pid and opens(pid))
    check = found("reach")
    assert check.state == "warn"
    assert str(owner.pid) in check.found
    assert "MEMSHARE_SOCKET=1" in check.advice
    owner.run("os.environ['MEMSHARE_SOCKET'] = '1'; process.close()")
    owner.run("ms.register_variables('n', {'x': [1]})")
    assert found("reach").state == "ok"
    owner.exit()


def test_from_a_user_namespace_the_doctor_says_who_cannot_be_opened(child, child_environment):
    owner = child("ms.register_variables('n', {'x': [1]})")
    code = "from memshare_jupyter.core.doctor import *; print(render(examine()))"
    command = ["unshare", "--user", "--map-current-user", sys.executable, "-c", code]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True)
    if "unshare failed" in done.stderr:
        pytest.skip(f"no user namespace can be made: {done.stderr.strip()}")
    assert "memfd, which others reach through a socket, too: the process lives in a user" in (
        done.stdout
    ), done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line[6:].startswith("reach "))
    assert line.startswith("warn")
    assert str(owner.pid) in line


def test_a_loopback_that_is_down_is_a_warning(child_environment):
    code = (
        "from memshare_jupyter.core.doctor._surroundings import loopback\n"
        "check = next(loopback()); print(check.state, check.advice)"
    )
    command = ["unshare", "--net", sys.executable, "-c", code]
    done = subprocess.run(command, env=child_environment, capture_output=True, text=True)
    if "unshare failed" in done.stderr:
        pytest.skip(f"no network namespace can be made: {done.stderr.strip()}")
    assert done.stdout.startswith("warn the engines of a local cluster need it"), done.stderr
    assert next(around.loopback()).state == "ok"


def test_where_no_temporary_files_can_be_the_place_in_their_stead_is_named(monkeypatch, tmp_path):
    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    assert next(around.temporary_files()).state == "ok"
    monkeypatch.setattr(around._directories, "for_temporary_files", nowhere)
    monkeypatch.setattr(around._directories, "SHARED", tmp_path)
    check = next(around.temporary_files())
    assert check.state == "warn"
    assert f"{tmp_path} is used" in check.found
    monkeypatch.setattr(around._directories, "SHARED", tmp_path / "nothing")
    assert next(around.temporary_files()).state == "fail"


@pytest.fixture(autouse=True)
def session_ends():
    yield
    process.close()
