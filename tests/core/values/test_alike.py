"""Lists of many elements of one form: one array in the page, and the same values to everybody."""

from __future__ import annotations

import math

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import Plan

VECTORS = [np.arange(i, i + 5.0) for i in range(40)]


@pytest.fixture
def share():
    """Share a value and return it as others have it."""

    def shared(value):
        ms.register_variables("n", {"x": value})
        return ms.retrieve_views("n", "x")["x"]

    yield shared
    registry().gc()


def is_one_array(value):
    return b'"alike"' in Plan.of(value).descriptor


@pytest.mark.parametrize(
    "value",
    [
        VECTORS,
        [np.full((2, 3), i, np.int16) for i in range(20)],
        [np.array([f"case {i:3}"]) for i in range(20)],
        [np.array([(i, 2.5)], [("a", "i4"), ("b", "f8")]) for i in range(20)],
        [np.arange(10)[::-2] + i for i in range(20)],
        [*np.arange(60.0).reshape(20, 3)],
        list(range(-5, 40)),
        [0.1 * i for i in range(30)] + [math.inf, -0.0],
        [i % 3 == 0 for i in range(30)],
    ],
    ids=["vectors", "matrices", "texts", "records", "strided", "rows", "ints", "floats", "bools"],
)
def test_what_is_alike_is_one_array_and_comes_back_as_it_was(share, value):
    assert is_one_array(value)
    found = share(value)
    assert [type(one) for one in found] == [
        ms.View if isinstance(one, np.ndarray) else type(one) for one in value
    ]
    for one, other in zip(found, value, strict=True):
        np.testing.assert_array_equal(one, other)
        assert math.copysign(1, one) == math.copysign(1, other) if type(one) is float else True
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


@pytest.mark.parametrize(
    "value",
    [
        VECTORS[:5],
        [*VECTORS, np.arange(6.0)],
        [*VECTORS, np.arange(5)],
        [*VECTORS, None],
        [*range(30), 2**63],
        [*range(30), True],
        [*range(30), 0.5],
        [np.asfortranarray(np.ones((2, 3))) for _ in range(20)],
        [np.array(i) for i in range(20)],
        [np.zeros(1000) for _ in range(20)],
    ],
    ids=[
        *("few", "shapes", "dtypes", "none", "large int", "bool", "float", "F order", "no axis"),
        "large",
    ],
)
def test_what_is_not_comes_back_as_it_was_too(share, value):
    assert not is_one_array(value)
    found = share(value)
    for one, other in zip(found, value, strict=True):
        assert isinstance(one, type(other))
        np.testing.assert_array_equal(one, other)
        if isinstance(other, np.ndarray):
            assert (one.dtype, one.strides) == (other.dtype, other.strides)


@pytest.mark.parametrize("again", [lambda x: x, lambda x: x[:]], ids=["itself", "its memory"])
def test_an_array_that_is_there_many_times_is_stored_once(again):
    x = np.arange(64.0)
    assert Plan.of([again(x) for _ in range(100)]).size_bytes < 100 * 64 + 100 * 150


def test_elements_begin_at_multiples_of_64_bytes(share):
    found = share(VECTORS)
    assert {one.ctypes.data % 64 for one in found} == {0}
    assert found[1].ctypes.data - found[0].ctypes.data == 64


def test_elements_keep_the_page_and_cannot_be_written_to(share):
    one = share(VECTORS)[3]
    registry().gc()
    assert one.tolist() == VECTORS[3].tolist()
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 1


def test_a_list_that_was_attached_is_not_copied_again(child, share):
    child("ms.register_variables('n', {'x': [np.arange(5.) + i for i in range(40)]})")
    views = ms.retrieve_views("n", "x")["x"]
    found = registry().refer_to(views)
    assert found is not None
    assert registry().refer_to(views[::-1]) is None
    assert registry().refer_to([one.copy() for one in views]) is None
    del found


def test_more_than_a_block_of_them_is_written(share):
    value = [np.full(100, i, np.float32) for i in range(20_000)]
    found = share(value)
    assert [float(found[i][99]) for i in (0, 9_361, 9_362, 19_999)] == [0, 9_361, 9_362, 19_999]


def test_numbers_count_as_what_each_process_makes_anew():
    assert Plan.of(list(range(1000))).unshared_bytes == 8000
    assert Plan.of(VECTORS).unshared_bytes == 0
