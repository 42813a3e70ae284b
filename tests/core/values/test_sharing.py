"""What is called shared is shared: once, no more than it shows, and the rest is told."""

from __future__ import annotations

import gc
import types
import weakref

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.values import Plan

MB = 1_000_000
A = np.arange(100_000.0)
M = A.reshape(1000, 100)
STRIDED = np.repeat(M, 2, 0)


@pytest.fixture
def ns():
    with ms.Namespace("n") as namespace:
        yield namespace


def size(value):
    return Plan.of(value).size_bytes


ONCE = {
    "one array under three names": {"a": A, "b": A, "c": A[:]},
    "another shape": [A, M, M.reshape(100, 10, 100)],
    "transposed": (M, M.T),
    "other numbers in the same memory": [A, A.view(np.int64)],
    "a piece after the whole": [A, A[10:20_000], M[3]],
    "in an object and beside it": [A, types.SimpleNamespace(x=A, y=A[:])],
    "a strided piece twice": [np.repeat(M, 2, 0)[::2]] * 2,
    "a strided piece in two objects": [types.SimpleNamespace(x=STRIDED[::2]) for _ in range(2)],
}


@pytest.mark.parametrize("value", ONCE.values(), ids=ONCE.keys())
def test_memory_is_stored_once_however_often_it_is_named(value):
    assert A.nbytes <= size(value) < 1.1 * A.nbytes


def test_arrays_that_shared_memory_share_it_in_the_page(ns):
    ns["x"] = {"a": A, "piece": A[10:20_000], "turned": M.T}
    got = ns["x"]
    assert np.shares_memory(got["a"], got["piece"])
    assert np.shares_memory(got["a"], got["turned"])
    assert np.array_equal(got["piece"], A[10:20_000])
    assert np.array_equal(got["turned"], M.T)


def test_planning_keeps_nothing_of_what_was_planned():
    array = np.zeros(1000)
    gone = weakref.ref(array)
    gc.disable()  # a cycle would be found by it, but only then
    try:
        Plan.of({"a": array, "b": types.SimpleNamespace(x=array[::2])})
        del array
        assert gone() is None
    finally:
        gc.enable()


def test_arrays_that_are_merely_equal_do_not(ns):
    ns["x"] = [A, A.copy()]
    assert not np.shares_memory(*ns["x"])


def test_arrays_made_while_pickling_are_not_taken_for_one_another(ns):
    class Made:
        """Makes its state anew: every array may get the memory of the one before."""

        def __reduce__(self):
            return list, ([np.full(5000, i) for i in range(50)],)

    ns["x"] = Made()
    assert [int(x[0]) for x in ns["x"]] == list(range(50))
    assert all((x == x[0]).all() for x in ns["x"])


@pytest.mark.parametrize("step", [slice(None, None, 2), slice(None, None, -1), slice(5, 50, 3)])
def test_strided_arrays_in_objects_are_gathered_into_the_page(ns, step):
    box = types.SimpleNamespace(rows=M[step], both=M[step, step], dates=M.view("M8[s]")[:, step])
    ns["x"] = box
    got = ns["x"]
    for name, value in vars(box).items():
        there = getattr(got, name)
        assert there.dtype == value.dtype
        assert there.tobytes() == value.tobytes()
        assert not there.flags.writeable
    assert ms.retrieve_metadata("n", "x")["x"].unshared_bytes < 2000


def test_every_layout_of_an_array_in_an_object_is_kept(ns):
    arrays = [M, np.asfortranarray(M), A.reshape(10, 100, 100).transpose(1, 2, 0), np.array(5.0)]
    ns["x"] = {tuple: types.SimpleNamespace(arrays=arrays)}
    got = next(iter(ns["x"].values())).arrays
    for there, array in zip(got, arrays, strict=True):
        assert there.strides == array.strides
        assert np.array_equal(there, array)


# --- views of other pages ----------------------------------------------------------------


@pytest.mark.parametrize("box", [lambda x: types.SimpleNamespace(x=x), lambda x: {"x": x}, list])
def test_a_view_inside_a_value_is_stored_as_its_data(ns, child, box):
    child("ms.register_variables('n', {'X': np.arange(12.0).reshape(3, 4)})")
    view = ns["X"]
    ns["box"] = box(view[:, 1:])
    del view
    there = child("box = ms.retrieve_views('n', 'box')['box']")
    assert ms.retrieve_metadata("n", "X")["X"].views == 0
    there.run("x = box.x if hasattr(box, 'x') else box['x'] if isinstance(box, dict) else box")
    assert there.eval("np.array(x).tolist()") == np.arange(12.0).reshape(3, 4)[:, 1:].tolist()
    assert there.eval("ms.view_list()") == ["n.box"]


def test_a_list_of_another_page_is_stored_as_its_data(ns):
    from memshare_jupyter.core.registry import registry

    ns["l"] = [np.arange(3), np.ones(2)]
    elements = registry().attach("n", "l", hold=False)
    ns["m"] = elements
    ns["box"] = types.SimpleNamespace(x=elements)
    del elements
    ms.release_variables("n", "l")
    assert [x.tolist() for x in ns["m"]] == [[0, 1, 2], [1, 1]]
    assert [x.tolist() for x in ns["box"].x] == [[0, 1, 2], [1, 1]]


