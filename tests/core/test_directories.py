"""What a directory is trusted with, and what is known of its file system."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from memshare_jupyter.core import _directories
from memshare_jupyter.errors import PageNotFoundError

MOUNTS = """\
22 1 0:1 / / rw - ext4 /dev/vda rw
23 22 0:2 / /mnt/far\\040away rw - nfs4 host:/x rw
24 22 0:3 / /mnt/far\\040away/here rw - tmpfs tmpfs rw
25 22 0:4 / /mnt/twice rw - ext4 /dev/vdb rw
26 25 0:5 / /mnt/twice rw - nfs host:/y rw
"""


@pytest.mark.parametrize(
    ("path", "far"),
    [
        ("/home/x", False),
        ("/mnt/far away", True),
        ("/mnt/far away/x/y", True),
        ("/mnt/far awayside", False),
        ("/mnt/far away/here/x", False),
        ("/mnt/twice/x", True),  # what was mounted last is what is seen
    ],
)
def test_the_innermost_mount_says_whether_a_path_leads_to_another_host(
    tmp_path, monkeypatch, path, far
):
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(_directories, "_MOUNTS", tmp_path / "mountinfo")
    assert _directories.over_network(path) is far


def test_without_proc_no_file_system_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(_directories, "_MOUNTS", tmp_path / "nothing")
    assert _directories.file_system(tmp_path) == ""
    assert not _directories.over_network(str(tmp_path))


@pytest.mark.parametrize(
    ("mode", "usable"), [(0o700, True), (0o1777, True), (0o777, False), (0o770, False)]
)
def test_a_directory_is_usable_if_nobody_else_can_replace_what_is_in_it(tmp_path, mode, usable):
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(mode)
    assert _directories.usable(tmp_path / "d") is usable


def test_what_is_no_directory_is_not_usable(tmp_path):
    (tmp_path / "f").touch()
    assert not _directories.usable(tmp_path / "f")
    assert not _directories.usable(tmp_path / "nothing")


def test_a_directory_that_cannot_be_looked_at_is_not_safe(tmp_path):
    assert "cannot be looked at" in _directories.why_unsafe(tmp_path / ("x" * 300))


def test_a_mode_that_was_there_before_is_not_changed(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o750)
    assert _directories.make(tmp_path / "d") == ""
    assert stat.S_IMODE(os.stat(tmp_path / "d").st_mode) == 0o750


def test_where_all_else_is_read_only_temporary_files_go_into_shared_memory(monkeypatch, tmp_path):
    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    assert _directories.temporary() == Path(tempfile.gettempdir())
    monkeypatch.setattr(_directories, "for_temporary_files", nowhere)
    monkeypatch.setattr(_directories, "SHARED", tmp_path)
    assert _directories.temporary() == tmp_path
    monkeypatch.setattr(_directories, "SHARED", tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="set TMPDIR"):
        _directories.temporary()


def test_no_lock_of_another_module_can_hang_a_look_for_a_page(child):
    one = child("import tempfile; tempfile.tempdir = None; tempfile._once_lock.acquire()")
    with pytest.raises(PageNotFoundError):
        one.run("ms.retrieve_views('n', 'nothing')", timeout_s=10)


@pytest.mark.parametrize("name", ["TMPDIR", "TEMP", "TMP", ""])
def test_temporary_files_lie_where_python_has_them(monkeypatch, tmp_path, name):
    for other in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    if name:
        monkeypatch.setenv(name, str(tmp_path))
    assert _directories.for_temporary_files() == Path(tempfile.gettempdir())
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nothing"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert _directories.for_temporary_files() == Path(tempfile.gettempdir())
