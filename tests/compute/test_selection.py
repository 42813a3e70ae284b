from __future__ import annotations

import numpy as np
import pytest

from memshare_jupyter.compute.columns import mutual_info_matrix
from memshare_jupyter.compute.selection import mutual_info_score_func, select_features


def study(n=200, k=8):
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, size=n)
    X = rng.normal(size=(n, k))
    X[:, 5] += 2.0 * y
    X[:, 2] += 1.0 * y
    X[:, 7] = X[:, 2]
    return X, y


def test_best_come_first_with_their_names_values_and_ranks():
    X, y = study()
    found = select_features(X, y, k=4, names=list("abcdefgh"))
    values = mutual_info_matrix(X, y, y_discrete=True)
    assert found.names[:3] == ["f", "c", "h"]
    np.testing.assert_array_equal(found.columns[:3], [5, 2, 7])
    np.testing.assert_array_equal(found.values, values[found.columns])
    np.testing.assert_array_equal(found.ranks, [1, 2, 2, 4])
    assert len(found) == 4
    assert repr(found).splitlines()[1].split() == ["1", "f", f"{values[5]:.4f}"]


def test_threshold_selects_all_that_reach_it():
    X, y = study()
    values = mutual_info_matrix(X, y, y_discrete=True)
    found = select_features(X, y, threshold=values[2])
    assert found.names == [5, 2, 7]
    assert len(select_features(X, y, threshold=10.0)) == 0


def test_names_of_a_frame_are_taken():
    pandas = pytest.importorskip("pandas")
    X, y = study()
    frame = pandas.DataFrame(X, columns=list("abcdefgh"))
    assert select_features(frame, y, k=1).names == ["f"]


def test_p_values_by_permutation_tell_informative_from_other_features():
    X, y = study()
    found = select_features(X, y, k=8, permutations=99)
    p_of = dict(zip(found.names, found.p_values, strict=True))
    assert p_of[5] == p_of[2] == p_of[7] == 0.01  # 1 of 100: none as high as the given order
    # Five p-values of independent columns: all five at most 0.05 has a chance of 3e-7.
    assert max(p_of[c] for c in (0, 1, 3, 4, 6)) > 0.05
    again = select_features(X, y, k=8, permutations=99)
    np.testing.assert_array_equal(found.p_values, again.p_values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either k"),
        ({"k": 1, "threshold": 0.1}, "either k"),
        ({"k": 1, "names": ["a"]}, "1 names for the 8 columns"),
    ],
)
def test_wrong_choices_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        select_features(*study(), **options)


def test_scikit_learn_selects_by_the_score():
    selection = pytest.importorskip("sklearn.feature_selection")
    X, y = study()
    X.flags.writeable = False  # as views of shared memory are
    chosen = selection.SelectKBest(mutual_info_score_func, k=3).fit(X, y)
    np.testing.assert_array_equal(np.flatnonzero(chosen.get_support()), [2, 5, 7])
