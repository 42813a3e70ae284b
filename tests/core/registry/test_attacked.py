"""What the attack found, each reduced to the few steps that it takes."""

from __future__ import annotations

import pytest

import memshare_jupyter as ms


@pytest.fixture(autouse=True)
def backend(pages_as):
    """All of this holds for memfds and for files."""
    return pages_as


def test_an_owner_that_was_out_of_sight_for_a_while_can_still_release(child, runtime_directory):
    owner = child("ms.register_variables('n', {'x': np.arange(5)})")
    viewer = child("x = ms.retrieve_views('n', 'x')['x']")
    (file,) = runtime_directory.glob(f"{owner.pid}-*.session")
    file.unlink()
    assert [page.state for page in ms.snapshot().pages] == ["orphaned"]
    owner.run("ms.page_list()")
    assert [page.state for page in ms.snapshot().pages] == ["active"]
    owner.run("ms.release_variables('n', 'x')")
    owner.kill()
    assert [page.state for page in ms.snapshot().pages] == ["draining"]
    viewer.kill()
