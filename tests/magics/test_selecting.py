"""%memshare select, in a real shell on real engines."""

from __future__ import annotations

import pytest
from IPython.core.error import UsageError

import memshare_jupyter as ms


@pytest.fixture(scope="module", autouse=True)
def engines():
    cluster = ms.local_cluster(1, quiet=True)
    yield cluster
    cluster.stop()


@pytest.fixture
def rna(run):
    run(
        "import numpy as np\nrng = np.random.default_rng(0)\ny = rng.integers(0, 2, 90)\n"
        "X = rng.normal(size=(90, 60)) + 2 * np.outer(y, np.arange(60) > 57)"
    )
    run("%memshare register rna X y -q")
    return run


def test_columns_of_a_page_are_selected_on_the_engines(rna):
    found = rna("%memshare select rna.X rna.y -k 2")
    assert sorted(found.columns) == [58, 59]
    assert len(rna("%memshare select rna.X y")) == 50
    stepwise = rna("%memshare select rna.X rna.y -k 3 --method cmim")
    assert stepwise.scores.size == 3


@pytest.mark.slow
def test_columns_of_the_notebooks_array_by_the_false_discovery_rate(rna):
    found = rna("%memshare select X y --alpha 0.01")
    assert {58, 59} <= set(found.columns)
    assert (found.q_values <= 0.01).all()
    assert len(rna("%memshare select X y --continuous -k 1")) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("X y -k -1", "k must not be negative"),
        ("X y --alpha 0.1 --method mrmr", "are for method='top'"),
        ("X X -k 2", "y must be one-dimensional"),
        ("rna.Z y", "no page rna.Z"),
        ("rna.X rna.y -k 2 --alpha 0.1", "not allowed with"),
    ],
)
def test_mistakes_are_one_line(rna, line, says):
    with pytest.raises(UsageError, match=says):
        rna(f"%memshare select {line}")
