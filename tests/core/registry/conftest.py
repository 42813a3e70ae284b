"""What the tests of the registry share."""

from __future__ import annotations

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process


@pytest.fixture
def page():
    """A page of this process, ``n.x``, of five numbers."""
    ms.register_variables("n", {"x": np.arange(5)})
    yield
    process.registry().gc("n")
