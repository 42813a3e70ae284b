"""Values: every plain array comes back as it was; what is none is refused."""

from __future__ import annotations

import errno
import json
import os
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from memshare_jupyter.core import values
from memshare_jupyter.core.values import ALIGNMENT
from memshare_jupyter.errors import (
    HeaderMismatchError,
    TooManyFilesError,
    UnsupportedValueError,
)

SIMPLE = [
    *("?", "i1", "u1", "<i2", ">i2", "<u4", ">u4", "<i8", ">i8", "u8"),
    *("<f2", ">f2", "<f4", "<f8", ">f8", "g", "<c8", ">c16", "G"),
    *("<M8[ns]", ">M8[D]", "<M8[25s]", "<m8[ms]", "<m8", "<M8"),
    *("S1", "S7", "<U1", ">U5", "V3", "V16"),
]
STRUCTURED = [
    np.dtype([("a", "u1"), ("b", "<f8")]),
    np.dtype([("a", "u1"), ("b", "<f8")], align=True),
    np.dtype([("a", "u1"), ("b", [("c", ">i2"), ("d", "S3")])]),
    np.dtype([("a", [("c", "i1"), ("d", "f8")])], align=True),
    np.dtype([("a", "<f4", (2, 3)), ("b", "M8[us]")]),
    np.dtype([(("a title", "a"), "i4"), ("b", "i2")]),
    np.dtype({"names": ["a", "b"], "formats": ["i2", "f4"], "offsets": [5, 16], "itemsize": 40}),
    np.dtype({"names": ["b", "a"], "formats": ["f4", "i2"], "offsets": [8, 0], "itemsize": 12}),
    np.dtype({"names": ["all", "low"], "formats": ["<u4", "<u2"], "offsets": [0, 0]}),
    np.dtype([("ü ' \" .", "i4")]),
]
DTYPES = [*map(np.dtype, SIMPLE), *STRUCTURED]
dtypes = st.sampled_from(DTYPES)


def share(value):
    """Put a value through a page's worth of bytes."""
    plan = values.Plan.of(value)
    page = bytearray(plan.size_bytes + 64)
    end = 0
    for offset, block in plan.layout.blocks():
        assert offset >= end, "blocks must not overlap"
        end = offset + len(block)
        page[offset:end] = block
    assert end <= plan.size_bytes
    return values.build(plan.descriptor, memoryview(page), maker(page), trusted=True)


def maker(page):
    def make(dtype, shape, strides, offset):
        return np.ndarray(shape, dtype, page, offset, strides)

    return make


