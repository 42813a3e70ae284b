"""Arrays of a class of their own are shared with what the class adds, or are refused."""

from __future__ import annotations

import types

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.errors import ReadOnlyPageError, UnsupportedValueError

N = 1000


class Labelled(np.ndarray):
    """As numpy's documentation subclasses: an attribute, and numpy's own pickling."""

    def __array_finalize__(self, obj):
        self.label = getattr(obj, "label", None)


class Quantity(np.ndarray):
    """As astropy's: pickles its attributes beside numpy's state."""

    def __array_finalize__(self, obj):
        self.__dict__.update(getattr(obj, "__dict__", {}))

    def __reduce__(self):
        rebuild, arguments, state = super().__reduce__()
        return rebuild, arguments, (state, self.__dict__)

    def __setstate__(self, state):
        super().__setstate__(state[0])
        self.__dict__.update(state[1])


class Strange(np.ndarray):
    """Keeps something that neither a view nor its attributes have."""

    def __reduce__(self):
        return Strange.made, (self.tolist(),)

    @staticmethod
    def made(numbers):
        made = np.asarray(numbers).view(Strange)
        made.told = len(numbers)
        return made


def with_attribute(cls, **attributes):
    made = np.arange(float(N)).view(cls)
    vars(made).update(attributes)
    return made


def record():
    return np.zeros(N, [("x", "f8"), ("y", "i4")]).view(np.recarray)


def masked():
    return np.ma.masked_array(np.arange(float(N)), np.arange(N) % 3 == 0, fill_value=-7)


SUBCLASSES = {
    "recarray": record,
    "matrix": lambda: np.arange(6.0).reshape(2, 3).view(np.matrix),
    "chararray": lambda: np.array(["a", "bc"]).view(np.char.chararray),
    "masked": masked,
    "masked, no mask": lambda: np.ma.masked_array(np.arange(9)),
    "masked, hard": lambda: np.ma.masked_array([1, 2, 3], [0, 1, 0], hard_mask=True),
    "masked, structured": lambda: np.ma.masked_array(
        np.zeros(3, [("a", "f8"), ("b", "i4")]), [(0, 1), (1, 0), (0, 0)]
    ),
    "masked, a slice": lambda: masked()[::2],
    "an attribute": lambda: with_attribute(Labelled, label="gene"),
    "as astropy's": lambda: with_attribute(Quantity, unit="km", info={"a": 1}),
}


@pytest.fixture
def ns():
    with ms.Namespace("n") as namespace:
        yield namespace


def attached(value, mode="r", **options):
    ms.register_variables("n", {"x": value}, **options)
    return ms.retrieve_views("n", "x", mode)["x"]


def same(one, other):
    assert type(one) is type(other)
    assert one.dtype == other.dtype
    assert one.dtype.type is other.dtype.type
    assert one.shape == other.shape
    assert one.tolist() == other.tolist()


def in_pages(array, ranges):
    at = array.__array_interface__["data"][0]
    return any(low <= at < high for low, high in ranges)


def pages_here():
    with open("/proc/self/maps") as maps:
        lines = [line.split()[0].split("-") for line in maps if "memfd:memshare:" in line]
    return [(int(low, 16), int(high, 16)) for low, high in lines]


@pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning")
@pytest.mark.parametrize("make", SUBCLASSES.values(), ids=SUBCLASSES.keys())
def test_an_array_of_a_class_comes_back_whole_and_in_the_page(ns, make):
    value = make()
    got = attached(value)
    same(got, value)
    assert in_pages(got, pages_here())
    assert not got.flags.writeable
    if isinstance(value, np.ma.MaskedArray):
        assert got.hardmask is value.hardmask
        assert got.fill_value.tolist() == value.fill_value.tolist()
        if value.mask is np.ma.nomask:
            assert got.mask is np.ma.nomask
        else:
            assert got.mask.tolist() == value.mask.tolist()
            assert in_pages(got.mask, pages_here())
    else:
        assert vars(got) == vars(value)
    assert ms.retrieve_metadata("n", "x")["x"].unshared_bytes < 2000


@pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning")
@pytest.mark.parametrize("make", SUBCLASSES.values(), ids=SUBCLASSES.keys())
def test_an_object_that_keeps_one_keeps_it_in_the_page(ns, make):
    value = make()
    got = attached(types.SimpleNamespace(x=value)).x
    same(got, value)
    assert in_pages(got, pages_here())


@pytest.mark.parametrize(
    ("name", "key"), [("recarray", "x"), ("matrix", (0, 1)), ("masked", 1), ("an attribute", 3)]
)
def test_what_is_written_with_mode_r_plus_is_in_the_page(ns, child, name, key):
    value = SUBCLASSES[name]()
    got = attached(value, "r+", writable=True)
    got[key] = 7.5
    assert got.tolist() != value.tolist()
    read = ms.retrieve_views("n", "x")["x"]
    assert read.tolist() == got.tolist()


def test_masking_an_element_with_mode_r_plus_is_seen_by_all(ns, child):
    there = child()
    got = attached(masked(), "r+", writable=True)
    there.run("x = ms.retrieve_views('n', 'x')['x']")
    got[1] = np.ma.masked
    got[3] = 5.5
    assert there.eval("x[:4].tolist()") == [None, None, 2.0, 5.5]


NOT_FOR_WRITING = {
    "no mask": lambda: np.ma.masked_array(np.arange(9)),
    "an object": lambda: types.SimpleNamespace(x=np.zeros(3)),
    "a set": lambda: {1, 2},
    "inside a dict": lambda: {"a": np.zeros(3), "b": types.SimpleNamespace()},
}


@pytest.mark.parametrize("make", NOT_FOR_WRITING.values(), ids=NOT_FOR_WRITING.keys())
def test_a_value_that_could_lose_a_write_is_not_attached_for_writing(ns, make):
    with pytest.raises(ReadOnlyPageError, match=r"cannot write to a .*mode='c'"):
        attached(make(), "r+", writable=True)
    assert ms.view_list() == []
    assert ms.retrieve_views("n", "x", "c")["x"] is not None


def test_arrays_in_containers_are_attached_for_writing(ns):
    got = attached({"a": np.zeros(3), "b": [np.ones(2), "text", 5, None]}, "r+", writable=True)
    got["a"][0] = 7
    got["b"][0][1] = 8
    again = ms.retrieve_views("n", "x")["x"]
    assert (again["a"].tolist(), again["b"][0].tolist()) == ([7, 0, 0], [1, 8])


def test_a_class_that_keeps_more_than_we_can_rebuild_is_refused_with_the_way_out(ns):
    with pytest.raises(UnsupportedValueError, match=r"cannot share a .*Strange.*np\.asarray\(x\)"):
        ns["x"] = np.zeros(3).view(Strange)
    assert ms.page_list() == []


def test_a_refused_class_inside_an_object_goes_its_own_way(ns):
    got = attached(types.SimpleNamespace(x=np.zeros(3).view(Strange)))
    assert (type(got.x), got.x.told) == (Strange, 3)


@pytest.mark.parametrize(
    "value", [np.zeros(3, [("x", "O")]).view(np.recarray), masked().astype(object)]
)
def test_objects_in_an_array_of_a_class_are_refused_like_others(ns, value):
    with pytest.raises(UnsupportedValueError, match="its elements are Python objects"):
        ns["x"] = value
