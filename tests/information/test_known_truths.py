"""What the accuracy page measures against: the truths are true, and what it says holds."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest

from memshare_jupyter import mutualinfo
from tests.benchmarks.known_truths import CASES, TASKS
from tests.benchmarks.ranking import LEVELS, SHAPES, strength_for, wrong_shares

PAGE = (Path(__file__).parents[2] / "docs" / "accuracy.md").read_text("utf-8")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_truth_of_a_task_is_what_nearest_neighbours_find(task):
    x, y = task.draw(np.random.default_rng(0), 3000)
    # Their spread is 0.02 there; of heavy tails they miss 0.05.
    assert mutualinfo(x, y, estimator="ksg") == pytest.approx(task.truth, abs=0.1)


def test_functions_of_one_variable_change_nothing_for_normal_scores():
    names = {"normal pair", "uniform margins", "half-cube, long tails", "log-normal x, exp(2 z)"}
    found = [
        mutualinfo(*task.draw(np.random.default_rng(1), 200), transform="normal")
        for task in TASKS
        if task.name in names
    ]
    assert found == [pytest.approx(found[0], rel=1e-12)] * len(names)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_feature_tells_as_much_as_it_is_made_to(shape):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(20_000) % 2)
    for level in LEVELS:
        x = shape.draw(rng, y, strength_for(shape, level, 2), 2)
        assert mutualinfo(x, y, y_discrete=True, estimator="ksg") == pytest.approx(level, abs=0.03)


def test_raw_values_order_wrongly_across_shapes_and_normal_scores_do_not():
    raw = wrong_shares(
        functools.partial(mutualinfo, y_discrete=True), 1000, 2, features=6, labelings=1
    )
    scores = wrong_shares(
        functools.partial(mutualinfo, y_discrete=True, transform="normal"),
        *(1000, 2),
        features=6,
        labelings=1,
    )
    assert raw.max() > 0.9
    assert scores.max() < 0.1


def test_the_page_has_a_row_for_each_case_and_each_sample_size():
    rows = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.splitlines()]
    assert {case.name: rows.count(case.name) for case in CASES} == {case.name: 4 for case in CASES}
    assert {task.name: rows.count(task.name) for task in TASKS} == {task.name: 3 for task in TASKS}
    assert len(re.findall(r"^\| (?:200|1,000) \| (?:2|32) \|", PAGE, re.MULTILINE)) == 28
