from __future__ import annotations

import math

import numpy as np
import pytest

from memshare_jupyter.information import _kernel_mi
from memshare_jupyter.information._kernel_mi import epanechnikov, kernel_mutualinfo, same_label


def pair(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, 0.7 * x + rng.normal(size=n)


def written_out(in_x, in_y):
    n = len(in_x)
    ratio = (in_x * in_y).sum(axis=1) / (in_x.sum(axis=1) * in_y.sum(axis=1))
    return np.log(ratio).mean() + math.log(n)


def test_estimate_and_jackknife_are_those_written_out_with_whole_matrices():
    x, y = (epanechnikov(v, 0.9) for v in pair(60))
    in_x, in_y = x(0, 60), y(0, 60)
    raw = written_out(in_x, in_y)
    assert kernel_mutualinfo(x, y, 60) == pytest.approx(raw, rel=1e-12)
    left = [np.delete(np.arange(60), k) for k in range(60)]
    without = np.mean([written_out(in_x[np.ix_(i, i)], in_y[np.ix_(i, i)]) for i in left])
    corrected = kernel_mutualinfo(x, y, 60, bias_correction=True)
    assert corrected == pytest.approx(60 * raw - 59 * without, rel=1e-9)


@pytest.mark.parametrize("rows", [1, 7, 60])
def test_blocks_of_any_height_give_the_same(monkeypatch, rows):
    x, y = (epanechnikov(v, 0.9) for v in pair(60))
    whole = kernel_mutualinfo(x, y, 60, bias_correction=True)
    monkeypatch.setattr(_kernel_mi, "_BLOCK_BYTES", 8 * 60 * rows)
    assert kernel_mutualinfo(x, y, 60, bias_correction=True) == pytest.approx(whole, rel=1e-10)


def test_label_kernels_on_both_sides_are_the_plug_in_estimate():
    codes = np.repeat([0, 1, 2], 20)
    found = kernel_mutualinfo(same_label(codes), same_label(codes), 60)
    assert found == pytest.approx(math.log(3), rel=1e-12)
