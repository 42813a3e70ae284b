"""A page that would not fit is refused before it is made."""

from __future__ import annotations

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.blocks import _room as memory

GB = 10**9


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 8 GB, 2 of them available, and no control group."""
    (tmp_path / "meminfo").write_text(
        "MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable: 2000000 kB\n"
        "SwapTotal: 500000 kB\nSwapFree: 100000 kB\n"
    )
    (tmp_path / "self").write_text("")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUPS_OF_SELF", tmp_path / "self")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "cgroup")
    return tmp_path


def make_group(path, **files):
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / f"memory.{name}").write_text(str(text))


def test_the_machines_room_is_available_memory_and_free_swap(machine):
    assert memory.room() == memory.Room("this machine", 2_100_000 << 10, 8_500_000 << 10)


def test_the_tightest_of_nested_groups_counts(machine):
    (machine / "self").write_text("0::/user/job\n")
    make_group(machine / "cgroup/user", max=GB, current=GB - 100, stat="inactive_file 60\nanon 1\n")
    make_group(machine / "cgroup/user/job", max="max", current=5, stat="inactive_file 0\n")
    assert memory.room() == memory.Room("control group user", 160, GB)


def test_groups_of_the_first_version_count_too(machine):
    (machine / "self").write_text("3:cpu:/x\n4:memory:/job\n0::/\n")
    make_group(
        machine / "cgroup/memory/job",
        limit_in_bytes=GB, usage_in_bytes=GB // 2, stat="total_inactive_file 0\n",
    )  # fmt: skip
    assert memory.room().free_bytes == GB // 2


def test_a_group_without_files_is_no_limit(machine):
    (machine / "self").write_text("0::/nowhere\n")
    assert memory.room().where == "this machine"


def test_an_array_that_does_not_fit_is_refused_with_the_numbers_and_nothing_stays(machine):
    (machine / "meminfo").write_text(
        "MemTotal: 40000 kB\nMemAvailable: 30000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"
    )
    with ms.Namespace("study") as study:
        study["small"] = np.zeros(1000)
        with pytest.raises(ms.NotEnoughMemoryError) as caught:
            study["large"] = np.zeros(4_000_000)
        assert isinstance(caught.value, MemoryError)
        assert "study.large: it needs 32.0 MB" in str(caught.value)
        assert "this machine has 30.7 MB of 41.0 MB free" in str(caught.value)
        assert "shared pages hold 8.0 kB (study.small 8.0 kB)" in str(caught.value)
        assert list(study) == ["small"]


def test_several_arrays_are_added_up(machine):
    (machine / "meminfo").write_text(
        "MemTotal: 40000 kB\nMemAvailable: 30000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"
    )
    with pytest.raises(ms.NotEnoughMemoryError, match="it needs 40"):
        ms.register_variables("study", {"a": np.zeros(2_500_000), "b": np.zeros(2_500_000)})
    assert ms.page_list() == []
