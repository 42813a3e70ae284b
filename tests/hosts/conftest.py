"""Labs of two and four hosts; where there can be none, their tests are skipped and say why.

All of it is slow.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts.lab import Lab, why_not


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def _possible():
    if why := why_not():
        pytest.skip(why)


@pytest.fixture(scope="module")
def two(_possible):
    """Two hosts with two engines each, for tests that leave them as they are."""
    with Lab(2) as lab:
        yield lab


@pytest.fixture
def lab(_possible):
    """Make a lab of one's own."""
    made = []

    def make(*arguments, **options):
        made.append(Lab(*arguments, **options))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            one.close()
