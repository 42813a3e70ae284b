"""How much of a page each process has in memory."""

from __future__ import annotations

import os

import numpy as np

import memshare_jupyter as ms
from memshare_jupyter.core import _proc
from memshare_jupyter.core.blocks import share_bytes


def test_the_shares_of_all_processes_add_up_to_the_page(child):
    ms.register_variables("n", {"x": np.ones(2_000_000, "u1")})
    view = ms.Namespace("n")["x"]
    assert view.sum() == 2_000_000
    uuid = ms.snapshot().pages[0].uuid
    alone = share_bytes(os.getpid())[uuid]
    one = child("x = ms.Namespace('n')['x']; x.sum()")
    both = share_bytes(os.getpid())[uuid] + share_bytes(one.pid)[uuid]
    assert abs(both - alone) <= 8192
    assert 0.3 < share_bytes(one.pid)[uuid] / both < 0.7
    one.exit()
    del view
    ms.release_variables("n", "x")


def test_a_pid_of_another_namespace_is_not_taken_for_one_of_ours():
    with ms.Namespace("n") as study:
        study["x"] = np.ones(100_000)
        here = _proc.pid_namespace()
        assert share_bytes(os.getpid(), here) == share_bytes(os.getpid()) != {}
        assert share_bytes(os.getpid(), here + 1) == {}


def test_who_has_ended_has_no_share(child):
    one = child("ms.register_variables('n', {'x': np.ones(100_000)})")
    assert share_bytes(one.pid) != {}
    one.kill()
    assert share_bytes(one.pid) == {}
