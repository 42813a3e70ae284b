"""A page that would not fit is refused before it is made."""

from __future__ import annotations

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.blocks import _reserve
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
    _reserve._allowance.reset()
    yield tmp_path
    _reserve._allowance.reset()


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


@pytest.mark.parametrize(
    ("stat", "free"),
    [
        ("inactive_file 100\n", 100),
        ("inactive_file 100\nactive_file 200\nslab_reclaimable 30\nshmem 500\n", 330),
        (f"active_file {GB}\ninactive_file {GB}\n", GB),
    ],
)
def test_what_the_kernel_takes_back_from_files_counts_as_free(machine, stat, free):
    (machine / "self").write_text("0::/job\n")
    make_group(machine / "cgroup/job", max=GB, current=GB, stat=stat)
    assert memory.room().free_bytes == free


def test_files_count_as_free_in_groups_of_the_first_version_too(machine):
    (machine / "self").write_text("4:memory:/job\n")
    make_group(
        machine / "cgroup/memory/job",
        limit_in_bytes=GB, usage_in_bytes=GB, stat="total_inactive_file 5\ntotal_active_file 6\n",
    )  # fmt: skip
    assert memory.room().free_bytes == 11


@pytest.mark.parametrize(("most", "high", "limit"), [(GB, GB // 4, GB // 4), ("max", GB, GB)])
def test_where_the_kernel_begins_to_throttle_is_a_limit_as_well(machine, most, high, limit):
    (machine / "self").write_text("0::/job\n")
    make_group(machine / "cgroup/job", max=most, high=high, current=100, stat="")
    assert memory.room() == memory.Room("control group job", limit - 100, limit)


def test_a_limit_of_the_address_space_is_named_as_that(child):
    one = child("import resource\nfrom memshare_jupyter.core.blocks import _room")
    one.run(
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000, used + 50_000_000))"
    )
    with pytest.raises(ms.NotEnoughMemoryError, match=r"address space .*ulimit -v.*raise that"):
        one.run("ms.Namespace('n').empty('x', (80_000_000,), 'u1')")
    assert one.eval("_room.room().limit_bytes - used") == 50_000_000


def test_a_limit_of_file_sizes_is_named_as_that(child):
    one = child("import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)")
    one.run("ms.page_list(); x = np.zeros(3_000_000)")
    one.run("resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))")
    with pytest.raises(ms.NotEnoughMemoryError, match=r"no more than 1.0 MB .*ulimit -f"):
        one.run("ms.register_variables('n', {'x': x})")
    one.run("resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)")
    one.run("ms.register_variables('n', {'x': x}); ms.release_variables('n', 'x')")


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
