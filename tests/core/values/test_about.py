"""What lists say: what lists show fits a slot, whatever the value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memshare_jupyter.core.values._about import About, unpack

words = st.text(st.characters(blacklist_characters="\x1f", blacklist_categories=["Cs"]))
shapes = st.none() | st.lists(st.integers(0, 2**62), max_size=6).map(tuple)
summaries = st.builds(About, words, words, st.sampled_from(["", "C", "F", "other"]), shapes)


@given(summaries)
def test_a_summary_that_fits_comes_back_whole(summary):
    assert unpack(summary.pack(10_000)) == summary


@given(summaries, st.integers(0, 200))
def test_a_summary_never_takes_more_than_its_room(summary, room):
    assert len(summary.pack(room)) <= room


def test_a_long_dtype_is_cut_before_the_shape():
    packed = About("array", "[('field', '<f8')]" * 30, "C", (3, 4)).pack(100)
    assert unpack(packed) == About("array", ("[('field', '<f8')]" * 30)[:40] + "...", "C", (3, 4))


@pytest.mark.parametrize(
    "damaged", [b"", b"array", b"array\x1ff8\x1fC", b"a\x1fb\x1fc\x1fd", b"\xff"]
)
def test_a_damaged_summary_is_read_as_far_as_it_goes(damaged):
    found = unpack(damaged)
    assert found == About(damaged.decode(errors="replace").split("\x1f")[0])
