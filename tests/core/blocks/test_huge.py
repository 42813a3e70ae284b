"""Filling by huge pages gives the same page, whatever the layout of the value."""

from __future__ import annotations

import mmap
import os

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.blocks import _file, _filling

VALUES = {
    "C": np.arange(300_006.0).reshape(7, -1)[:, :-1],
    "F": np.asfortranarray(np.arange(12_000.0).reshape(30, 400)),
    "strided": np.arange(90_000)[::3],
    "empty": np.zeros((0, 3)),
    "list": [np.arange(5), np.ones((100, 100), order="F"), "text"],
}


@pytest.fixture
def willing(monkeypatch, tmp_path):
    """A system that gives huge pages to shared memory that asks for them."""
    (tmp_path / "shmem_enabled").write_text("always within_size [advise] never deny force\n")
    monkeypatch.setattr(_filling, "SETTING", tmp_path / "shmem_enabled")
    monkeypatch.setattr(_filling, "_LEAST_BYTES", 0)
    _filling._willing.cache_clear()
    yield
    _filling._willing.cache_clear()


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_a_page_filled_by_two_threads_is_the_same(willing, value):
    with ms.Namespace("study") as study:
        study["v"] = value
        got = study["v"]
        if isinstance(value, list):
            np.testing.assert_array_equal(got[1], value[1])
            assert got[2] == "text"
        else:
            np.testing.assert_array_equal(got, value)


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("[always] never", True),
        ("always [within_size]", True),
        ("advise [never]", False),
        ("", False),
    ],
)
def test_it_is_tried_only_where_the_system_is_willing(willing, text, worth):
    _filling.SETTING.write_text(text)
    assert _filling.worth_asking(1 << 30) is worth


def test_a_system_without_the_setting_is_not_asked(willing):
    _filling.SETTING.unlink()
    assert _filling.setting() == "unknown"
    assert not _filling.worth_asking(1 << 30)


# --- in slices ---------------------------------------------------------------------------


class Parts:
    """A part of 10,007 bytes, and one of 3 behind it."""

    size_bytes = 10_064 + 3
    large = bytes(range(251)) * 40 + b"unequal"

    def blocks(self):
        yield 0, self.large[:10_007]
        yield 10_064, b"end"


@pytest.fixture
def slices(monkeypatch):
    monkeypatch.setattr(_filling, "_SLICE_BYTES", 1000)
    monkeypatch.setattr(_filling, "_LEAST_BYTES", 5000)


def test_what_is_large_is_copied_in_slices_each_of_which_is_told(slices):
    parts, told = Parts(), []
    mapping = mmap.mmap(-1, 16384)
    _filling.copy_into(mapping, parts, told.append)
    assert mapping[:10_007] == parts.large[:10_007]
    assert mapping[10_064:10_067] == b"end"
    assert (sum(told), max(told)) == (10_010, 1000)


def test_what_is_large_is_written_in_slices_each_of_which_is_told(slices, tmp_path):
    parts, told = Parts(), []
    block = _file.create(bytes(16), 16384, str(tmp_path / "p"))
    _filling.fill(block, parts, told.append)
    assert os.pread(block.fd, 10_007, 0) == parts.large[:10_007]
    assert os.pread(block.fd, 3, 10_064) == b"end"
    assert (sum(told), max(told)) == (10_010, 1000)
    block.close()


def test_an_interrupt_between_two_slices_ends_the_copy(slices):
    mapping = mmap.mmap(-1, 16384)
    told = []

    def interrupt(size_bytes):
        told.append(size_bytes)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _filling.copy_into(mapping, Parts(), interrupt)
    assert mapping[3000:] == bytes(16384 - 3000)


def test_a_child_forked_meanwhile_does_not_have_what_is_half_copied():
    mapping = mmap.mmap(-1, mmap.PAGESIZE)  # called so in maps, for being shared

    def mapped():
        with open("/proc/self/maps") as maps:
            return maps.read().count("/dev/zero")

    def mapped_in_a_child():
        if (pid := os.fork()) == 0:
            os._exit(mapped())
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    _filling.hide(mapping)
    assert mapped_in_a_child() == mapped() - 1
    _filling.show(mapping)
    assert mapped_in_a_child() == mapped()
