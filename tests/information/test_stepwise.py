from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import memshare_jupyter as ms
from memshare_jupyter import select_features
from memshare_jupyter.information._codes import (
    QuantileCodes,
    information_given,
    information_of_copula,
    information_with,
    scores_of,
)
from memshare_jupyter.information._mutual_info import mutualinfo
from memshare_jupyter.information._normal_scores import normal_scores
from memshare_jupyter.information._stepwise import Copula

METHODS = ["mrmr", "jmi", "cmim"]


def groups(n=600, seed=0):
    """Return four groups of three nearly equal columns, the first of which tell most; and noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    hidden = rng.normal(size=(n, 4)) + y[:, None] * np.array([1.2, 1.0, 0.8, 0.6])
    X = np.repeat(hidden, 3, axis=1) + 0.1 * rng.normal(size=(n, 12))
    X[:, ::3] = np.exp(2 * X[:, ::3])
    return np.column_stack([X, rng.normal(size=(n, 20))]), y


def test_codes_are_bins_of_equal_counts_with_ties_together():
    codes = QuantileCodes(4)(np.column_stack([np.arange(100)[::-1], np.arange(100) // 60]))
    np.testing.assert_array_equal(np.bincount(codes[0]), [25, 25, 25, 25])
    np.testing.assert_array_equal(codes[1], np.arange(100) // 60)
    assert QuantileCodes(16)(np.ones((5, 1))).tolist() == [[0] * 5]


def test_information_is_that_of_the_table_less_its_bias():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 500)
    codes = np.array([rng.integers(0, 8, 500), (y + rng.integers(0, 2, 500)) * 2, y])
    found = information_with(codes.astype(np.uint8), y, 3)
    for row, levels, nats in zip(codes, (8, 4, 3), found, strict=True):
        plug_in = mutualinfo(row, y, x_discrete=True, y_discrete=True)
        assert nats == pytest.approx(plug_in - (levels - 1) * 2 / 1000, abs=1e-12)


def test_conditional_information_is_the_mean_over_the_levels():
    rng = np.random.default_rng(0)
    y, s = rng.integers(0, 3, 500), rng.integers(0, 4, 500)
    codes = np.array([rng.integers(0, 8, 500), (y + s) % 5]).astype(np.uint8)
    found = information_given(codes, y, 3, s, 4)
    expected = [
        sum(
            (s == level).mean() * information_with(codes[:, s == level], y[s == level], 3)[i]
            for level in range(4)
        )
        for i in range(2)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("method", ["mrmr", "cmim"])
def test_each_group_is_covered_before_any_comes_again(method):
    X, y = groups()
    found = select_features(X, y, k=4, method=method)
    assert sorted(found.columns // 3) == [0, 1, 2, 3]
    assert found.ranks.tolist() == [1, 2, 3, 4]
    top = select_features(X, y, k=4)
    assert len(set(top.columns // 3)) < 4


@pytest.mark.parametrize("method", METHODS)
def test_two_that_tell_only_together_are_found(method):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 12))
    y = (X[:, 3] > 0).astype(int) + 2 * (X[:, 7] > 0)
    found = select_features(X, y, k=2, method=method)
    assert sorted(found.columns) == [3, 7]
    assert found.values == pytest.approx([np.log(2)] * 2, abs=0.06)


@pytest.mark.parametrize("method", METHODS)
def test_the_choice_is_that_of_the_criterion_written_out(method):
    X, y = groups(200)
    k, bins = 5, 16 if method == "mrmr" else 8
    codes = QuantileCodes(bins)(X)
    relevance = information_with(codes, y, 3)
    chosen = [int(relevance.argmax())]
    while len(chosen) < k:

        def score(x):
            own = codes[[x]]
            if method == "mrmr":
                each = [information_with(own, codes[s].astype(int), bins)[0] for s in chosen]
                return relevance[x] - np.mean(each)
            each = [information_given(own, y, 3, codes[s].astype(int), bins)[0] for s in chosen]
            return sum(each) if method == "jmi" else min(*each, relevance[x])

        left = [x for x in range(X.shape[1]) if x not in chosen]
        chosen.append(max(left, key=score))
    assert select_features(X, y, k=k, method=method).columns.tolist() == chosen


@pytest.mark.parametrize("method", METHODS)
def test_all_columns_can_be_chosen_and_equal_ones_come_in_order(method):
    X, y = groups(100)
    X = np.column_stack([X[:, :3], X[:, :3]])
    found = select_features(X, y, k=99, method=method)
    assert sorted(found.columns) == list(range(6))
    assert found.columns[0] < 3


def test_a_continuous_y_will_do():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 6))
    y = X[:, 4] ** 2 + 0.1 * rng.normal(size=500)
    assert select_features(X, y, k=1, method="mrmr", y_discrete=False).columns.tolist() == [4]


def test_frames_have_their_names_and_results_become_frames():
    X, y = groups()
    frame = pd.DataFrame(X).rename(columns=str).assign(c=np.arange(len(y)) % 7)
    found = select_features(frame, y, k=3, method="cmim")
    assert found.names == [str(c) for c in found.columns]
    table = found.to_frame()
    assert table.index.tolist() == found.names
    assert table.columns.tolist() == ["column", "rank", "value", "score"]
    assert "<td>1</td>" in found._repr_html_()


def test_names_are_escaped_in_html():
    X, y = groups(50)
    found = select_features(X[:, :1], y, k=1, names=["<script>"])
    assert "<script>" not in found._repr_html_()
    assert "&lt;script&gt;" in found._repr_html_()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 2, "method": "best"}, "one of top, mrmr, jmi, cmim, not 'best'"),
        ({"threshold": 0.1, "method": "mrmr"}, "are for method='top'"),
        ({"k": 2, "method": "jmi", "permutations": 9}, "are for method='top'"),
        ({"k": 2, "method": "jmi", "estimator": "kde"}, "are for method='top'"),
        ({"k": 2, "alpha": 0.1}, "give either"),
        ({"alpha": 1.5}, "alpha must be between 0 and 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        select_features(*groups(50), **options)


def test_missing_values_and_lengths_are_named():
    X, y = groups(50)
    with pytest.raises(ValueError, match="one row for each of the 49 values of y"):
        select_features(X, y[1:], k=2, method="mrmr")
    X[3, 17] = np.nan
    with pytest.raises(ValueError, match="column 17 of X has 1 NaN"):
        select_features(X, y, k=2, method="mrmr")


@pytest.mark.slow
def test_engines_choose_what_this_process_chooses_and_leave_nothing():
    X, y = groups()
    tied = np.round(X[:, :20])
    cluster = ms.local_cluster(2, quiet=True)
    try:
        with ms.Namespace("genes") as pages:
            pages["X"], pages["y"] = X, y
            for method in (*METHODS, "mrmr, copula"):
                name, _, copula = method.partition(", ")
                options = {"k": 6, "method": name} | ({"redundancy": copula} if copula else {})
                here = select_features(X, y, **options)
                for given in ("genes.X", pages["X"], X):
                    there = select_features(given, "genes.y", cluster=cluster, **options)
                    np.testing.assert_array_equal(here.columns, there.columns)
                    np.testing.assert_allclose(here.scores, there.scores, rtol=1e-12)
            for matrix in (X, tied):
                here = select_features(matrix, y, alpha=0.1, permutations=400)
                there = select_features(matrix, y, alpha=0.1, permutations=400, cluster=cluster)
                np.testing.assert_array_equal(here.columns, there.columns)
                np.testing.assert_array_equal(here.p_values, there.p_values)
            assert sorted(ms.page_list()) == ["genes.X", "genes.y"]
    finally:
        cluster.stop()


class TestCopula:
    def test_information_is_that_of_the_correlation_of_normal_scores(self):
        rng = np.random.default_rng(0)
        z, noise = rng.normal(size=(2, 5000))
        X = np.column_stack([z, np.exp(3 * (0.9 * z + np.sqrt(0.19) * noise)), -z, noise])
        codes = QuantileCodes(256)(X)
        found = Copula(scores_of(codes[0]))(codes)
        assert found[1] == pytest.approx(-np.log(0.19) / 2, abs=0.02)  # 16 bins: 0.73 of 0.83
        assert found[0] == pytest.approx(np.log(256))  # the most that a byte can tell
        assert found[2] > 4
        assert found[3] < 0.001
        rho = np.corrcoef(normal_scores(X[:, 0]), normal_scores(X[:, 1]))[0, 1]
        assert found[1] == pytest.approx(-np.log(1 - rho**2) / 2, abs=0.01)

    def test_constants_and_ties_have_scores(self):
        assert scores_of(np.zeros(5, dtype=np.uint8)).tolist() == [0.0] * 5
        codes = np.repeat([0, 1, 2], [50, 30, 20]).astype(np.uint8)
        scores = scores_of(codes)
        assert scores.mean() == pytest.approx(0, abs=1e-12)
        assert scores.std() == pytest.approx(1)
        assert len(set(scores)) == 3

    def test_each_group_is_covered_before_any_comes_again(self):
        X, y = groups()
        found = select_features(X, y, k=4, method="mrmr", redundancy="copula")
        assert sorted(found.columns // 3) == [0, 1, 2, 3]
        bins = select_features(X, y, k=1, method="mrmr")
        assert found.values[0] == bins.values[0]

    def test_the_choice_is_that_of_the_criterion_written_out(self):
        X, y = groups(200)
        relevance = information_with(QuantileCodes(16)(X), y, 3)
        scores = np.array([scores_of(code) for code in QuantileCodes(256)(X)])
        told = information_of_copula(scores @ scores.T / 200)
        chosen = [int(relevance.argmax())]
        while len(chosen) < 5:
            score = relevance - told[:, chosen].mean(axis=1)
            score[chosen] = -np.inf
            chosen.append(int(score.argmax()))
        found = select_features(X, y, k=5, method="mrmr", redundancy="copula")
        assert found.columns.tolist() == chosen

    @pytest.mark.parametrize(
        "options",
        [
            {"method": "cmim", "redundancy": "copula"},
            {"redundancy": "copula"},
            {"method": "mrmr", "redundancy": "copula", "x_discrete": [0]},
            {"method": "mrmr", "redundancy": "rank"},
        ],
        ids=str,
    )
    def test_it_is_refused_where_it_means_nothing(self, options):
        with pytest.raises(ValueError, match="redundancy"):
            select_features(*groups(50), k=2, **options)
