from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memshare_jupyter.information import _ascending
from memshare_jupyter.information._ascending import Ascending


def same_as_searchsorted(values, queries):
    expected = np.searchsorted(values, queries, side="right")
    np.testing.assert_array_equal(Ascending(values).up_to(queries), expected)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: np.exp(2 * rng.normal(size=n)),
        lambda rng, n: np.concatenate([rng.normal(size=n), 1e12 + rng.normal(size=n)]),
        lambda rng, n: rng.normal(size=n) * 1e-300,
        lambda rng, n: rng.normal(size=n) * 1e307,
        lambda rng, n: np.concatenate([[0.0, 5e-324], rng.random(n) + 1e9]),
        lambda rng, n: rng.normal(size=n) + 1e13,
    ],
    ids=["normal", "skewed", "clusters", "tiny", "huge", "denormal", "coarse"],
)
@pytest.mark.parametrize("n", [2, 1500, 5000])
def test_places_are_those_of_a_binary_search(draw, n):
    rng = np.random.default_rng(n)
    values = np.unique(draw(rng, n))
    same_as_searchsorted(values, values)
    same_as_searchsorted(values, values + (values[-1] / 8 - values[0] / 8))
    same_as_searchsorted(values, np.nextafter(values, np.inf))
    same_as_searchsorted(values, np.nextafter(values, -np.inf)[1:])


@given(
    values=st.sets(st.floats(-1e6, 1e6), min_size=2, max_size=60),
    away=st.floats(0, 1e6),
    fewest=st.sampled_from([0, 1024]),
)
def test_places_of_a_few_values_in_buckets_and_without(values, away, fewest):
    ordered = np.array(sorted(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ascending, "_FEWEST", fewest)
        same_as_searchsorted(ordered, ordered + away)
