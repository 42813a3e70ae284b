"""Invariants 1 to 4 of the core, with real processes that really die, on every backend.

Each case here dies at a named step; `attack` kills at random.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.errors import PageNotFoundError

SIZE = 5_000
SUM = SIZE * (SIZE - 1) // 2
REGISTER = f"ms.register_variables('n', {{'x': np.arange({SIZE})}})"
ATTACH = "x = ms.retrieve_views('n', 'x')['x']"
RELEASE = "ms.release_variables('n', 'x')"
BEGUN = "process.registry()._handles.ledger.relist()"
"""A process whose session has begun; by itself it begins with the first handle."""

PATIENCE_S = 10.0


@pytest.fixture(autouse=True)
def backend(pages_as):
    """All of this holds for memfds and for files."""
    return pages_as


def free_again(listed, truth):
    """No page is held or listed, no file is left, and others can use the names."""
    assert listed() == truth() == {}
    if directory := os.environ.get("MEMSHARE_DIR"):
        # A directory is not listed at every look, if that takes long.
        until = time.monotonic() + PATIENCE_S
        while os.path.exists(directory) and os.listdir(directory):
            assert time.monotonic() < until, os.listdir(directory)
            time.sleep(0.02)
            listed()
    ms.register_variables("n", {"x": np.ones(3)})
    assert ms.retrieve_metadata("n", "x")["x"].owner_pid == os.getpid()
    ms.release_variables("n", "x")
    assert listed() == truth() == {}


# --- 1, 2: memory exists as long as it is held; death ends all handles -------------------


def test_a_killed_owner_leaves_nothing(child, listed, truth):
    owner = child(REGISTER)
    assert listed() == truth() != {}
    owner.kill()
    free_again(listed, truth)


def test_a_killed_viewer_leaves_the_owner_its_page(child, listed, truth):
    owner = child(REGISTER)
    viewer = child(ATTACH)
    assert {pid for pid, _ in listed()} == {owner.pid, viewer.pid}
    viewer.kill()
    assert listed() == truth()
    assert {pid for pid, _ in listed()} == {owner.pid}
    assert ms.retrieve_views("n", "x")["x"].sum() == SUM
    ms.release_views("n", "x")
    owner.run(RELEASE)
    free_again(listed, truth)


def test_a_page_outlives_its_killed_owner_for_old_and_new_viewers(child, listed, truth):
    owner = child(REGISTER)
    viewer = child(ATTACH)
    owner.kill()
    assert listed() == truth()
    (page,) = ms.snapshot().pages
    assert (page.state, page.owner_pid, page.views) == ("orphaned", owner.pid, 1)
    assert viewer.eval("int(x.sum())") == SUM
    late = child(ATTACH)
    assert late.eval("int(x.sum())") == SUM
    viewer.kill()
    assert late.eval("int(x.sum())") == SUM
    late.kill()
    free_again(listed, truth)


def test_a_released_page_cannot_be_attached_after_its_owner_was_killed(child, listed, truth):
    owner = child(REGISTER)
    viewer = child(ATTACH)
    owner.run(RELEASE)
    owner.kill()
    assert ms.snapshot().pages[0].state == "draining"
    with pytest.raises(PageNotFoundError, match="its owner released it"):
        ms.retrieve_views("n", "x")
    assert viewer.eval("int(x.sum())") == SUM
    assert listed() == truth()
    viewer.kill()
    free_again(listed, truth)


def test_owner_and_viewers_killed_at_once_leave_nothing(child, listed, truth):
    processes = [child(REGISTER), *(child(ATTACH) for _ in range(3))]
    for one in processes:
        one.signal(signal.SIGSTOP)
    assert listed() == truth()
    assert len(listed()) == 4
    for one in processes:
        one.kill()
    free_again(listed, truth)


def test_a_stopped_process_still_counts(child, listed, truth):
    owner = child(REGISTER)
    owner.signal(signal.SIGSTOP)
    assert listed() == truth() != {}
    assert ms.retrieve_views("n", "x")["x"].sum() == SUM
    ms.release_views("n", "x")
    owner.signal(signal.SIGCONT)
    owner.run(RELEASE)
    free_again(listed, truth)


def test_a_name_taken_over_from_a_killed_owner_is_the_new_owners(child, listed, truth):
    owner = child(REGISTER)
    viewer = child(ATTACH)
    owner.kill()
    ms.register_variables("n", {"x": np.zeros(3)})
    assert child(ATTACH).eval("x.shape") == (3,)
    assert viewer.eval("int(x.sum())") == SUM
    assert listed() == truth()
    ms.release_variables("n", "x")


# --- 3: a kill at any step ---------------------------------------------------------------

# Steps as numbered in the modules' comments; a target, the how-manieth call of it, and when.
CHANGE = {
    "slot unwritten": ("os.pwrite", 1, "before"),
    "slot half written": ("os.pwrite", 1, "half"),
    "slot written": ("os.pwrite", 1, "after"),
    "state half written": ("os.pwrite", 2, "half"),
    "state written": ("os.pwrite", 2, "after"),
}
CORE = "memshare_jupyter.core."
BEGIN = {
    "1 no directory yet": (CORE + "ledger._session.make_directory", 1, "before"),
    "1 no file yet": (CORE + "ledger._session.make_directory", 1, "after"),
    "1 file half filled": ("os.pwrite", 2, "half"),
    "1 file filled": ("os.pwrite", 2, "after"),
    "2 locked": (CORE + "ledger._create.try_lock", 1, "after"),
    "3 before the link": ("os.link", 1, "before"),
    "3 linked": ("os.link", 1, "after"),
}
# The block is filled by one write, since it is small: value, descriptor and trailer.
MAKE = {
    "1 no block yet": (CORE + "blocks.create", 1, "before"),
    "1 block made": (CORE + "blocks.create", 1, "after"),
    "1 block half filled": ("os.pwrite", 1, "half"),
    "1 filled": ("os.pwrite", 1, "after"),
    "2 lock file open": (CORE + "ledger._names.try_lock", 1, "before"),
    "2 locked": (CORE + "ledger._names.try_lock", 1, "after"),
    "3 no rival": (CORE + "registry._claims.refuse_rivals", 1, "after"),
    "4 unmapped": (CORE + "blocks.map_block", 1, "before"),
    "4 mapped": ("seal", 1, "before"),
    "4 sealed": ("seal", 1, "after"),
    "4 slot unwritten": ("os.pwrite", 2, "before"),
    "4 slot half written": ("os.pwrite", 2, "half"),
    "4 slot written": ("os.pwrite", 2, "after"),
    "4 state half written": ("os.pwrite", 3, "half"),
    "4 state written": ("os.pwrite", 3, "after"),
}
REPLACE = {
    "5 unmarked": (CORE + "registry._page.Page.mark", 1, "before"),
    "5 marked": (CORE + "registry._page.Page.mark", 1, "after"),
    "5 slot half emptied": ("os.pwrite", 4, "half"),
    "5 slot emptied": ("os.pwrite", 4, "after"),
    "5 state half written": ("os.pwrite", 5, "half"),
    "5 withdrawn": ("os.pwrite", 5, "after"),
    "5 unmapped": (CORE + "registry._page.Page.drop", 1, "after"),
}
LOOK = {
    "1 before the look": (CORE + "registry._claims.claims_by_name", 1, "before"),
    "1 found": (CORE + "registry._claims.claims_by_name", 1, "after"),
    "2 opened": (CORE + "blocks.attach", 1, "after"),
    "3 mapped": (CORE + "blocks.map_block", 1, "after"),
    **{f"3 {step}": where for step, where in CHANGE.items()},
}
LET_GO = {
    "unmarked": (CORE + "registry._page.Page.mark", 1, "before"),
    "marked": (CORE + "registry._page.Page.mark", 1, "after"),
    **CHANGE,
    "unmapped": (CORE + "registry._page.Page.drop", 1, "after"),
}
END = {
    "file still there": (CORE + "ledger._session.SessionFile.end", 1, "before"),
    "file removed": (CORE + "ledger._session.SessionFile.abandon", 1, "before"),
    "closed": (CORE + "ledger._session.SessionFile.end", 1, "after"),
    "lock file still there": ("os.listdir", 2, "after"),
    "lock file locked": ("os.listdir", 3, "after"),
}


SEAL = {"memfd": "blocks._memfd.MemfdBlock.seal", "file": "blocks._file.FileBlock.seal"}


def steps(table):
    return pytest.mark.parametrize("step", table.values(), ids=table.keys())


def doomed_at(step, backend):
    target, count, when = step
    if target == "seal":
        target = CORE + SEAL[backend]
    return f"at_call({target!r}, {count}, {when!r})"


@steps(BEGIN)
def test_a_kill_while_a_session_begins_leaves_nothing(child, listed, truth, step, backend):
    victim = child()
    victim.run(doomed_at(step, backend))
    victim.dies(REGISTER)
    free_again(listed, truth)


@steps(MAKE)
def test_a_kill_in_a_first_register_leaves_nothing(child, listed, truth, step, backend):
    victim = child(BEGUN)
    victim.run(doomed_at(step, backend))
    victim.dies(REGISTER)
    free_again(listed, truth)


@steps({**MAKE, **REPLACE})
def test_a_kill_in_a_replacing_register_spares_the_old_views(child, listed, truth, step, backend):
    victim = child("ms.register_variables('n', {'x': np.zeros(3)})")
    victim.run(REGISTER)
    viewer = child(ATTACH)
    victim.run(doomed_at(step, backend))
    victim.dies("ms.register_variables('n', {'x': np.zeros(7)})")
    assert listed() == truth()
    assert {pid for pid, _ in truth()} == {viewer.pid}
    assert viewer.eval("int(x.sum())") == SUM
    ms.register_variables("n", {"x": np.ones(2)})
    assert ms.retrieve_metadata("n", "x")["x"].shape == (2,)
    assert viewer.eval("int(x.sum())") == SUM
    ms.release_variables("n", "x")
    viewer.kill()
    free_again(listed, truth)


@steps(LOOK)
def test_a_kill_in_an_attach_spares_owner_and_viewers(child, listed, truth, step, backend):
    owner = child(REGISTER)
    viewer = child(ATTACH)
    victim = child(BEGUN)
    victim.run(doomed_at(step, backend))
    victim.dies(ATTACH)
    assert listed() == truth()
    assert {pid for pid, _ in truth()} == {owner.pid, viewer.pid}
    assert viewer.eval("int(x.sum())") == SUM
    owner.run(REGISTER)
    owner.run(RELEASE)
    viewer.kill()
    free_again(listed, truth)


@steps(LET_GO)
def test_a_kill_in_a_release_spares_the_views(child, listed, truth, step, backend):
    victim = child(REGISTER)
    viewer = child(ATTACH)
    victim.run(doomed_at(step, backend))
    victim.dies(RELEASE)
    assert listed() == truth()
    assert {pid for pid, _ in truth()} == {viewer.pid}
    assert viewer.eval("int(x.sum())") == SUM
    viewer.kill()
    free_again(listed, truth)


@steps(CHANGE)
def test_a_kill_in_a_detach_spares_the_owner(child, listed, truth, step, backend):
    owner = child(REGISTER)
    victim = child(ATTACH)
    victim.run(doomed_at(step, backend))
    victim.dies("del x; ms.release_views('n', 'x')")
    assert listed() == truth()
    assert {pid for pid, _ in truth()} == {owner.pid}
    owner.run(RELEASE)
    free_again(listed, truth)


@steps(END)
def test_a_kill_while_a_session_ends_leaves_nothing(child, listed, truth, step, backend):
    process.close()  # so that the victim's is the last session and removes the directory
    victim = child(REGISTER)
    victim.run(doomed_at(step, backend))
    victim.dies("process.close()")
    free_again(listed, truth)


def test_a_kill_in_the_name_lock_frees_the_name(child, listed, truth, eventually):
    victim = child("process.registry()")
    victim.run(f"at_call('{CORE}registry._claims.refuse_rivals', 1, 'before', stop)")
    victim.send(REGISTER)
    eventually(victim.stopped)
    rival = child("process.registry()")
    rival.send(REGISTER)
    victim.kill()
    rival.result()
    assert ms.retrieve_metadata("n", "x")["x"].owner_pid == rival.pid
    rival.kill()
    free_again(listed, truth)


EVENTS = {
    "register": (BEGUN, REGISTER),
    "replace": (REGISTER, REGISTER),
    "attach": (BEGUN, "ms.retrieve_views('m', 'y')"),
    "release": (REGISTER, RELEASE),
    "detach": ("ms.retrieve_views('m', 'y')", "ms.release_views('m', 'y')"),
    "close": (f"{REGISTER}; ms.retrieve_views('m', 'y')", "process.close()"),
    "begin": ("", REGISTER),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", EVENTS)
@pytest.mark.parametrize("pages_as", ["memfd", "file on tmpfs"], indirect=True)
def test_a_kill_at_every_fourth_line_leaves_counts_right(child, listed, truth, what):
    before, deed = EVENTS[what]
    ms.register_variables("m", {"y": np.arange(4)})
    counter = child(before)
    counter.run(f"seen = at_event(-1, die)\n{deed}\nsys.settrace(None)")
    count = counter.eval("seen[0]")
    counter.kill()
    assert count > 20
    for event in range(1, count + 1, 4):
        victim = child(before)
        victim.dies(f"at_event({event}, die)\n{deed}")
        victim.kill()
        assert {pid for pid, _ in truth()} == {pid for pid, _ in listed()} == {os.getpid()}
        if directory := os.environ.get("MEMSHARE_DIR"):
            assert len(os.listdir(directory)) == 1
    ms.release_variables("m", "y")
    free_again(listed, truth)


# --- 4: counts equal the truth -----------------------------------------------------------


@pytest.mark.slow
def test_counts_equal_the_truth_after_every_operation(child, listed, truth):
    rng = np.random.default_rng(5)
    processes = [child("views = []") for _ in range(3)]
    names = "abcd"
    for _ in range(60):
        one = processes[rng.integers(len(processes))]
        name = names[rng.integers(len(names))]
        deed = [
            f"ms.register_variables('n', {{{name!r}: np.ones(9)}})",
            f"ms.release_variables('n', {name!r})",
            f"views.append(ms.retrieve_views('n', {name!r}))",
            f"views.append(ms.Namespace('n')[{name!r}][2:])",
            f"ms.release_views('n', {name!r})",
            "views.clear()",
        ][rng.integers(6)]
        with contextlib.suppress(ms.MemshareError):
            one.run(deed)
        assert listed() == truth(), deed
    for one in processes:
        one.kill()
    free_again(listed, truth)
