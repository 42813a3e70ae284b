"""Filling by huge pages gives the same page, whatever the layout of the value."""

from __future__ import annotations

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.blocks import _huge as huge

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
    monkeypatch.setattr(huge, "SETTING", tmp_path / "shmem_enabled")
    monkeypatch.setattr(huge, "_LEAST_BYTES", 0)
    huge._willing.cache_clear()
    yield
    huge._willing.cache_clear()


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
    huge.SETTING.write_text(text)
    assert huge.worth_asking(1 << 30) is worth


def test_a_system_without_the_setting_is_not_asked(willing):
    huge.SETTING.unlink()
    assert huge.setting() == "unknown"
    assert not huge.worth_asking(1 << 30)
