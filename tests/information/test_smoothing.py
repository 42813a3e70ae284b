from __future__ import annotations

import numpy as np
import pytest

from memshare_jupyter.information._smoothing import GRID_POINTS, smoothed


@pytest.mark.parametrize("strength", [0.25, 5.0, 62.5, 128.0])
def test_smoothing_solves_the_penalised_system_and_keeps_the_sums(strength):
    counts = np.random.default_rng(7).poisson(3, size=(GRID_POINTS, 4)).astype(float)
    first, second = np.diff(np.eye(GRID_POINTS), axis=0), np.diff(np.eye(GRID_POINTS), 2, axis=0)
    system = np.eye(GRID_POINTS) + strength**2 * second.T @ second + 2 * strength * first.T @ first
    # The system's condition number is 16 * strength**2, up to 3e5.
    np.testing.assert_allclose(system @ smoothed(counts, strength), counts, atol=1e-9)
    np.testing.assert_allclose(smoothed(counts, strength).sum(axis=0), counts.sum(axis=0))
