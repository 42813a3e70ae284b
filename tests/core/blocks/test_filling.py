"""Pages filled in place and from files: no second copy of the data at any time."""

from __future__ import annotations

import gc
import pickle
import tracemalloc

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.blocks import _filling as filling
from memshare_jupyter.core.registry import _process as process

SLICE = filling._SLICE_BYTES


@pytest.fixture
def study():
    with ms.Namespace("study") as namespace:
        yield namespace


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(3, 4), 5, (), (0, 3), (2, 3, 4)])
def test_an_empty_page_has_the_shape_dtype_and_order_asked_for(study, shape, order):
    out = study.empty("out", shape, "f4", order)
    expected = np.zeros(shape, "f4", order)
    assert (out.shape, out.dtype) == (expected.shape, expected.dtype)
    assert out.strides == expected.strides or not expected.size
    np.testing.assert_array_equal(out, expected)
    assert out.flags.writeable


def test_what_the_owner_writes_others_see_and_cannot_change(study, child):
    out = study.empty("out", (2, 3))
    other = child("out = ms.Namespace('study')['out']")
    out[:] = np.arange(6).reshape(2, 3)
    out[1] += 10
    assert other.eval("out.tolist()") == [[0, 1, 2], [13, 14, 15]]
    with pytest.raises(ValueError, match="read-only"):
        other.run("out[0, 0] = 1")
    with pytest.raises(ms.ReadOnlyPageError):
        other.run("ms.retrieve_views('study', 'out', 'r+')")


def test_the_owners_array_is_sent_as_a_view_for_reading(study, child):
    out = study.empty("out", 4)
    assert len(pickle.dumps(out)) < 1000
    back = pickle.loads(pickle.dumps(out[1:]))
    out[2] = 5
    assert back[1] == 5
    assert not back.flags.writeable


def test_the_owners_array_outlives_the_release_and_counts_until_it_is_gone(study, truth, listed):
    out = study.empty("out", 1000)
    del study["out"]
    out[:] = 3
    assert out.sum() == 3000
    assert [page.state for page in ms.snapshot().pages] == ["draining"]
    assert listed() == truth()
    del out
    gc.collect()
    assert ms.snapshot().pages == ()
    assert truth() == {}


def test_collecting_says_that_the_owners_array_still_uses_its_page(study):
    out = study.empty("out", 10)
    assert process.registry().gc(study.name) == ([f"{study.name}.out"], [f"{study.name}.out"])
    del out
    assert process.registry().gc(study.name) == ([], [])


def test_the_owners_array_outlives_a_replacement(study, truth, listed):
    old = study.empty("out", 10)
    old[:] = 1
    new = study.empty("out", 10)
    new[:] = 2
    assert (old.sum(), new.sum(), study["out"].sum()) == (10, 20, 20)
    assert listed() == truth()
    del old
    gc.collect()
    assert listed() == truth()
    assert new.sum() == 20


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("out", (2, -1)), ValueError),
        (("out", 2.5), TypeError),
        (("out", 2, object), ms.UnsupportedValueError),
        (("out", 2, float, "K"), ValueError),
        (("a/b", 2), ms.InvalidNameError),
        (("out", 10**15), ms.NotEnoughMemoryError),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_stays(study, arguments, error):
    with pytest.raises(error):
        study.empty(*arguments)
    assert ms.page_list() == []


ARRAYS = {
    "C": np.arange(12.0).reshape(3, 4),
    "F": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "one value": np.array(5, ">i2"),
    "strings": np.array(["a", "bcd"]),
    "records": np.array([(1, 2.5)], [("a", "i4"), ("ü", "f8")]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_a_file_becomes_a_page(study, tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    ms.register_file("study", "x", tmp_path / "x.npy")
    there = study["x"]
    np.testing.assert_array_equal(there, array)
    assert (there.dtype, there.flags.f_contiguous) == (array.dtype, array.flags.f_contiguous)
    (page,) = ms.snapshot().pages
    assert (page.kind, page.shape, page.dtype) == ("array", array.shape, str(array.dtype))


def test_a_file_is_read_without_a_copy_of_it_in_between(study, tmp_path):
    np.save(tmp_path / "x.npy", np.ones(8_000_000))
    tracemalloc.start()
    try:
        ms.register_file("study", "x", str(tmp_path / "x.npy"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20
    assert study["x"].sum() == 8_000_000


def damaged(tmp_path, content):
    path = tmp_path / "x.npy"
    np.save(path, np.ones(100))
    path.write_bytes(content(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    "content",
    [lambda b: b[:-1], lambda b: b[:50], lambda b: b"", lambda b: b"no array", lambda b: b"PK" + b],
    ids=["cut short", "half a header", "empty", "text", "zip"],
)
def test_what_is_no_npy_file_is_refused_and_nothing_stays(tmp_path, content):
    with pytest.raises(ms.UnsupportedValueError, match=r"must be a \.npy file of plain data"):
        ms.register_file("study", "x", damaged(tmp_path, content))
    assert ms.page_list() == []


def test_a_file_of_objects_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(ms.UnsupportedValueError, match="Python objects"):
        ms.register_file("study", "x", tmp_path / "x.npy")


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        ms.register_file("study", "x", tmp_path / "nope.npy")


def test_an_array_without_elements_comes_from_a_file_too(study, tmp_path):
    np.save(tmp_path / "x.npy", np.empty((0, 3)))
    ms.register_file("study", "x", tmp_path / "x.npy")
    assert study["x"].shape == (0, 3)


def test_small_parts_are_joined_and_every_byte_is_in_its_place():
    order = np.random.default_rng(0)
    for _ in range(50):
        parts, at = [], int(order.integers(0, 100))
        for size in order.choice([0, 1, 60, 4095, 4096, 9000, 70_000], 60).tolist():
            parts.append((at, order.bytes(size)))
            at += size + int(order.choice([0, 3, 64, 5000]))
        expected, found = bytearray(at), bytearray(at)
        for target, some in ((expected, parts), (found, filling._together(parts))):
            for offset, part in some:
                target[offset : offset + len(part)] = part
        assert found == expected
    many = [(64 * i, b"x" * 16) for i in range(20_000)]
    assert len(list(filling._together(many))) == 2


class Asked:
    """A mapping that notes which parts of it are asked for."""

    def __init__(self, size_bytes, error=None):
        self.size_bytes, self.error = size_bytes, error
        self.parts = []

    def __len__(self):
        return self.size_bytes

    def madvise(self, _advice, start, length):
        self.parts.append((start, length))
        if self.error:
            raise self.error


@pytest.mark.parametrize("size_bytes", [1, SLICE, SLICE + 1, 5 * SLICE - 3])
def test_memory_is_asked_for_in_slices_between_which_others_run(size_bytes):
    asked = Asked(size_bytes)
    filling.populate(asked)
    assert max(length for _, length in asked.parts) <= SLICE
    assert [start for start, _ in asked.parts] == list(range(0, size_bytes, SLICE))
    assert sum(length for _, length in asked.parts) == size_bytes


def test_a_system_that_cannot_be_asked_is_asked_once():
    asked = Asked(3 * SLICE, OSError(22, "Invalid argument"))
    filling.populate(asked)
    assert len(asked.parts) == 1
