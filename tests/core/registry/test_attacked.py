"""What the attack found, each reduced to the few steps that it takes."""

from __future__ import annotations

import os
from pathlib import Path

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


def test_a_page_whose_owner_died_over_another_value_is_not_called_attachable(
    backend, child, eventually
):
    if backend != "memfd":
        pytest.skip("what a child inherited of a file is never written anew")
    owner = child("ms.register_variables('n', {'x': np.zeros(200_000)})")
    owner.run("heir = os.fork()\nif heir == 0: time.sleep(60)")  # which holds it, unasked
    heir = owner.eval("heir")
    try:
        owner.run("at_call('memshare_jupyter.core.blocks.copy_into')")
        owner.send("ms.register_variables('n', {'x': np.ones(200_000)})")
        eventually(lambda: _is_dead(owner.pid))
        assert [(h.pid, p.state) for p in ms.snapshot().pages for h in p.holders] in (
            [],
            [(heir, "draining")],
        )
        with pytest.raises(ms.PageNotFoundError):
            ms.retrieve_views("n", "x")
    finally:
        os.kill(heir, 9)


def _is_dead(pid):
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
