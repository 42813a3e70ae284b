"""Values that are equal but for rounding are equal: in order, ranks, choice and p-values."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.information._ties import TOLERANCE, best_first, reaching


def test_order_and_ranks_go_by_groups():
    values = np.array([0.1, 0.3, 0.1 + 3e-15, 0.2, 0.3 - 1e-14, 0.1 - 9e-13])
    order, ranks = best_first(values)
    assert order.tolist() == [1, 4, 3, 0, 2, 5]
    assert ranks.tolist() == [1, 1, 3, 4, 4, 4]
    order, ranks = best_first(np.empty(0))
    assert order.size == ranks.size == 0


def test_a_group_reaches_a_threshold_as_a_whole():
    values = np.array([0.1, 0.3, 0.1 + 3e-15, 0.2, 0.3 - 1e-14])
    assert [reaching(values, t) for t in (0.4, 0.3, 0.2, 0.1 + 3e-15, 0.0)] == [0, 2, 3, 5, 5]
    assert reaching(values, 0.2 + 2 * TOLERANCE) == 2


def equal_columns():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 32, 500)
    X = rng.normal(size=(500, 400))
    X[:, ::3] = (y + rng.normal(size=500))[:, None]
    return X, y


def test_equal_columns_share_a_rank_and_keep_their_order():
    X, y = equal_columns()
    found = ms.select_features(X, y, k=134)
    np.testing.assert_array_equal(found.columns, np.arange(0, 400, 3))
    np.testing.assert_array_equal(found.ranks, np.ones(134))
    y = np.arange(60) % 2
    x = np.random.default_rng(2).normal(size=60) + 0.5 * y
    assert ms.select_features(np.repeat(x[:, None], 5, 1), y, k=5).ranks.tolist() == [1] * 5


@pytest.mark.slow
@pytest.mark.parametrize("engines", [1, 2])
def test_equal_columns_are_equal_on_any_number_of_engines(engines):
    X, y = equal_columns()
    here = ms.select_features(X, y, k=200, permutations=9)
    cluster = ms.local_cluster(engines, quiet=True)
    try:
        there = ms.select_features(X, y, k=200, permutations=9, cluster=cluster)
    finally:
        cluster.stop()
    np.testing.assert_array_equal(here.columns, there.columns)
    np.testing.assert_array_equal(here.ranks, there.ranks)
    np.testing.assert_array_equal(here.p_values, there.p_values)


RARE = """
import numpy as np
from memshare_jupyter import select_features
for n, columns, k in ((1000, 4, 1), (50, 52, 15)):
    y = np.zeros(n, int)
    y[-1] = 1
    found = select_features(np.eye(n)[:, :columns], y, k=k, permutations=19)
    # Every permutation has at least as much: a column with one 1, and one sample of the class.
    assert (found.p_values == 1.0).sum() >= k - (n == 50), found
"""


def test_a_permutation_that_is_equal_but_for_rounding_counts():
    y = np.zeros(1000, int)
    y[-1] = 1
    found = ms.select_features(np.eye(1000)[:, :4], y, k=1, permutations=199)
    assert found.p_values.tolist() == [1.0]


@pytest.mark.slow
@pytest.mark.parametrize("core", [None, "Haswell", "Zen"])
def test_whichever_kernels_the_linear_algebra_has(core):
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    if core:
        environment["OPENBLAS_CORETYPE"] = core
    subprocess.run([sys.executable, "-c", RARE], check=True, env=environment, timeout=60)
