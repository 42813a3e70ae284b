from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memshare_jupyter.information._pair_distances import PairDistances


def all_distances(ordered):
    i, j = np.triu_indices(ordered.size, 1)
    return np.sort(ordered[j] - ordered[i])


@given(
    values=st.lists(
        st.one_of(
            st.floats(-1e6, 1e6),
            st.integers(-5, 5).map(float),
            st.integers(-50, 50).map(lambda i: i * 0.1 + 0.7),  # ties up to rounding
        ),
        min_size=2,
        max_size=60,
    ),
    share=st.floats(0, 1),
)
def test_every_rank_is_the_one_of_all_distances_written_out(values, share):
    ordered = np.sort(values)
    expected = all_distances(ordered)
    rank = min(int(share * expected.size), expected.size - 1)
    assert PairDistances(ordered).kth(rank) == expected[rank]


@pytest.mark.parametrize("share", [0.0, 0.18, 0.5, 1.0])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: np.round(rng.normal(size=n), 1),
        lambda rng, n: np.round(rng.normal(size=n) * 500) * 0.002,
        lambda rng, n: np.exp(5 * rng.normal(size=n)),
        lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, rng.random(n)),
        lambda rng, n: rng.normal(size=n) + 1e13,
        lambda rng, n: np.concatenate([rng.normal(size=n - n // 3), 1e9 + rng.normal(size=n // 3)]),
        lambda rng, n: np.append(rng.normal(size=n - 1), 1e6),
        lambda rng, n: np.where(rng.random(n) < 1 / 3, 0.0, np.exp(rng.normal(size=n))),
        lambda rng, n: np.where(rng.random(n) < 0.6, 0, rng.negative_binomial(2, 0.02, n)) * 1.0,
    ],
    ids=[
        *("normal", "one decimal", "fine lattice", "lognormal", "zeros", "coarse", "two clusters"),
        *("outlier", "third zero", "counts"),
    ],
)
def test_samples_large_enough_to_be_bracketed_first(draw, share):
    ordered = np.sort(draw(np.random.default_rng(4), 1500))
    expected = all_distances(ordered)
    rank = int(share * (expected.size - 1))
    assert PairDistances(ordered).kth(rank) == expected[rank]
