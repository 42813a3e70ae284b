"""The directories of clusters: those that nobody is left to remove go with the next cluster."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from memshare_jupyter.engines.local import _directory


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_a_cluster_left_that_was_killed_whole_is_swept_and_a_living_one_stays(temporary):
    dead = temporary / "memshare-cluster-dead"
    (dead / "security").mkdir(parents=True)
    theirs = temporary / "another-thing"
    theirs.mkdir()
    first, first_lock = _directory.make_directory()
    second, second_lock = _directory.make_directory()
    assert sorted(temporary.iterdir()) == sorted([theirs, Path(first), Path(second)])
    os.close(first_lock)  # as the kernel does when its tether is killed
    third, third_lock = _directory.make_directory()
    assert sorted(temporary.iterdir()) == sorted([theirs, Path(second), Path(third)])
    os.close(second_lock)
    os.close(third_lock)


def test_a_link_is_not_followed(temporary, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "file").touch()
    (temporary / "memshare-cluster-link").symlink_to(elsewhere)
    _, lock = _directory.make_directory()
    os.close(lock)
    assert (elsewhere / "file").exists()
