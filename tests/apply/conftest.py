"""What calls of most kinds need: two engines, and a namespace that ends."""

from __future__ import annotations

import pytest

import memshare_jupyter as ms


@pytest.fixture(scope="module")
def view():
    cluster = ms.local_cluster(2, quiet=True)
    yield cluster.view(2)
    cluster.stop()


@pytest.fixture
def study():
    with ms.Namespace("study") as namespace:
        yield namespace
