from __future__ import annotations

import doctest
import subprocess
import sys
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

import memshare_jupyter as ms
from memshare_jupyter import MutualInfoSelector, select_features
from memshare_jupyter.information import _selector


def study(n=120, k=20):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    X = rng.normal(size=(n, k))
    X[:, 3] += 2 * y
    X[:, 8] = np.exp(3 * (X[:, 8] + y))
    return X, y


@pytest.mark.parametrize(
    "selector",
    [MutualInfoSelector(k=2), MutualInfoSelector(k=2, method="mrmr")],
    ids=["top", "mrmr"],
)
def test_it_is_an_estimator(selector):
    checks = list(estimator_checks_generator(selector))
    assert len(checks) > 30
    left_out = []
    for estimator, check in checks:
        try:
            check(estimator)
        except SkipTest as reason:  # what scikit-learn does not check unless told to
            left_out.append(str(reason))
    assert all("SCIPY_ARRAY_API" in reason for reason in left_out)


def test_it_selects_what_select_features_does():
    X, y = study()
    for options in ({"k": 2}, {"k": 2, "method": "cmim"}, {"alpha": 0.05, "permutations": 500}):
        found = MutualInfoSelector(**options).fit(X, y)
        expected = select_features(X, y, **options).columns
        np.testing.assert_array_equal(found.selected_.columns, expected)
        np.testing.assert_array_equal(found.get_support(indices=True), np.sort(expected))
        np.testing.assert_array_equal(found.transform(X), X[:, np.sort(expected)])


def test_it_works_in_pipelines_and_searches():
    X, y = study()
    pipeline = make_pipeline(MutualInfoSelector(k=2), LogisticRegression())
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.75
    search = GridSearchCV(pipeline, {"mutualinfoselector__k": [1, 2]}, cv=3).fit(X, y)
    assert search.best_params_["mutualinfoselector__k"] in (1, 2)


def test_names_of_frames_go_through():
    X, y = study()
    frame = pd.DataFrame(X, columns=[f"g{i}" for i in range(20)])
    found = MutualInfoSelector(k=2).set_output(transform="pandas").fit(frame, y)
    assert found.get_feature_names_out().tolist() == ["g3", "g8"]
    assert found.transform(frame).columns.tolist() == ["g3", "g8"]


@pytest.mark.slow
def test_pages_are_taken_by_name_and_as_views():
    X, y = study()
    with ms.Namespace("pipe") as pages:
        pages["X"], pages["y"] = X, y
        pages["F"] = pd.DataFrame(X, columns=[f"g{i}" for i in range(20)])
        found = MutualInfoSelector(k=2).fit(pages["X"], pages["y"])
        np.testing.assert_array_equal(found.get_support(indices=True), [3, 8])
        cluster = ms.local_cluster(1, quiet=True)
        try:
            by_name = MutualInfoSelector(k=2, cluster=cluster).fit("pipe.X", "pipe.y")
            np.testing.assert_array_equal(by_name.transform("pipe.X"), X[:, [3, 8]])
            framed = MutualInfoSelector(k=2, cluster=cluster).fit("pipe.F", y)
            assert framed.get_feature_names_out().tolist() == ["g3", "g8"]
            assert clone(by_name).cluster is cluster
        finally:
            cluster.stop()


def test_a_continuous_y_is_told_from_labels():
    X, _ = study()
    y = X[:, 5] ** 3
    assert MutualInfoSelector(k=1).fit(X, y).get_support(indices=True).tolist() == [5]


def test_example():
    found = doctest.testmod(_selector)
    assert found.attempted > 0
    assert found.failed == 0


def test_without_scikit_learn_the_error_names_it():
    program = (
        "import sys; sys.modules['sklearn'] = None; import memshare_jupyter as ms\n"
        "try: ms.MutualInfoSelector\n"
        "except ImportError as error: assert 'pip install scikit-learn' in str(error); print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "ok", done.stderr
