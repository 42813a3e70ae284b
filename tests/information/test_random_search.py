"""Random inputs of every kind, against what is promised of all of them."""

from __future__ import annotations

import numpy as np
import pytest

from memshare_jupyter import mutual_info_matrix, mutualinfo, select_features

# What a variable may look like: name and how to make it of normal values and a generator.
SHAPES = {
    "normal": lambda r, x: x,
    "tied": lambda r, x: np.floor(1.5 * x),
    "rounded": lambda r, x: np.round(x, 1),
    "zero inflated": lambda r, x: np.where(r.random(x.size) < r.uniform(0.3, 0.99), 0, np.exp(x)),
    "heavy": lambda r, x: r.standard_cauchy(x.size),
    "one": lambda r, x: (np.arange(x.size) == r.integers(x.size)).astype(float),
    "huge": lambda r, x: x * 10.0 ** r.integers(10, 300),
    "tiny": lambda r, x: x * 10.0 ** -r.integers(10, 320),
    "counts": lambda r, x: r.poisson(3, x.size),
    "bool": lambda r, x: x > 0.5,
    "float16": lambda r, x: x.astype(np.float16),
    "big-endian": lambda r, x: x.astype(">f8"),
    "backwards": lambda r, x: np.repeat(x, 2)[::-2],
    "clusters": lambda r, x: x + 1e6 * (x > 0),
    "sorted": lambda r, x: np.sort(x),
    "duplicates": lambda r, x: r.choice(x, x.size),
    "capped": lambda r, x: np.minimum(x, r.normal()),
    "shifted": lambda r, x: x + 10.0 ** r.integers(2, 9),
    "lattice": lambda r, x: r.integers(0, r.integers(2, 600), x.size) / 2,
    "outlier": lambda r, x: np.where(np.arange(x.size) == 0, 10.0 ** r.integers(2, 15), x),
    "lognormal": lambda r, x: np.exp(3 * x),
    "constant": lambda r, x: np.full(x.size, 7.0),
}
LABELS = {
    "2": lambda r, x: r.integers(0, 2, x.size),
    "5": lambda r, x: r.integers(0, 5, x.size),
    "32": lambda r, x: r.integers(0, 32, x.size),
    "all": lambda r, x: r.permutation(x.size),
    "none": lambda r, x: np.zeros(x.size, int),
    "rare": lambda r, x: (np.arange(x.size) == r.integers(x.size)).astype(int),
    "strings": lambda r, x: np.array(list("abc"))[r.integers(0, 3, x.size)],
    "objects": lambda r, x: np.array(["u", "v"], dtype=object)[r.integers(0, 2, x.size)],
    "floats": lambda r, x: r.integers(0, 3, x.size) * 1e-15,
    "large": lambda r, x: r.integers(0, 3, x.size) * (2**62 - 1),
    "of x": lambda r, x: (x > np.median(x)).astype(int),
}
ROUNDING = 1e-12


def drawn(seed):
    r = np.random.default_rng(seed)
    n = int(np.exp(r.uniform(np.log(3), np.log(3000))))
    x = r.normal(size=n)
    shape, kind = r.choice(list(SHAPES)), r.choice(list(LABELS))
    return r, SHAPES[shape](r, x), LABELS[kind](r, x), f"seed {seed}: {n} {shape} x {kind}"


def entropy(labels):
    _, counts = np.unique(labels, return_counts=True)
    shares = counts / counts.sum()
    return -float(shares @ np.log(shares))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"transform": "normal"}, {"bias_correction": True}])