def filled(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape)) * dtype.itemsize
    raw = rng.integers(1, 110, count, np.uint8).tobytes()
    if dtype.kind == "U":
        text = rng.integers(33, 900, count // 4, np.uint32).astype(dtype.byteorder + "u4")
        raw = text.tobytes()
    elif dtype.kind == "b":
        raw = rng.integers(0, 2, count, np.uint8).tobytes()
    return np.frombuffer(bytearray(raw), dtype).reshape(shape) if count else np.zeros(shape, dtype)


@st.composite
def arrays(draw):
    """Arrays of any dtype, rank and layout."""
    dtype = draw(dtypes)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    array = filled(dtype, shape, draw(st.integers(0, 9)))
    array = np.asarray(array, order=draw(st.sampled_from("CF")))
    if array.ndim:
        array = array.transpose(draw(st.permutations(range(array.ndim))))
        array = array[tuple(slice(None, None, draw(st.sampled_from([1, -1, 2]))) for _ in shape)]
        if draw(st.booleans()):
            axis = draw(st.integers(0, array.ndim - 1))
            array = np.broadcast_to(
                array.take([0], axis) if array.shape[axis] else array,
                [3 if i == axis and n else n for i, n in enumerate(array.shape)],
            )
    return array


def same(one, other):
    assert one.dtype == other.dtype
    assert one.dtype.isalignedstruct == other.dtype.isalignedstruct
    assert one.dtype.fields == other.dtype.fields
    assert one.shape == other.shape
    if not one.size:
        return
    for name in one.dtype.names or ():
        same(one[name], other[name])
    if one.dtype.names is None:
        assert raw(one) == raw(other)


def raw(array):
    """The elements' bytes: NaNs and zeros with a sign count, too."""
    return np.ascontiguousarray(array).tobytes()


@given(arrays())
@settings(max_examples=400)
def test_any_plain_array_comes_back_with_its_values_dtype_and_layout(array):
    got = share(array)
    same(got, array)
    for flag in ("C_CONTIGUOUS", "F_CONTIGUOUS"):
        assert not array.flags[flag] or got.flags[flag]
    if array.size > 1 and 0 not in array.strides:
        axes = [i for i, n in enumerate(array.shape) if n > 1]
        by_stride = sorted(axes, key=lambda i: -abs(array.strides[i]))
        assert sorted(axes, key=lambda i: -got.strides[i]) == by_stride


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back(dtype):
    same(share(filled(dtype, (3, 2))), filled(dtype, (3, 2)))
    same(share(filled(dtype, ())), filled(dtype, ()))
    same(share(np.zeros((2, 0, 3), dtype)), np.zeros((2, 0, 3), dtype))


@pytest.mark.parametrize("code", ["S0", "U0", "V0"])
def test_a_dtype_of_no_bytes_comes_back(code):
    array = np.zeros(3, [("a", code), ("b", "i4")])["a"]
    assert array.dtype.itemsize == 0
    got = share(array)
    assert (got.dtype, got.shape) == (array.dtype, array.shape)


@pytest.mark.parametrize(
    "special", [[np.nan, -0.0, np.inf], [np.longdouble(1) / 3], [np.complex64("nan")]], ids=str
)
def test_special_numbers_come_back_bit_by_bit(special):
    array = np.array(special)
    assert share(array).tobytes() == array.tobytes()


def test_numpy_titles_still_name_the_field():
    array = np.zeros(2, np.dtype([(("a title", "a"), "i4")]))
    assert share(array)["a title"].shape == (2,)


def test_a_memmap_is_an_array_like_any_other(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(5))
    array = np.load(path, mmap_mode="r")
    assert share(array).tolist() == [0, 1, 2, 3, 4]
    del array


@given(st.lists(arrays(), max_size=5))
@settings(max_examples=60)
def test_lists_of_any_plain_arrays_come_back(arrays):
    elements = share(arrays)
    assert len(elements) == len(arrays)
    for got, array in zip(elements, arrays, strict=True):
        same(got, array)
    if arrays:
        same(elements[-1], arrays[-1])
        assert len(elements[:-1]) == len(arrays) - 1
    for wrong in (len(arrays), -len(arrays) - 1):
        with pytest.raises(IndexError, match="no element"):
            elements[wrong]


# --- filling -----------------------------------------------------------------------------


LAYOUTS = {
    "reversed": lambda a: a[::-1, ::-1],
    "every second": lambda a: a[::2, ::2],
    "one column": lambda a: a[:, 3],
    "transposed slice": lambda a: a[1:].T,
    "one long row": lambda a: a.reshape(1, -1)[:, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_an_array_is_never_copied_as_a_whole(layout):
    array = layout(np.arange(8_000_000.0).reshape(4000, 2000))
    plan = values.Plan.of(array)
    total = 0
    tracemalloc.start()
    try:
        for _, block in plan.layout.blocks():
            total += len(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == array.nbytes
    assert peak < 10 << 20


@pytest.mark.parametrize("array", [np.ones((50, 40)), np.ones((50, 40), order="F"), np.ones(9)])
def test_a_contiguous_array_is_written_from_its_own_memory(array):
    ((_, block),) = values.Plan.of(array).layout.blocks()
    assert np.shares_memory(np.frombuffer(block, np.uint8), array)


# --- what is refused ---------------------------------------------------------------------


REFUSED = {
    "object": np.array([1, "a"], dtype=object),
    "object in a structure": np.zeros(2, [("a", "O"), ("b", "i4")]),
    "generator": (x for x in ()),
    "lambda": lambda: 0,
    "module": np,
    "open file": sys.stderr,
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
def test_what_means_nothing_to_another_process_is_refused(value):
    with pytest.raises(UnsupportedValueError, match="cannot share") as refusal:
        values.Plan.of(value)
    assert isinstance(refusal.value, TypeError)


def test_the_refusal_of_objects_says_what_to_do():
    with pytest.raises(UnsupportedValueError, match=r"as in a.astype\(float\)"):
        values.Plan.of(REFUSED["object"])
    with pytest.raises(UnsupportedValueError, match="pass arrays, frames, or containers of them"):
        values.Plan.of(REFUSED["lambda"])


@pytest.mark.parametrize("container", [list, tuple, lambda items: dict(enumerate(items))])
def test_a_refused_element_is_named_however_deep(container):
    value = container([np.ones(2), container([0, REFUSED["object"]])])
    with pytest.raises(UnsupportedValueError, match="element 1: element 1: cannot share an array"):
        values.Plan.of(value)


# --- containers and objects ----------------------------------------------------------------


def test_containers_come_back_as_what_they_were_with_their_arrays_in_the_page():
    value = {"a": np.arange(3), 7: (np.eye(2), [np.zeros(0), "text", None]), (1, 2): {}}
    got = share(value)
    assert list(got) == list(value)
    assert type(got[7]) is tuple
    assert type(got[7][1]) is list
    assert got[7][1][1:] == ["text", None]
    assert got[(1, 2)] == {}
    same(got["a"], value["a"])
    same(got[7][0], value[7][0])


def test_an_empty_container_is_a_value():
    assert list(share([])) == []
    assert share(()) == ()
    assert share({}) == {}


@pytest.mark.parametrize(
    "value", [5, 1.5, None, "text", b"bytes", {1, 2}, range(3), np.float64(2), 10**30]
)
def test_small_values_come_back_equal(value):
    got = share(value)
    assert got == value
    assert type(got) is type(value)


def test_array_subclasses_keep_what_makes_them_one():
    masked = share(np.ma.masked_array([1, 2], [True, False]))
    assert masked.mask.tolist() == [True, False]
    record = share(np.rec.array([(1, 2.0)], names="a,b"))
    assert record.b.tolist() == [2.0]


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="needs numpy 2")
def test_strings_of_variable_length_are_shared():
    words = np.array(["a", "longer than one word"], np.dtypes.StringDType())
    assert share(words).tolist() == words.tolist()


def test_an_object_is_rebuilt_on_buffers_in_the_page():
    matrix = scipy.sparse.random(100, 100, 0.1, format="csr", rng=0)
    plan = values.Plan.of(matrix)
    page = bytearray(plan.size_bytes)
    for offset, block in plan.layout.blocks():
        page[offset : offset + len(block)] = block
    got = values.build(plan.descriptor, memoryview(page), maker(page), trusted=True)
    assert np.shares_memory(got.data, np.frombuffer(page, np.uint8))
    assert got.data.__array_interface__["data"][0] % ALIGNMENT == (
        np.frombuffer(page, np.uint8).__array_interface__["data"][0] % ALIGNMENT
    )
    assert (got != matrix).nnz == 0


def test_a_pickle_is_loaded_only_when_the_page_is_trusted():
    plan = values.Plan.of({1, 2})
    page = bytearray(plan.size_bytes)
    for offset, block in plan.layout.blocks():
        page[offset : offset + len(block)] = block
    with pytest.raises(HeaderMismatchError, match="not made by this user"):
        values.build(plan.descriptor, memoryview(page), maker(page))


def test_an_object_that_cannot_be_rebuilt_says_why():
    plan = values.Plan.of({1, 2})
    page = bytearray(plan.size_bytes)  # zeros: no pickle
    with pytest.raises(UnsupportedValueError, match="cannot be rebuilt here"):
        values.build(plan.descriptor, memoryview(page), maker(page), trusted=True)


def test_a_list_that_holds_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(UnsupportedValueError, match="cannot share a list"):
        values.Plan.of(endless)


def refuse(number):
    raise OSError(number, os.strerror(number), "module.py")


class Importing:
    """Needs a file when it is pickled, and does not get it."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        refuse(self.number)


def test_a_value_that_needs_a_descriptor_when_there_is_none_is_not_blamed():
    with pytest.raises(TooManyFilesError):
        values.Plan.of(Importing(errno.EMFILE))
    with pytest.raises(UnsupportedValueError, match="cannot be pickled"):
        values.Plan.of(Importing(errno.EIO))


# --- damaged descriptors -----------------------------------------------------------------


PAGE_BYTES = 4096
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-70, 5000),
    st.floats(),
    st.sampled_from(
        [
            "array",
            "list",
            "tuple",
            "dict",
            "pickle",
            "<f8",
            "O",
            "|O",
            "T",
            "V0",
            "S0",
            "i4,f8",
            "(2",
            "",
            "é",
        ]
    ),
    st.text(max_size=5),
)
forms = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    *("kind", "dtype", "shape", "strides", "offset", "length", "table", "base"),
                    *("names", "formats", "offsets", "titles", "itemsize", "aligned"),
                    *("keys", "data", "buffers"),
                ]
            ),
            inner,
            max_size=7,
        ),
    ),
    max_leaves=12,
)
WHOLE = [
    *(values.Plan.of(filled(dtype, (3, 4))).descriptor for dtype in DTYPES),
    values.Plan.of([np.ones(2), np.ones((3, 3), order="F")]).descriptor,
    values.Plan.of(np.ones((2, 3))[:, ::-1]).descriptor,
    values.Plan.of({"a": np.ones(2), "b": ({1},)}).descriptor,
    values.Plan.of({1, 2}).descriptor,
]


def built_or_refused(descriptor):
    """Build; everything that is built must lie in the page, everything else be one error."""
    page = bytearray(range(256)) * (PAGE_BYTES // 256)

    def make(dtype, shape, strides, offset):
        array = np.ndarray(shape, dtype, page, offset, strides)
        assert not array.dtype.hasobject
        if array.size:
            low, high = np.lib.array_utils.byte_bounds(array)
            start = np.frombuffer(page, np.uint8).__array_interface__["data"][0]
            assert start <= low <= high <= start + PAGE_BYTES
        return array

    try:
        made = values.build(descriptor, memoryview(page), make)
    except HeaderMismatchError:
        return
    if isinstance(made, values.Elements):
        for i in range(min(len(made), 50)):
            try:
                made[i]
            except HeaderMismatchError:
                continue


@pytest.mark.slow
@given(st.one_of(st.binary(max_size=60), forms.map(lambda form: json.dumps(form).encode())))
@example(b'{"kind":"array","dtype":"<f8","shape":[0,1e400],"strides":[8,8],"offset":0}')
@example(
    b'{"kind":"array","dtype":"<f8","shape":[0,99999999999999999999],"strides":[8,8],"offset":0}'
)
@example(b'{"kind":"array","dtype":"<f8","shape":[3],"strides":[NaN],"offset":0}')
@example(b'{"kind":"array","dtype":"<f8","shape":[3],"strides":[8],"offset":NaN}')
@example(b'{"kind":"array","dtype":"(2","shape":[3],"strides":[8],"offset":0}')
@example(b'{"kind":"array","dtype":"a3","shape":[3],"strides":[3],"offset":0}')
@example(b'{"kind":"array","dtype":"f8","shape":"","strides":"","offset":0}')
@example(b'{"kind":"list","length":1e400,"table":0}')
@example(b'{"kind":"list","length":4611686018427387904,"table":0}')
@example(b'{"kind":"list","length":-1,"table":0}')
@example(b'{"kind":"list","length":4,"table":-16}')
@example(b'{"kind":"list","length":"a","table":null}')
@example(b"[" * 100_000)
@settings(max_examples=400)
def test_no_descriptor_however_strange_reaches_outside_its_page(descriptor):
    built_or_refused(descriptor)


@given(st.sampled_from(WHOLE), st.data())
@settings(max_examples=600)
def test_no_damage_to_a_descriptor_reaches_outside_its_page(descriptor, data):
    damaged = bytearray(descriptor)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.one_of(
                st.binary(max_size=2), st.sampled_from([b"9", b"-", b"99", b"0", b'"', b"e9"])
            )
        )
        damaged = damaged or bytearray(b"{")
    built_or_refused(bytes(damaged))


@given(st.sampled_from(WHOLE), st.data())
@settings(max_examples=400)
def test_no_wrong_entry_in_a_descriptor_reaches_outside_its_page(descriptor, data):
    form = json.loads(descriptor)
    key = data.draw(st.sampled_from(sorted(form)))
    form[key] = data.draw(forms)
    built_or_refused(json.dumps(form).encode())


def test_a_damaged_element_of_a_list_is_refused_when_it_is_asked_for():
    plan = values.Plan.of([np.ones(2), np.ones(3)])
    page = bytearray(plan.size_bytes)
    for offset, block in plan.layout.blocks():
        page[offset : offset + len(block)] = block
    elements = values.build(plan.descriptor, memoryview(page), maker(page))
    page[page.index(b'"dtype"')] = 0
    with pytest.raises(HeaderMismatchError, match="cannot be read"):
        elements[0]
    assert elements[1].tolist() == [1, 1, 1]
