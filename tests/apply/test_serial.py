"""Whatever is given, the result is that of a serial loop."""

from __future__ import annotations

import hypothesis.extra.numpy as some
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import memshare_jupyter as ms

OUTS = ["list", "array", "given"]
DTYPES = ["f8", "f4", "i8", "i2", "u1", "?", "c16", "M8[s]", "S3", "U2"]
FUNCTIONS = {
    "item": lambda v: v,
    "part": lambda v: np.sort(v)[:2],
    "first": lambda v: v[0] if len(v) else None,
    "length": len,
    "largest": lambda v: v[np.argsort(v)[-1:]],
    "parts": lambda v: {"head": v[:1], "all": (v, [v[::2]])},
    "masked": lambda v: np.ma.MaskedArray(np.arange(2), [True, len(v) > 1]),
    "series": lambda v: pd.Series(np.arange(len(v))),
    "mixed": lambda v: None if len(v) and v[0] == v[-1] else np.array(v),
}


@st.composite
def matrices(draw):
    shape = draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
    values = draw(some.arrays(draw(st.sampled_from(DTYPES)), shape))
    form = draw(st.sampled_from(["C", "F", "step", "view", "frame"]))
    if form == "frame" and values.dtype.kind in "fiu?":
        return pd.DataFrame(values, columns=[f"c{i}" for i in range(shape[1])])
    if form == "F":
        return np.asfortranarray(values)
    return np.repeat(values, 2, axis=1)[:, ::2] if form == "step" else values


def same(one, other):
    """Compare values, their types and dtypes, however deep."""
    assert type(one) is type(other) or isinstance(other, np.ndarray)
    if isinstance(other, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(other, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            same(*pair)
    elif isinstance(other, np.ma.MaskedArray):
        assert one.tolist() == other.tolist()
    elif isinstance(other, np.ndarray | np.generic):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(other, pd.Series):
        pd.testing.assert_series_equal(one, other)
    else:
        assert one == other


def check(view, X, margin, name, out, batch):
    fun = FUNCTIONS[name]
    plain = np.asarray(X)
    expected = [fun(item) for item in (plain if margin == "rows" else plain.T)]
    if batch:
        per_item = fun

        def fun(many):
            return [per_item(item) for item in (many if margin == "rows" else many.T)]

    options = {"cluster": view, "batch": batch}
    if out == "list":
        same(ms.memapply(X, margin, fun, **options), expected)
        return
    try:
        stacked = np.array(expected)
        possible = stacked.dtype.kind != "O" and (name != "masked" or not expected)
    except ValueError:
        possible = False
    if not possible:
        with pytest.raises((TypeError, ValueError)):
            ms.memapply(X, margin, fun, out="array", **options)
        return
    if out == "given":
        target = np.empty(stacked.shape, stacked.dtype) if stacked.ndim else None
        assert ms.memapply(X, margin, fun, out=target, **options) is target
        np.testing.assert_array_equal(target, stacked)
    else:
        found = ms.memapply(X, margin, fun, out="array", **options)
        if expected:
            same(found, stacked)


CASES = {
    "X": matrices(),
    "margin": st.sampled_from(["rows", "cols"]),
    "name": st.sampled_from([n for n in FUNCTIONS if n != "series"]),
    "out": st.sampled_from(OUTS),
    "batch": st.booleans(),
}
RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.mark.slow
@settings(max_examples=120, suppress_health_check=RELAXED)
@given(**CASES)
def test_a_call_gives_what_a_serial_loop_gives(view, X, margin, name, out, batch):
    check(view, X, margin, name, out, batch)


@pytest.mark.slow
@settings(max_examples=1880, suppress_health_check=RELAXED)
@given(**CASES | {"name": st.sampled_from(list(FUNCTIONS))})
def test_a_call_gives_what_a_serial_loop_gives_in_many_cases(view, X, margin, name, out, batch):
    check(view, X, margin, name, out, batch)
