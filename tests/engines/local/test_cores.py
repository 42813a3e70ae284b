"""How many engines a local cluster gets: cores, quotas of control groups, and memory count."""

from __future__ import annotations

import os

import pytest

from memshare_jupyter.core.blocks import _room as room
from memshare_jupyter.engines.local import _cores as cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of so many cores, whose control groups are files of the test."""
    monkeypatch.setattr(cores, "_GROUPS", tmp_path)
    monkeypatch.setattr(cores, "_GROUPS_OF_SELF", tmp_path / "self")
    monkeypatch.setattr(cores.blocks, "room", lambda: room.Room("this machine", 1 << 40, 1 << 40))

    def make(count, groups="", **files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(count)))
        (tmp_path / "self").write_text(groups)
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return make


@pytest.mark.parametrize(("count", "engines"), [(1, 1), (2, 2), (3, 2), (8, 7), (64, 63)])
def test_default_is_one_less_than_the_usable_cores_but_two_of_two(machine, count, engines):
    machine(count)
    assert cores.default_engines() == engines


@pytest.mark.parametrize(
    ("quota", "engines"),
    [("max 100000", 63), ("200000 100000", 2), ("50000 100000", 1), ("450000 100000", 4)],
)
def test_a_quota_of_a_control_group_counts_as_cores(machine, quota, engines):
    machine(64, "0::/pod/box\n", pod__cpu_dot_max=quota)  # that of the group around ours
    assert cores.default_engines() == engines


def test_so_does_one_of_the_first_version_and_minus_one_is_none(machine):
    quota = {"cpu__pod__cpu_dot_cfs_period_us": "100000"}
    machine(64, "4:cpu,cpuacct:/pod\n", cpu__pod__cpu_dot_cfs_quota_us="-1", **quota)
    assert cores.default_engines() == 63
    machine(64, "4:cpu,cpuacct:/pod\n", cpu__pod__cpu_dot_cfs_quota_us="200000", **quota)
    assert cores.default_engines() == 2


def test_there_is_memory_for_every_engine(machine, monkeypatch):
    machine(64)
    for free, engines in [(1 << 30, 10), (1 << 20, 1)]:
        monkeypatch.setattr(cores.blocks, "room", lambda n=free: room.Room("a group", n, 1 << 40))
        assert cores.default_engines() == engines
