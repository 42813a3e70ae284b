"""Claims about `mutualinfo`; the stored results of R memshare are in test_reference_values.py."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memshare_jupyter.information._density import on_grid
from memshare_jupyter.information._mutual_info import mutualinfo

GOLUB = Path(__file__).parents[2] / "notebooks" / "data" / "golub1999.npz"


def normal_pair(rho, n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=n)


def classes(n, k, distance, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, size=n)
    return distance * y + rng.normal(size=n), y


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5])
def test_normal_pair_is_near_the_truth(rho):
    # Smoothing widens both densities: a third below the truth at rho = 0.5 and n = 4,000,
    # half of it at rho = 0.9, in the reference as well.
    truth = -math.log(1 - rho**2) / 2
    found = mutualinfo(*normal_pair(rho, 4000))
    assert 0.65 * truth < found < truth + 0.005


def test_two_classes_are_near_the_truth():
    # The truth by numerical integration of the mixture's densities.
    grid = np.linspace(-9, 11, 200_001)
    given = [np.exp(-((grid - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0, 2)]
    mixed = sum(given) / 2
    truth = sum((g * np.log(g / mixed)).sum() for g in given) / 2 * (grid[1] - grid[0])
    found = mutualinfo(*classes(10_000, 2, 2.0), y_discrete=True)
    # The sampling error at n = 10,000 is 0.005; smoothing lowers it by 7 % of 0.337.
    assert found == pytest.approx(0.93 * truth, abs=0.015)


@pytest.mark.parametrize("k", [2, 10])
def test_independent_classes_give_little(k):
    # Positive bias of about (effective parameters) / (2 n); here up to 0.01.
    x, y = classes(4000, k, 0.0)
    assert 0 <= mutualinfo(x, y, y_discrete=True) < 0.02


@pytest.mark.slow
def test_many_independent_pairs_are_never_negative():
    rng = np.random.default_rng(9)
    for n in (3, 4, 10, 50):
        for _ in range(20):
            x, y = rng.normal(size=(2, n))
            assert mutualinfo(x, y) >= 0
            assert mutualinfo(x, rng.integers(0, 2, n), y_discrete=True) >= 0


def test_continuous_pair_is_symmetric():
    x, y = normal_pair(0.6, 400)
    y = np.exp(y)
    assert mutualinfo(x, y) == pytest.approx(mutualinfo(y, x), rel=1e-12)


def test_class_may_come_first():
    x, y = classes(300, 3, 1.0)
    assert mutualinfo(y, x, x_discrete=True) == mutualinfo(x, y, y_discrete=True)


@settings(max_examples=15)
@given(
    factor=st.floats(1e-12, 1e12),
    shift=st.floats(-1e3, 1e3),
    decimals=st.sampled_from([0, 1, 15]),
    y_discrete=st.booleans(),
)
def test_scale_and_shift_change_nothing(factor, shift, decimals, y_discrete):
    x, y = classes(200, 3, 1.0)
    x = np.round(x, decimals)
    there = mutualinfo((x + shift) * factor, y, y_discrete=y_discrete)
    # The grid is the same to the last bit (test_density), its width in s.d. to rounding.
    assert there == pytest.approx(mutualinfo(x, y, y_discrete=y_discrete), rel=1e-12)


@pytest.mark.parametrize("factor", [1e-300, 1e-12, 1e12, 1e300])
def test_extreme_scales_change_nothing(factor):
    x, y = normal_pair(0.5, 200)
    assert mutualinfo(x * factor, y) == pytest.approx(mutualinfo(x, y), rel=1e-12)


def test_range_beyond_the_largest_float_is_no_obstacle():
    x, y = normal_pair(0.5, 200)
    x /= np.abs(x).max()
    assert mutualinfo(x * 1.7e308, y) == pytest.approx(mutualinfo(x, y), rel=1e-12)


def test_labels_are_only_names():
    x, y = classes(300, 3, 1.0)
    expected = mutualinfo(x, y, y_discrete=True)
    for labels in (y * 10.0 - 3, y.astype(np.int8), np.array(["a", "b", "c"])[y]):
        assert mutualinfo(x, labels, y_discrete=True) == pytest.approx(expected, rel=1e-13)
    assert mutualinfo(x, 2 - y, y_discrete=True) == pytest.approx(expected, rel=1e-13)
    tiny = y * 1e-14  # the reference calls this one constant
    assert mutualinfo(x, tiny, y_discrete=True) == pytest.approx(expected, rel=1e-13)


def test_counts_with_many_zeros_keep_a_smoothing_radius():
    # 60 % zeros: 36 % of the pairs are tied. Independent variables are as near 0 as normal ones
    # are (0.01 at n = 500); had the mass lost over the border not been made good, 0.1.
    rng = np.random.default_rng(0)
    x = np.where(rng.random(500) < 0.6, 0.0, np.log1p(rng.poisson(5, size=500)))
    assert on_grid(x, 0.0).radius > 5  # cells
    assert mutualinfo(x, rng.normal(size=500)) < 0.02


def test_more_zeros_change_the_estimate_without_a_jump():
    # 424 zeros of 1,000 are 18 % of the pairs, where the radius changes its rule.
    x, y = normal_pair(0.6, 1000)
    x = np.exp(x)
    order = np.argsort(x)
    nats = []
    for zeros in (421, 423, 425, 427):
        x[order[:zeros]] = 0.0
        nats.append(mutualinfo(x, y))
    # Leaving the same border, the reference's own formula would step by 0.06.
    assert max(nats) - min(nats) < 0.01


@pytest.mark.parametrize(
    ("table", "nats"),
    [
        ([[25, 25], [25, 25]], 0.0),
        ([[50, 0], [0, 50]], math.log(2)),
        ([[10, 0, 0], [0, 10, 0], [0, 0, 10]], math.log(3)),
        ([[30, 10], [10, 30]], math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
    ],
)
def test_two_discrete_variables_give_the_plug_in_estimate(table, nats):
    i, j = np.indices(np.shape(table))
    x, y = np.repeat(i, np.ravel(table)), np.repeat(j, np.ravel(table))
    assert mutualinfo(x, y, x_discrete=True, y_discrete=True) == pytest.approx(nats, abs=1e-15)


def test_labels_as_many_as_samples_need_no_table_of_their_square():
    labels = np.arange(200_000)
    found = mutualinfo(labels, labels, x_discrete=True, y_discrete=True)
    assert found == pytest.approx(math.log(200_000), rel=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("compat", [None, "R"])
def test_fewer_than_three_samples_give_zero(n, compat):
    assert mutualinfo(np.arange(n), np.arange(n) ** 2.0, compat=compat) == 0.0


@pytest.mark.parametrize("constant", [0.0, 7.0, 1e300, 1 + 1e-14 * np.arange(50.0)])
@pytest.mark.parametrize("flags", [{}, {"y_discrete": True}])
def test_constant_variable_tells_nothing(constant, flags):
    rng = np.random.default_rng(3)
    x = np.broadcast_to(constant, 50)
    y = rng.integers(0, 2, 50)
    assert mutualinfo(x, y, **flags) == 0.0
    assert mutualinfo(rng.normal(size=50), np.zeros(50), **flags) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("discrete", [False, True])
def test_missing_values_are_an_error_that_names_the_remedy(bad, discrete):
    x, y = classes(50, 2, 1.0)
    y = y.astype(float)
    y[[3, 7]] = bad
    with pytest.raises(ValueError, match=r"^y has 2 NaN or infinite values among 50.*na_rm=True"):
        mutualinfo(x, y, y_discrete=discrete)
    kept = np.isfinite(y)
    expected = mutualinfo(x[kept], y[kept], y_discrete=discrete)
    assert mutualinfo(x, y, y_discrete=discrete, na_rm=True) == expected


def test_missing_labels_among_strings_can_be_left_out():
    x, y = classes(40, 2, 1.0)
    labels = np.array(["a", "b"], dtype=object)[y]
    labels[5] = None
    with pytest.raises(ValueError, match="y has 1 NaN"):
        mutualinfo(x, labels, y_discrete=True)
    kept = np.arange(40) != 5
    expected = mutualinfo(x[kept], y[kept], y_discrete=True)
    assert mutualinfo(x, labels, y_discrete=True, na_rm=True) == expected


@pytest.mark.parametrize("estimator", ["pde", "kde", "ksg"])
def test_base_chooses_the_unit(estimator):
    if estimator == "ksg":
        pytest.importorskip("sklearn")
    x, y = classes(200, 3, 1.0)
    options = {"y_discrete": True, "estimator": estimator}
    nats = mutualinfo(x, y, **options)
    assert mutualinfo(x, y, **options, base=2) == pytest.approx(nats / math.log(2), rel=1e-15)
    y = np.arange(9) % 3
    assert mutualinfo(y, y, x_discrete=True, y_discrete=True, base=3) == pytest.approx(1)


def test_use_mpmi_is_the_kernel_estimator():
    x, y = normal_pair(0.6, 100)
    assert mutualinfo(x, y, use_mpmi=True) == mutualinfo(x, y, estimator="kde")


@pytest.mark.parametrize("factor", [1e-300, 1e-12, 1e12, 1e300])
def test_kernel_estimate_does_not_know_scale_and_shift(factor):
    x, y = normal_pair(0.6, 100)
    expected = mutualinfo(x, y, estimator="kde")
    # The bandwidth is a continuous function, so rounding stays rounding.
    assert mutualinfo(x * factor, y, estimator="kde") == pytest.approx(expected, rel=1e-9)
    assert mutualinfo(x + 10, y, estimator="kde") == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("estimator", ["kde", "ksg"])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_other_estimators_are_nearer_the_truth_of_a_normal_pair(estimator, rho):
    if estimator == "ksg":
        pytest.importorskip("sklearn")
    truth = -math.log(1 - rho**2) / 2
    found = mutualinfo(*normal_pair(rho, 1000), estimator=estimator)
    # Sampling error 0.03; the kernel's own smoothing takes up to 15 %.
    assert found == pytest.approx(truth, rel=0.15, abs=0.06)


def test_many_labels_of_few_samples_are_no_warning():
    pytest.importorskip("sklearn")
    x, y = classes(30, 30, 0.1)
    assert mutualinfo(x, y, y_discrete=True, estimator="ksg") >= 0


def test_bias_correction_brings_independent_variables_to_zero():
    x, y = normal_pair(0.0, 300)
    raw = mutualinfo(x, y, estimator="kde")
    assert mutualinfo(x, y, estimator="kde", bias_correction=True) < raw / 3


def test_missing_scikit_learn_is_named_with_the_way_out(monkeypatch):
    for name in ("sklearn", "sklearn.feature_selection"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install scikit-learn, or use estimator='pde'"):
        mutualinfo(*normal_pair(0.0, 20), estimator="ksg")


@pytest.mark.parametrize(
    ("x", "y", "flags", "error", "message"),
    [
        ([1, 2, 3], [1, 2], {}, ValueError, "x has 3 and y has 2"),
        (np.ones((3, 1)), [1, 2, 3], {}, ValueError, r"shape \(3, 1\)"),
        (1.0, [1.0], {}, ValueError, r"shape \(\)"),
        ([1, 2, 3], ["a", "b", "a"], {}, TypeError, "pass y_discrete=True"),
        ([1j, 2, 3], [1, 2, 3], {}, TypeError, "x must be real numbers, not complex128"),
        ([1, 2, 3], np.array([1, "a", 2], object), {"y_discrete": True}, TypeError, "one type"),
        ([1, 2, 3], [1, 2, 3], {"compat": "S"}, ValueError, "not 'S'"),
        ([1, 2, 3], [1, 2, 3], {"compat": "R", "base": 2}, ValueError, "knows no base"),
        ([1, 2, 3], [1, 2, 3], {"base": 1}, ValueError, "2 for bits"),
        ([1, 2, 3], [1, 2, 3], {"estimator": "knn"}, ValueError, "not 'knn'"),
        ([1, 2, 3], [1, 2, 3], {"bias_correction": True}, ValueError, "estimator='kde'"),
    ],
)
def test_wrong_input_is_named(x, y, flags, error, message):
    with pytest.raises(error, match=message):
        mutualinfo(x, y, **flags)


class Subclass(np.ndarray):
    pass


def test_any_real_array_will_do():
    x, y = classes(100, 2, 1.0)
    x = np.round(x * 4)
    expected = mutualinfo(x, y, y_discrete=True)
    read_only = x.copy()
    read_only.flags.writeable = False
    strided = np.repeat(x, 3)[::3]
    variants = [
        x.astype(np.float32),
        x.astype(np.int16),
        x.astype(">f8"),
        x.astype(object),
        x.tolist(),
        x.view(Subclass),
        read_only,
        strided,
        strided[::-1][::-1],
    ]
    for variant in variants:
        before = np.array(variant)
        assert mutualinfo(variant, y, y_discrete=True) == expected
        np.testing.assert_array_equal(before, variant)
    assert type(mutualinfo(x.view(Subclass), y.view(Subclass))) is float


def test_series_and_categories_of_pandas_will_do():
    pandas = pytest.importorskip("pandas")
    x, y = classes(100, 2, 1.0)
    expected = mutualinfo(x, y, y_discrete=True)
    labels = pandas.Series(np.array(["low", "high"])[1 - y], index=np.arange(100)[::-1])
    for found in (labels, labels.astype("category"), pandas.Categorical(labels)):
        assert mutualinfo(pandas.Series(x), found, y_discrete=True) == pytest.approx(expected)


def test_zyxin_is_the_best_gene_of_golub_1999():
    with np.load(GOLUB) as data:
        expression, is_aml, accession = data["expression"], data["is_aml"], data["accession"]
    nats = [mutualinfo(gene, is_aml, y_discrete=True) for gene in expression.T]
    best = np.argsort(nats)[::-1]
    # The figures of R memshare, in four digits.
    assert accession[best[0]] == "X95735_at"
    assert round(nats[best[0]], 4) == 0.6015
    assert accession[best[2]] == "M27891_at"
    assert round(nats[best[2]], 4) == 0.5612