# --- Arrow and polars --------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    return pyarrow.table(
        {
            "x": np.arange(200_000.0),
            "s": [f"gene {i}" for i in range(200_000)],
            "b": [True, None] * 100_000,
            "n": [[1, 2], [3]] * 100_000,
            "d": pyarrow.array(["a", "b"] * 100_000).dictionary_encode(),
        }
    )


PIECES = {
    "table": lambda t: t.slice(5, 10),
    "batch": lambda t: t.to_batches()[0].slice(5, 10),
    "column": lambda t: t["s"].slice(5, 10),
    "array": lambda t: t["n"].chunk(0).slice(5, 10),
}


@pytest.mark.parametrize("cut", PIECES.values(), ids=PIECES.keys())
@pytest.mark.parametrize("box", [lambda x: x, lambda x: types.SimpleNamespace(x=x)])
def test_a_slice_of_arrow_takes_the_memory_of_what_it_shows(ns, table, cut, box):
    piece = cut(table)
    ns["x"] = box(piece)
    got = ns["x"]
    assert getattr(got, "x", got).equals(piece)
    assert type(getattr(got, "x", got)) is type(piece)
    assert ms.retrieve_metadata("n", "x")["x"].size_bytes < 10_000


def test_a_table_of_many_slices_of_one_memory_takes_it_once(table):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    numbers = table.select(["x"])
    cut = pyarrow.Table.from_batches(numbers.to_batches(max_chunksize=20_000))
    assert size(cut) < 1.05 * size(numbers)


def test_a_frame_of_pandas_with_strings_is_cut_as_well():
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = pandas.DataFrame({"s": [f"gene {i}" for i in range(100_000)]})
    if frame["s"].dtype == object:
        pytest.skip("strings are objects to this pandas")
    assert size(frame.iloc[5:15]) < 10_000


@pytest.fixture(scope="module")
def polars():
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    return pytest.importorskip("polars", reason="needs polars")


def frame(polars):
    return polars.DataFrame(
        {
            "x": np.arange(100_000.0),
            "s": [f"a gene with a name of some length {i}" for i in range(100_000)],
            "e": polars.Series(["a", "b"] * 50_000, dtype=polars.Enum(["a", "b"])),
            "n": [[1, 2], [3]] * 50_000,
        }
    )


def test_a_frame_of_polars_comes_back_with_all_of_it_shared(ns, polars):
    ns["x"] = made = frame(polars)
    got = ns["x"]
    assert got.equals(made)
    assert got.schema == made.schema
    assert ms.retrieve_metadata("n", "x")["x"].unshared_bytes < 10_000


def test_a_series_of_polars_does_too(ns, polars):
    ns["x"] = made = frame(polars)["x"]
    got = ns["x"]
    assert got.equals(made, check_names=True)
    assert ms.retrieve_metadata("n", "x")["x"].unshared_bytes < 10_000


def test_polars_is_shared_though_nobody_imported_pyarrow(interpreter, polars):
    out = interpreter(
        "import sys, polars, numpy as np\n"
        "from memshare_jupyter.core.values import Plan\n"
        "assert 'pyarrow' not in sys.modules\n"
        "plan = Plan.of(polars.DataFrame({'x': np.zeros(1_000_000)}))\n"
        "print(plan.unshared_bytes < 10_000, plan.size_bytes >= 8_000_000)"
    )
    assert out.split() == ["True", "True"]


def test_a_slice_of_a_polars_frame_takes_the_memory_of_what_it_shows(ns, polars):
    ns["x"] = piece = frame(polars).slice(5, 10)
    assert ns["x"].equals(piece)
    assert ms.retrieve_metadata("n", "x")["x"].size_bytes < 20_000


def test_a_column_that_arrow_has_no_type_for_goes_beside_the_others(ns, polars):
    big = polars.Series("big", [1, 2**100, None], dtype=polars.Int128)
    ns["x"] = made = polars.DataFrame({"a": [1, 2, 3], "big": big, "z": ["x", "y", "z"]})
    got = ns["x"]
    assert got.equals(made)
    assert got.schema == made.schema
    ns["alone"] = big
    assert ns["alone"].equals(big)


# --- what is not shared ------------------------------------------------------------------


