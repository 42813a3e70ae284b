"""What tests of the panel share: some pages."""

from __future__ import annotations

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry._process import registry


@pytest.fixture
def rna():
    """A namespace with a matrix and a vector, owned by this process."""
    ms.register_variables("rna", {"X": np.ones((3, 4), order="F"), "y": np.arange(3)})
    yield {page.variable: page for page in ms.snapshot().pages}
    registry().gc()
