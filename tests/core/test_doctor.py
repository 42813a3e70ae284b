"""What the doctor finds, and what it says to do."""

from __future__ import annotations

import os
import sys

import pytest

import memshare_jupyter as ms
from memshare_jupyter.core import doctor
from memshare_jupyter.core.blocks import _room as memory
from memshare_jupyter.core.doctor import Check, examine, render
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
    monkeypatch.setattr(memory, "room", lambda: memory.Room("this machine", 5, 100))
    check = found("memory")
    assert check.state == "warn"
    assert "MEMSHARE_DIR" in check.advice


def test_sessions_are_counted_and_named(child):
    other = child("process.registry().label('engine 7'); ms.register_variables('n', {'x': [1]})")
    check = found("sessions")
    assert "besides this one" in check.found
    assert f"{other.pid} engine 7" in check.found


def test_a_session_of_another_version_is_a_warning(child):
    other = child("session.VERSION += 1; ms.register_variables('n', {'x': [1]})")
    check = found("other versions")
    assert check.state == "warn"
    assert check.found == f"{other.pid} cannot be seen here"
    other.exit()  # by itself: nobody else can tell whether a process of that version lives


def test_the_lock_of_this_process_survives_being_examined(child):
    ms.register_variables("n", {"x": [1]})
    examine()
    assert child().eval("[p.name for p in ms.snapshot().pages]") == ["n.x"]
    ms.release_variables("n", "x")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_runtime_directory_of_another_user_is_reported_and_not_raised(tmp_path, interpreter):
    (tmp_path / "memshare").mkdir()
    os.chown(tmp_path / "memshare", 65534, 65534)
    said = interpreter(
        f"import os; os.environ['XDG_RUNTIME_DIR'] = {str(tmp_path)!r}\n"
        "from memshare_jupyter.core.doctor import *; print(render(examine()))"
    )
    assert "fail  runtime" in said
    assert "belongs to user 65534" in said


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
    assert "only Linux has memfds" in next(doctor._system()).advice


@pytest.fixture(autouse=True)
def session_ends():
    yield
    process.close()
