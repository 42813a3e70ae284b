"""The gate: an array of plain data passes as it is, everything else with a remedy or not at all."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from memshare_jupyter.core.values import as_plain, is_plain, what_is_lost
from memshare_jupyter.errors import UnsupportedValueError

pandas = pytest.importorskip("pandas", reason="needs pandas")

MASKED = np.ma.masked_array([1.0, 2.0], [False, True])
PASSES = {
    "array": np.arange(3.0),
    "record array": np.zeros(2, [("a", "f8")]).view(np.recarray),
    "nothing masked": np.ma.masked_array([1.0, 2.0]),
    "mask that masks nothing": np.ma.masked_array([1.0, 2.0], [False, False]),
    "dates with NaT": np.array(["2020-01-01", "NaT"], "M8[D]"),
    "series": pandas.Series([1.0, np.nan]),
    "list": [1, 2, 3],
}
REFUSED = {
    "masked": (MASKED, r"its mask would be lost.*x\.filled\(np\.nan\).*x\.compressed"),
    "matrix": (np.ones((2, 2)).view(np.matrix), r"np\.asarray\(x\)"),
    "subclass": (np.ones(2).view(type("Unit", (np.ndarray,), {})), r"a unit.*np\.asarray\(x\)"),
    "sparse matrix": (scipy.sparse.eye(3, format="csr"), r"sparse; pass x\.toarray\(\)"),
    "sparse array": (scipy.sparse.eye_array(3), r"sparse; pass x\.toarray\(\)"),
    "missing": (pandas.Series([1, None], dtype="Int64"), r"na_value=np\.nan"),
    "missing in a frame": (pandas.DataFrame({"a": pandas.array([1, None], "Int64")}), "pd.NA"),
    "objects": (np.array([1, "a"], object), "Python objects"),
}


@pytest.mark.parametrize("value", PASSES.values(), ids=PASSES.keys())
def test_what_is_plain_passes_with_its_values(value):
    got = as_plain(value)
    assert type(got) is np.ndarray
    assert what_is_lost(value) is None
    np.testing.assert_array_equal(got, np.asarray(value))


def test_an_array_passes_without_a_copy():
    for value in (PASSES["array"], PASSES["record array"], PASSES["nothing masked"]):
        assert np.shares_memory(as_plain(value), value)


@pytest.mark.parametrize(("value", "remedy"), REFUSED.values(), ids=REFUSED.keys())
def test_what_would_lose_something_is_refused_with_the_remedy(value, remedy):
    with pytest.raises(UnsupportedValueError, match=remedy):
        as_plain(value)


def test_dtypes_are_told_apart_by_their_scalars_too():
    class Mine(np.void):
        pass

    fields = [("a", "f8")]
    assert is_plain(np.dtype(fields))
    assert is_plain(np.dtype((np.record, fields)))
    assert not is_plain(np.dtype((Mine, fields)))
