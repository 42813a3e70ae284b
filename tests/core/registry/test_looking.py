"""Looking: snapshots and metadata, which take no handle."""

from __future__ import annotations

import os

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _claims as lookup
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.errors import (
    PageNotFoundError,
)


def test_metadata_says_what_a_page_holds_and_takes_no_view(child, listed):
    array = np.asfortranarray(np.ones((4, 3), np.float32))
    ms.register_variables("n", {"x": array, "l": [np.ones(2), np.ones(3)]})
    viewer = child("x = ms.retrieve_views('n', 'x')")
    about = ms.retrieve_metadata("n", ["x", "l"])
    x = about["x"]
    assert (x.kind, x.dtype, x.shape, x.order, x.size_bytes) == (
        "array",
        "float32",
        (4, 3),
        "F",
        48,
    )
    assert (x.name, x.owner_pid, x.state, x.views, x.handles) == (
        "n.x",
        os.getpid(),
        "active",
        1,
        2,
    )
    assert [(h.pid, h.role, h.here) for h in x.holders] == [
        (os.getpid(), "owner", True),
        (viewer.pid, "view", False),
    ]
    assert (about["l"].kind, about["l"].shape) == ("list", (2,))
    assert ms.view_list() == []
    ms.release_variables("n", ["x", "l"])


def test_metadata_is_of_one_look_also_when_the_owner_ends_in_the_middle(child, monkeypatch):
    owner = child("ms.register_variables('n', {'x': np.ones(2)})")
    find = lookup.claims_by_name

    def find_and_kill(*arguments):
        found = find(*arguments)
        owner.kill()
        return found

    monkeypatch.setattr(lookup, "claims_by_name", find_and_kill)
    page = ms.retrieve_metadata("n", "x")["x"]
    assert (page.state, page.owner_pid) == ("active", owner.pid)
    monkeypatch.setattr(lookup, "claims_by_name", find)
    with pytest.raises(PageNotFoundError, match=r"no page n\.x"):
        ms.retrieve_metadata("n", "x")


def test_the_snapshot_tells_shared_bytes_from_what_copies_would_cost(page, child):
    viewers = [child("x = ms.retrieve_views('n', 'x')") for _ in range(3)]
    found = ms.snapshot()
    assert (found.shared_bytes, found.copies_bytes) == (40, 40 * (1 + len(viewers)))


def test_a_label_is_seen_by_others(page, child):
    child("process.registry().label('engine 0' + 'ü' * 60); x = ms.retrieve_views('n', 'x')")
    label = ms.snapshot().pages[0].holders[1].label
    assert label.startswith("engine 0ü")
    assert len(label.encode()) <= 64


def test_a_label_whose_writing_was_interrupted_is_written_the_next_time(page, monkeypatch):
    from memshare_jupyter.core.ledger import _session

    def interrupted(self, who):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_session.SessionFile, "relabel", interrupted)
        with pytest.raises(KeyboardInterrupt):
            process.registry().label("engine 3")
    process.registry().label("engine 3")
    head = process.registry().session_file.read_bytes()[: _session.HEADER_BYTES]
    assert _session.Who.read(head).label == "engine 3"
    process.registry().label("")
