"""Mutual information within the levels of a covariate, and as a share of what there can be."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter import mutual_info_matrix, mutual_info_pairs, mutualinfo, select_features
from memshare_jupyter.information import _pairs
from memshare_jupyter.information._columns import ColumnMutualInfo
from memshare_jupyter.information._options import Options
from memshare_jupyter.information._pair import pair_mutualinfo


def batches(n=600, seed=0):
    """Return columns of which the first differs by class, the second by batch; classes; batches."""
    rng = np.random.default_rng(seed)
    batch = rng.integers(0, 3, n)
    y = np.where(rng.random(n) < 0.8, batch, rng.integers(0, 3, n))
    X = rng.normal(size=(n, 6))
    X[:, 0] += y
    X[:, 1] += 2 * batch
    X[:, 2] = np.round(X[:, 2] + batch)
    return X, y, batch


KINDS = [
    {"y_discrete": True},
    {"y_discrete": True, "transform": "normal"},
    {"y_discrete": True, "bias_correction": True},
    {"y_discrete": True, "estimator": "kde"},
    {"x_discrete": True, "y_discrete": True},
    {"x_discrete": True},
    {},
]


class TestGiven:
    @pytest.mark.slow
    @pytest.mark.parametrize("options", KINDS, ids=str)
    def test_it_is_the_mean_over_the_levels(self, options):
        X, y, batch = batches(240)
        X = np.round(X, 1)
        levels = [(X[batch == b], y[batch == b]) for b in range(3)]
        means = [
            sum(
                len(labels) / 240 * pair_mutualinfo(some[:, i], labels, Options(**options))[0]
                for some, labels in levels
            )
            for i in range(6)
        ]
        found = mutual_info_matrix(X, y, given=batch, **options)
        # A level below 0 counts as it is; only a mean below it is 0.
        np.testing.assert_allclose(found, np.maximum(means, 0), rtol=1e-9, atol=1e-15)
        one_by_one = [mutualinfo(column, y, given=batch, **options) for column in X.T]
        np.testing.assert_allclose(found, one_by_one, rtol=1e-11, atol=1e-15)

    def test_what_comes_from_the_batch_goes(self):
        X, y, batch = batches()
        plain = mutual_info_matrix(X, y, y_discrete=True)
        within = mutual_info_matrix(X, y, y_discrete=True, given=batch, bias_correction=True)
        assert plain[1] > 0.25
        assert within[1] < 0.03
        assert within[0] > 0.05

    def test_labels_of_any_type_in_any_order_will_do(self):
        X, y, batch = batches()
        named = np.array(["third", "first", "second"])[batch]
        found = mutualinfo(X[:, 0], y, y_discrete=True, given=named)
        expected = mutualinfo(X[:, 0], y, y_discrete=True, given=batch)
        assert found == pytest.approx(expected, rel=1e-12)
        constant = mutualinfo(X[:, 0], y, y_discrete=True, given=np.zeros(600))
        assert constant == mutualinfo(X[:, 0], y, y_discrete=True)

    def test_missing_ones_are_refused_or_left_out(self):
        X, y, batch = batches()
        broken = batch.astype(float)
        broken[:5] = np.nan
        with pytest.raises(ValueError, match="given has 5 NaN"):
            mutual_info_matrix(X, y, y_discrete=True, given=broken)
        X[7, 3] = np.nan
        found = mutual_info_matrix(X, y, y_discrete=True, given=broken, na_rm=True)
        expected = mutual_info_matrix(X[5:], y[5:], y_discrete=True, given=batch[5:], na_rm=True)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        one = mutualinfo(X[:, 3], y, y_discrete=True, given=broken, na_rm=True)
        assert found[3] == pytest.approx(one, rel=1e-12)

    def test_permutations_stay_within_levels(self):
        _, y, batch = batches()
        order = ColumnMutualInfo(y, given=batch, y_discrete=True).order(np.random.default_rng(0))
        np.testing.assert_array_equal(batch[order], batch)
        assert sorted(order) == list(range(600))
        assert (order != np.arange(600)).mean() > 0.9

    @pytest.mark.parametrize("options", [{"transform": "normal"}, {"estimator": "kde"}], ids=str)
    def test_permuters_give_what_a_call_gives(self, options):
        X, y, batch = batches(150)
        score = ColumnMutualInfo(y, given=batch, y_discrete=True, **options)
        order = score.order(np.random.default_rng(0))
        expected = ColumnMutualInfo(y[order], given=batch, y_discrete=True, **options)(X)
        np.testing.assert_allclose(score.permuter(X)(order), expected, rtol=1e-11, atol=1e-15)

    def test_p_values_are_of_what_is_told_within_levels(self):
        X, y, batch = batches()
        plain = select_features(X, y, k=6, permutations=99)
        within = select_features(X, y, k=6, permutations=99, given=batch)
        assert dict(zip(plain.names, plain.p_values, strict=True))[1] == 0.01
        p_of = dict(zip(within.names, within.p_values, strict=True))
        assert p_of[0] == 0.01
        assert p_of[1] > 0.05
        found = select_features(X, y, alpha=0.05, permutations=2000, given=batch)
        assert found.names == [0]

    @pytest.mark.slow
    def test_engines_give_the_same(self):
        X, y, batch = batches()
        cluster = ms.local_cluster(2, quiet=True)
        try:
            with ms.Namespace("within") as pages:
                pages["X"], pages["y"], pages["batch"] = X, y, batch
                for options in ({"k": 6, "permutations": 40}, {"alpha": 0.5, "permutations": 400}):
                    here = select_features(X, y, given=batch, **options)
                    there = select_features(
                        "X", "y", given="batch", namespace="within", cluster=cluster, **options
                    )
                    assert here.names == there.names
                    np.testing.assert_array_equal(here.p_values, there.p_values)
                pairs = mutual_info_pairs("within.X", given="within.batch", cluster=cluster)
                np.testing.assert_allclose(pairs, mutual_info_pairs(X, given=batch), rtol=1e-12)
                assert len(ms.page_list()) == 3
        finally:
            cluster.stop()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"given": np.arange(600)}, "given has 600 levels for 600 samples"),
            ({"given": np.zeros(5)}, "given"),
            ({"given": np.zeros(600), "compat": "R"}, "compat='R' knows no given"),
        ],
    )
    def test_what_cannot_be_a_covariate_is_refused(self, change, message):
        X, y, _ = batches()
        with pytest.raises(ValueError, match=message):
            mutualinfo(X[:, 0], y, y_discrete=True, **change)
        with pytest.raises(ValueError, match=message):
            mutual_info_matrix(X, y, y_discrete=True, **change)

    def test_methods_that_choose_by_codes_have_none(self):
        X, y, batch = batches(50)
        with pytest.raises(ValueError, match="are for method='top'"):
            select_features(X, y, k=2, method="mrmr", given=batch)


class TestNormalize:
    def test_it_is_the_correlation_of_a_normal_pair(self):
        rng = np.random.default_rng(0)
        x, noise = rng.normal(size=(2, 4000))
        y = 0.8 * x + 0.6 * noise
        found = mutualinfo(x, y, estimator="ksg", normalize=True)
        assert found == pytest.approx(0.8, abs=0.02)
        nats = mutualinfo(x, y, estimator="ksg")
        assert found == pytest.approx(np.sqrt(1 - np.exp(-2 * nats)), rel=1e-12)

    def test_it_is_the_share_of_the_entropy_of_a_label(self):
        X, y, _ = batches()
        shares = np.bincount(y) / y.size
        entropy = -(shares * np.log(shares)).sum()
        nats = mutual_info_matrix(X, y, y_discrete=True)
        found = mutual_info_matrix(X, y, y_discrete=True, normalize=True)
        np.testing.assert_allclose(found, nats / entropy, rtol=1e-12)
        one = mutualinfo(X[:, 0], y, y_discrete=True, normalize=True)
        assert one == pytest.approx(found[0], rel=1e-12)

    def test_what_determines_the_other_has_1(self):
        y = np.arange(90) % 3
        coarse = y > 0
        discrete = {"x_discrete": True, "y_discrete": True, "normalize": True}
        assert mutualinfo(y, coarse, **discrete) == pytest.approx(1.0, rel=1e-12)
        assert mutualinfo(coarse, y, **discrete) == pytest.approx(1.0, rel=1e-12)
        assert mutualinfo(y, np.zeros(90), **discrete) == 0.0
        far = y * 1000.0 + np.random.default_rng(0).normal(size=90)
        options = {"y_discrete": True, "normalize": True}
        assert mutualinfo(far, y, transform="normal", **options) > 0.8

    def test_within_levels_it_is_the_share_of_what_is_left(self):
        _, y, batch = batches()
        left = mutualinfo(y, y, x_discrete=True, y_discrete=True, given=batch)
        assert 0 < left < mutualinfo(y, y, x_discrete=True, y_discrete=True)
        options = {"x_discrete": True, "y_discrete": True, "given": batch, "normalize": True}
        assert mutualinfo(y, y, **options) == pytest.approx(1.0, rel=1e-12)

    @pytest.mark.parametrize("options", KINDS, ids=str)
    def test_it_is_never_outside_0_and_1(self, options):
        rng = np.random.default_rng(1)
        X, y = np.round(rng.normal(size=(30, 20))), rng.integers(0, 12, 30)
        found = mutual_info_matrix(X, y, normalize=True, **options)
        assert 0 <= found.min() <= found.max() <= 1

    def test_it_has_no_unit_and_ranks_nothing(self):
        X, y, _ = batches(50)
        with pytest.raises(ValueError, match="leave out base"):
            mutualinfo(X[:, 0], y, base=2, normalize=True)
        with pytest.raises(ValueError, match="knows no base, bias_correction, normalize"):
            mutualinfo(X[:, 0], y, compat="R", normalize=True)
        with pytest.raises(ValueError, match="normalize=True is for the selected"):
            select_features(X, y, k=2, normalize=True)


class TestPairs:
    def test_every_pair_has_what_mutualinfo_gives(self):
        X, y, _ = batches(120)
        block = np.column_stack([X[:, :3], y])
        labels = [False, False, False, True]
        found = mutual_info_pairs(block, x_discrete=labels)
        np.testing.assert_array_equal(found, found.T)
        for i in range(4):
            for j in range(i + 1, 4):
                expected = mutualinfo(
                    block[:, i], block[:, j], x_discrete=labels[i], y_discrete=labels[j]
                )
                assert found[i, j] == pytest.approx(expected, rel=1e-11, abs=1e-15)
        entropy = mutualinfo(y, y, x_discrete=True, y_discrete=True)
        assert np.diag(found).tolist() == [np.inf, np.inf, np.inf, pytest.approx(entropy)]

    def test_some_columns_are_taken_by_number_or_name(self):
        pandas = pytest.importorskip("pandas")
        X, _, _ = batches(80)
        whole = mutual_info_pairs(X)
        some = mutual_info_pairs(X, [4, 0, 2])
        np.testing.assert_allclose(some, whole[np.ix_([4, 0, 2], [4, 0, 2])], rtol=1e-11)
        frame = pandas.DataFrame(X, columns=list("abcdef"))
        np.testing.assert_allclose(mutual_info_pairs(frame, ["e", "a", "c"]), some, rtol=1e-11)
        with pytest.raises(ValueError, match="no column 'x'; its columns are 'a', 'b'"):
            mutual_info_pairs(frame, ["x"])

    def test_a_constant_tells_nothing_about_itself(self):
        X = np.column_stack([np.ones(20), np.arange(20)])
        assert mutual_info_pairs(X, normalize=True).tolist() == [[0, 0], [0, 1]]
        assert mutual_info_pairs(X[:, :0]).shape == (0, 0)

    def test_missing_values_are_named_by_the_column_of_the_matrix(self):
        X, _, _ = batches(60)
        X[3, 4] = np.nan
        with pytest.raises(ValueError, match="column 4 of X has 1 NaN"):
            mutual_info_pairs(X, [0, 4])
        found = mutual_info_pairs(X, [0, 4], na_rm=True)
        expected = mutualinfo(np.delete(X[:, 0], 3), np.delete(X[:, 4], 3))
        assert found[0, 1] == pytest.approx(expected)

    def test_examples(self):
        found = doctest.testmod(_pairs)
        assert found.attempted > 0
        assert found.failed == 0