class Copies:
    """Takes a copy of its array when it is rebuilt, as the trees of a forest do."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __setstate__(self, state):
        self.x, self.y = state["x"].copy(), state["y"]


class Fails:
    def __init__(self, x):
        self.x = x

    def __setstate__(self, state):
        raise MemoryError("not here")


UNSHARED = {
    "array": (A, 0, 0),
    "record array": (np.zeros(9, [("a", "f8")]).view(np.recarray), 100, 1000),
    "bytes": ({"b": bytes(5 * MB)}, 5 * MB, 5.1 * MB),
    "strings in a list": (["text " * 50] * 10_000, 2.5 * MB, 4 * MB),
    "objects in a frame": (types.SimpleNamespace(s=np.array(["x" * 99] * 9, object)), 100, 2000),
    "what a class copies": (Copies(np.zeros(MB), np.ones(MB)), 8 * MB, 8.1 * MB),
    "what a class uses": (types.SimpleNamespace(x=np.zeros(MB), y=M[::2]), 0, 1000),
    "what cannot be rebuilt here": (Fails(np.zeros(MB)), 0, 1000),
}


@pytest.mark.parametrize(("value", "least", "most"), UNSHARED.values(), ids=UNSHARED.keys())
def test_what_is_not_shared_is_measured(value, least, most):
    assert least <= Plan.of(value).unshared_bytes <= most


def test_a_forest_is_said_not_to_be_shared(ns):
    ensemble = pytest.importorskip("sklearn.ensemble", reason="needs scikit-learn")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4000, 10)), rng.integers(0, 2, 4000)
    ns["model"] = ensemble.RandomForestClassifier(10, random_state=0, n_jobs=1).fit(X, y)
    page = ms.retrieve_metadata("n", "model")["model"]
    assert 0.8 * page.size_bytes < page.unshared_bytes < page.size_bytes


def test_a_model_that_keeps_arrays_is_said_to_be_shared(ns):
    neighbors = pytest.importorskip("sklearn.neighbors", reason="needs scikit-learn")
    X = np.random.default_rng(0).normal(size=(20_000, 20))
    ns["model"] = neighbors.KNeighborsClassifier().fit(X, np.arange(20_000) % 2)
    page = ms.retrieve_metadata("n", "model")["model"]
    assert page.unshared_bytes < 0.01 * page.size_bytes


# --- deep values -------------------------------------------------------------------------


def nested(depth, value, wrap):
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS = {
    "dict": (lambda v: {"d": v}, lambda v: v["d"]),
    "list": (lambda v: [0, v], lambda v: v[1]),
    "tuple": (lambda v: (v,), lambda v: v[0]),
}


@pytest.mark.parametrize(("wrap", "unwrap"), WRAPS.values(), ids=WRAPS.keys())
@pytest.mark.parametrize("depth", [1, 19, 20, 21, 22, 100, 300])
def test_a_deep_value_is_attached_as_deep(ns, child, wrap, unwrap, depth):
    ns["x"] = nested(depth, A[:10], wrap)
    found = ns["x"]
    for _ in range(depth):
        found = unwrap(found)
    assert found.tolist() == A[:10].tolist()
    child("x = ms.retrieve_views('n', 'x')")


def test_what_is_too_deep_to_pickle_is_refused_when_it_is_registered(ns):
    with pytest.raises(ms.UnsupportedValueError, match=r"nested too deeply.*a flat dict or list"):
        ns["x"] = nested(100_000, A[:10], lambda v: {"d": v})
    assert ms.page_list() == []


@pytest.mark.parametrize("container", [list, dict])
def test_what_holds_itself_is_refused(container):
    value = container()
    inner = [value]
    value.append(inner) if container is list else value.update(a=inner)
    with pytest.raises(ms.UnsupportedValueError, match="holds itself"):
        Plan.of(value)


# --- errors of rebuilding ----------------------------------------------------------------


@pytest.mark.parametrize("error", ["MemoryError(80)", "KeyboardInterrupt", "SystemExit(3)"])
def test_an_error_that_is_not_the_pages_stays_what_it_is(ns, child, error):
    there = child(
        "import sys, types; m = types.ModuleType('mine'); sys.modules['mine'] = m\n"
        f"exec('class C:\\n def __setstate__(self, s): raise {error}', m.__dict__)\n"
        "m.C.__module__ = 'mine'; c = m.C(); c.x = 1\n"
        "ms.register_variables('n', {'c': c, 'l': [c]})\n"
        "def attempt(name):\n"
        "    try: ms.retrieve_views('n', name)\n"
        "    except BaseException as e: return type(e).__name__"
    )
    kind = error.partition("(")[0]
    assert there.eval("attempt('c'), attempt('l')") == (kind, kind)


def test_any_other_error_is_named_and_chained(ns):
    class Wrong:
        def __reduce__(self):
            return int, ("no number",)

    ns["x"] = Wrong()
    with pytest.raises(ms.UnsupportedValueError, match="ValueError: invalid literal") as caught:
        ns["x"]
    assert isinstance(caught.value.__cause__, ValueError)
    assert "install" not in str(caught.value)


def test_a_missing_module_and_a_missing_class_are_told_apart(ns, child):
    child(
        "import sys, types; m = types.ModuleType('not_there'); sys.modules['not_there'] = m\n"
        "class C: pass\n"
        "C.__module__ = 'not_there'; C.__qualname__ = 'C'; m.C = C\n"
        "class D: pass\n"
        "D.__module__ = 'math'; D.__qualname__ = 'D'; import math; math.D = D\n"
        "ms.register_variables('n', {'c': C(), 'd': D()})"
    )
    with pytest.raises(ms.UnsupportedValueError, match=r"not_there cannot be imported.*install"):
        ns["c"]
    with pytest.raises(ms.UnsupportedValueError, match="this process has no D in its module math"):
        ns["d"]
