"""What an engine keeps: a look that fails is no more than a look that comes later."""

from __future__ import annotations

import mmap
from types import SimpleNamespace

import pytest

import memshare_jupyter as ms
from memshare_jupyter.worker import _kept, _line


@pytest.fixture
def one(monkeypatch):
    uuid = bytes(16)
    monkeypatch.setitem(_kept._kept, uuid, _kept._Kept(mmap.mmap(-1, 1), {None}, 0.0))
    return uuid


@pytest.mark.parametrize("error", [OSError(28, "full"), ms.RegistryBusyError("now")])
def test_a_look_that_fails_fails_no_call_and_ends_no_looks(one, monkeypatch, error):
    def rest(_pages, *, look):
        raise error

    monkeypatch.setattr(_kept, "registry", lambda: SimpleNamespace(rest=rest))
    monkeypatch.setattr(_kept.time, "monotonic", lambda: 1.0)
    later = []
    loop = SimpleNamespace(call_later=lambda *what: later.append(what) or what)
    monkeypatch.setattr(_line, "_looks", None)
    _line._look_later(loop)  # at the end of a call
    assert len(later) == 1
    _line._look(loop)  # by the loop, a second later
    assert len(later) == 2
    monkeypatch.setattr(_kept.time, "monotonic", lambda: 1000.0)
    _line._look(loop)  # nobody has asked for it: that needs no registry
    assert one not in _kept._kept
    assert len(later) == 2
    assert _line._looks is None
