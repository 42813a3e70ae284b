"""What calls leave behind in tracebacks, copies and cycles: nothing that holds memory."""

from __future__ import annotations

import copy
import copyreg
import gc
import os
import weakref

import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _claims as lookup
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.core.registry._tracebacks import alone


def kept_by_calls(deed):
    """Whether something of the caller's lives on after a call, until garbage is collected."""

    class Mine:
        pass

    def caller():
        mine = Mine()
        deed()
        return weakref.ref(mine)

    gc.collect()
    gc.disable()
    try:
        return caller()() is not None
    finally:
        gc.enable()


def test_an_attach_past_a_dead_holder_keeps_nothing_of_its_caller(page, child, monkeypatch):
    find = lookup.claims_by_name

    def with_a_dead_one(sessions, name):
        (session, entry), *rest = find(sessions, name)
        return [(session, entry._replace(fd=9999)), (session, entry), *rest]

    monkeypatch.setattr(lookup, "claims_by_name", with_a_dead_one)
    assert not kept_by_calls(lambda: ms.Namespace("n")["x"][0])
    assert ms.view_list() == []


def test_a_view_that_cannot_be_listed_keeps_nothing_of_its_caller(page, monkeypatch):
    ms.retrieve_views("n", "x")
    ms.release_views("n", "x")

    def full(fd, data, at):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    try:
        assert not kept_by_calls(lambda: ms.retrieve_views("n", "x"))
    finally:
        monkeypatch.undo()
    ms.release_views("n", "x")


def test_an_error_is_alone_also_where_copies_of_errors_have_their_frames(monkeypatch):
    def with_frames(error):  # as tblib has it, which dask installs
        return _rebuilt, (error.args, error.__traceback__, error.__context__)

    monkeypatch.setitem(copyreg.dispatch_table, ValueError, with_frames)

    def fails():
        try:
            raise KeyError("x")
        except KeyError as missing:
            raise ValueError("no room") from missing

    with pytest.raises(ValueError, match="no room") as caught:
        fails()
    assert copy.copy(caught.value).__traceback__ is not None
    lonely = alone(caught.value)
    assert lonely.args == ("no room",)
    assert lonely.__traceback__ is lonely.__context__ is lonely.__cause__ is None


def _rebuilt(args, frames, context):
    made = ValueError(*args)
    made.__traceback__, made.__context__ = frames, context
    return made


def test_an_owner_that_a_look_missed_is_asked_anew_when_it_has_ended(child):
    owner = child("ms.register_variables('n', {'x': np.arange(5)})")
    viewer = child("x = ms.retrieve_views('n', 'x')['x']")
    looks, handles = process.registry()._looks, process.registry()._handles
    # A look that listed the directory just before the owner's first handle.
    seen = [s for s in handles.sessions() if s.who.pid != owner.pid]
    _, unclear = looks.take(seen)
    assert [claims[0][1].name.variable for claims in unclear] == ["x"]
    looks.learn(unclear[0][0][1].uuid, released=False)
    assert [page.state for page in ms.snapshot().pages] == ["active"]
    owner.run("ms.release_variables('n', 'x')")
    owner.kill()
    assert [page.state for page in ms.snapshot().pages] == ["draining"]
    assert viewer.eval("x.sum()") == 10