@pytest.mark.parametrize("part", range(4))
def test_promises_for_a_variable_and_a_label(part, options):
    options = {"y_discrete": True, **options}
    for seed in range(25 * part, 25 * part + 25):
        r, x, y, case = drawn(seed)
        with np.errstate(all="raise"):
            found = mutualinfo(x, y, **options)
        assert np.isfinite(found), case
        assert 0.0 <= found <= entropy(y) + 1e-9, case
        order = r.permutation(len(y))
        assert mutualinfo(x[order], y[order], **options) == pytest.approx(found, abs=ROUNDING), case
        swapped = {**options, "x_discrete": True, "y_discrete": False}
        assert mutualinfo(y, x, **swapped) == pytest.approx(found, abs=ROUNDING), case
        numbers = np.asarray(x, dtype=np.float64)
        if np.abs(numbers).max() < 1e200 and np.abs(numbers).max() > 1e-200:
            scaled = mutualinfo(numbers * 2.0**40, y, **options)
            assert scaled == pytest.approx(found, abs=ROUNDING), case
        # The matrix, in either order: every copy of a column is the same
        width = int(r.integers(1, 40))
        for order in "CF":
            matrix = np.asarray(np.repeat(np.asarray(x)[:, None], width, axis=1), order=order)
            copies = mutual_info_matrix(matrix, y, **options)
            np.testing.assert_allclose(copies, found, rtol=0, atol=ROUNDING, err_msg=case)
        assert select_features(matrix, y, k=width).ranks.tolist() == [1] * width, case
        # Missing values are those of the samples left out
        gone = r.random(len(y)) < 0.2
        if 0 < gone.sum() < len(y):
            holed = np.where(gone, np.nan, numbers)
            with pytest.raises(ValueError, match="NaN"):
                mutualinfo(holed, y, **options)
            without = mutualinfo(holed, y, na_rm=True, **options)
            expected = mutualinfo(numbers[~gone], y[~gone], **options)
            assert without == pytest.approx(expected, abs=ROUNDING), case


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"transform": "normal"}])
def test_promises_for_two_continuous_variables(options):
    for seed in range(25):
        r, x, _, case = drawn(seed)
        z = SHAPES[r.choice(list(SHAPES))](r, r.normal(size=len(x)))
        with np.errstate(all="raise"):
            found = mutualinfo(x, z, **options)
        assert np.isfinite(found), case
        assert found >= 0.0, case
        near = {"rel": 1e-8, "abs": 1e-11}
        assert mutualinfo(z, x, **options) == pytest.approx(found, **near), case
        order = r.permutation(len(x))
        assert mutualinfo(x[order], z[order], **options) == pytest.approx(found, **near), case


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["kde", "ksg"])
def test_promises_of_the_other_estimators(estimator):
    for seed in range(60):
        r, x, y, case = drawn(seed)
        if len(y) > 400:
            continue
        options = {"y_discrete": True, "estimator": estimator}
        found = mutualinfo(x, y, **options)
        assert np.isfinite(found), case
        assert found >= 0.0, case
        if estimator == "ksg":
            assert found <= entropy(y) + 1e-9, case
            order = r.permutation(len(y))
            assert mutualinfo(x[order], y[order], **options) == found, case


@pytest.mark.slow
def test_p_values_of_rare_counts_are_those_of_the_tables():
    for seed in range(20):
        r = np.random.default_rng(seed)
        n = int(r.integers(100, 1500))
        x, y = np.zeros(n), np.zeros(n, int)
        x[r.choice(n, r.integers(1, 6), replace=False)] = 1
        y[r.choice(n, r.integers(1, 6), replace=False)] = 1
        X = np.column_stack([x, *r.normal(size=(int(r.integers(0, 5)), n))])
        found = select_features(X, y, threshold=0.0, permutations=99)
        p_value = found.p_values[found.columns.tolist().index(0)]

        def together(labels, x=x):
            return mutualinfo(x, labels, y_discrete=True, transform="normal")

        seeds = [np.random.SeedSequence(0, spawn_key=(i,)) for i in range(99)]
        permuted = [together(y[np.random.default_rng(s).permutation(n)]) for s in seeds]
        reached = sum(value >= together(y) - 1e-11 for value in permuted)
        assert p_value == (1 + reached) / 100, seed
