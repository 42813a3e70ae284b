"""Register, attach, detach, release: what they promise, also when they fail half way."""

from __future__ import annotations

import contextlib
import copy
import copyreg
import gc
import os
import pickle
import threading
import time
import weakref

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _claims as lookup
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.core.registry._tracebacks import alone
from memshare_jupyter.errors import (
    InvalidNameError,
    NotOwnerError,
    PageExistsError,
    PageNotFoundError,
    UnsupportedValueError,
)

CORE = "memshare_jupyter.core."
BEGUN = "process.registry()._handles.ledger.relist()"


@pytest.fixture
def page():
    ms.register_variables("n", {"x": np.arange(5)})
    yield
    process.registry().gc("n")


# --- register ----------------------------------------------------------------------------


def test_registering_again_replaces_and_old_views_keep_their_values(listed, truth):
    ms.register_variables("n", {"x": np.arange(3)})
    old = ms.retrieve_views("n", "x")["x"]
    ms.register_variables("n", {"x": np.arange(7.0)})
    new = ms.retrieve_views("n", "x")["x"]
    assert (old.tolist(), new.tolist()) == ([0, 1, 2], [0, 1, 2, 3, 4, 5, 6])
    assert ms.page_list() == ["n.x"]
    assert [p.state for p in ms.snapshot().pages] == ["draining", "active"]
    assert listed() == truth()
    ms.release_variables("n", "x")
    assert ms.release_views("n", "x") == ["n.x"]
    assert (old.tolist(), new.tolist()) == ([0, 1, 2], [0, 1, 2, 3, 4, 5, 6])


def test_a_worker_with_an_old_view_gets_the_new_values_when_it_attaches_again(page, child):
    worker = child("x = ms.retrieve_views('n', 'x')['x']")
    ms.register_variables("n", {"x": np.zeros(2)})
    assert worker.eval("ms.retrieve_views('n', 'x')['x'].tolist(), x.tolist()") == (
        [0, 0],
        [0, 1, 2, 3, 4],
    )


def test_a_name_of_another_living_process_is_refused_and_the_process_named(page, child):
    rival = child()
    with pytest.raises(PageExistsError, match=f"process {os.getpid()} owns a page") as refusal:
        rival.run("ms.register_variables('n', {'x': np.ones(2)})")
    assert (refusal.value.name, refusal.value.pid) == ("n.x", os.getpid())
    assert isinstance(refusal.value, FileExistsError)
    assert rival.eval("ms.page_list()") == []


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"a": np.ones(2), "b/c": np.ones(2)}, InvalidNameError),
        ({"a": np.ones(2), "b": np.array([None])}, UnsupportedValueError),
        ({"a": np.ones(2), "b": [np.ones(2), lambda: 0]}, UnsupportedValueError),
        ({"a": np.ones(2), 5: np.ones(2)}, InvalidNameError),
        ({"a": np.ones(2), "theirs": np.ones(2)}, PageExistsError),
    ],
    ids=["name", "value", "element", "type", "rival"],
)
def test_registering_several_registers_all_or_none(page, child, listed, truth, variables, error):
    child("ms.register_variables('n', {'theirs': np.ones(2)})")
    before = listed()
    with pytest.raises(error):
        ms.register_variables("n", {**variables, "x": np.zeros(3)})
    assert listed() == truth() == before
    assert ms.page_list() == ["n.x"]
    assert ms.Namespace("n")["x"].tolist() == [0, 1, 2, 3, 4]


def test_a_refused_value_is_named():
    with pytest.raises(UnsupportedValueError, match=r"study\.`a\.b`: cannot share a function"):
        ms.register_variables("study", {"a.b": lambda: 0})


# Where the system may refuse: (call, how-manieth), for a register of two pages, one of which
# replaces another. Each block takes two writes.
REFUSALS = {
    "no block": (CORE + "blocks.create", 2),
    "no memory for the data": ("os.pwrite", 3),
    "no memory for the trailer": ("os.pwrite", 4),
    "no mapping": (CORE + "blocks.map_block", 2),
    "no seal": (CORE + "blocks._memfd.MemfdBlock.seal", 1),
    "no lock": (CORE + "ledger._names.try_lock", 1),
    "no slot for the first": ("os.pwrite", 5),
    "no state for the first": ("os.pwrite", 6),
    "no slot for the second": ("os.pwrite", 7),
    "no state for the second": ("os.pwrite", 8),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("error", ["OSError(28, 'No space left')", "KeyboardInterrupt()"])
def test_a_register_that_fails_half_way_changes_nothing(child, listed, truth, refusal, error):
    one = child("ms.register_variables('n', {'x': np.arange(5)})")
    reader = child()  # reads the ledger afresh; this process has read it before
    before = listed()
    target, count = refusal
    one.run(f"undo = failing({target!r}, {count}, {error})")
    with pytest.raises((OSError, MemoryError, KeyboardInterrupt)):
        one.run("ms.register_variables('n', {'x': np.ones(2), 'y': np.ones(2)})")
    one.run("undo()")
    assert listed() == truth() == before
    assert reader.eval("[p.name for p in ms.snapshot().pages]") == ["n.x"]
    assert one.eval("ms.page_list(), ms.view_list()") == (["n.x"], [])
    assert ms.Namespace("n")["x"].tolist() == [0, 1, 2, 3, 4]
    one.run("ms.register_variables('n', {'x': np.ones(2), 'y': np.ones(2)})")
    assert listed() == truth()
    one.run("ms.release_variables('n', ['x', 'y'])")
    assert listed() == truth() == {}


@pytest.mark.parametrize("count", range(1, 6), ids=["data", "trailer", "file", "slot", "state"])
def test_a_failed_first_register_leaves_no_page_and_a_working_process(child, truth, listed, count):
    one = child(f"undo = failing('os.pwrite', {count})")
    with pytest.raises(ms.NotEnoughMemoryError, match=r"n\.x|runtime directory"):
        one.run("ms.register_variables('n', {'x': np.ones(2)})")
    one.run("undo()")
    assert listed() == truth() == {}
    one.run("ms.register_variables('n', {'x': np.ones(2)})")
    assert listed() == truth() != {}


# --- attach ------------------------------------------------------------------------------


def test_attaching_what_there_is_not_says_what_there_is(page):
    ms.register_variables("m", {"z": np.ones(1)})
    with pytest.raises(PageNotFoundError, match=r"no page n\.y \(namespace 'n' has: x\)") as error:
        ms.retrieve_views("n", "y")
    assert isinstance(error.value, KeyError)
    with pytest.raises(PageNotFoundError, match=r"no namespace 'o' either, but: m, n\)"):
        ms.retrieve_views("o", "x")
    ms.release_variables("m", "z")
    process.registry().gc()
    with pytest.raises(PageNotFoundError, match=r"no page n\.x \(nothing is shared\); register"):
        ms.retrieve_metadata("n", "x")


def test_many_names_are_not_all_listed(page):
    ms.register_variables("m", {f"v{i:02}": np.ones(1) for i in range(20)})
    with pytest.raises(PageNotFoundError, match=r"v07, and 12 more\)"):
        ms.retrieve_views("m", "y")
    process.registry().gc("m")


def test_a_page_retrieved_twice_needs_one_release(page):
    one = ms.retrieve_views("n", "x")["x"]
    other = ms.retrieve_views("n", "x")["x"]
    assert np.shares_memory(one, other)
    assert ms.snapshot().pages[0].views == 1
    del one, other
    assert ms.release_views("n", "x") == []
    with pytest.raises(PageNotFoundError, match=r"no view of n\.x"):
        ms.release_views("n", "x")


def test_retrieving_several_of_which_one_is_missing_takes_no_view(page):
    with pytest.raises(PageNotFoundError):
        ms.retrieve_views("n", ["x", "missing"])
    gc.collect()
    assert ms.view_list() == []


def test_retrieving_several_of_which_one_is_missing_keeps_an_earlier_view(page):
    ms.retrieve_views("n", "x")
    with pytest.raises(PageNotFoundError):
        ms.retrieve_views("n", ["x", "missing"])
    assert ms.view_list() == ["n.x"]


ATTACH_REFUSALS = {
    "no descriptor": (CORE + "blocks.attach", 1),
    "no mapping": (CORE + "blocks.map_block", 1),
    "no value": (CORE + "registry._page.build", 1),
}
LIST_REFUSALS = {
    "no file": ("process.registry()", 1),
    "no slot": (BEGUN, 1),
    "no state": (BEGUN, 2),
}


@pytest.mark.parametrize(("begun", "count"), LIST_REFUSALS.values(), ids=LIST_REFUSALS.keys())
def test_a_view_that_cannot_be_listed_is_a_view_and_listed_later(
    page, child, listed, truth, begun, count
):
    one = child(begun)
    one.run(f"undo = failing('os.pwrite', {count}, OSError(28, 'No space left'))")
    one.run("x = ms.retrieve_views('n', 'x')['x']")
    one.run("undo()")
    assert one.eval("x.tolist()") == [0, 1, 2, 3, 4]
    assert one.eval("ms.view_list()") == ["n.x"]
    assert listed() == truth()
    one.run("del x; ms.release_views('n', 'x')")
    assert listed() == truth()


@pytest.mark.parametrize(("begun", "count"), LIST_REFUSALS.values(), ids=LIST_REFUSALS.keys())
def test_an_attach_interrupted_while_it_is_listed_takes_no_view(
    page, child, listed, truth, begun, count
):
    one = child(begun)
    before = listed()
    one.run(f"undo = failing('os.pwrite', {count}, KeyboardInterrupt())")
    with pytest.raises(KeyboardInterrupt):
        one.run("ms.retrieve_views('n', 'x')")
    one.run("undo(); gc.collect()")
    assert one.eval("ms.view_list()") == []
    assert listed() == truth() == before


@pytest.mark.parametrize("refusal", ATTACH_REFUSALS.values(), ids=ATTACH_REFUSALS.keys())
@pytest.mark.parametrize("error", ["OSError(28, 'No space left')", "KeyboardInterrupt()"])
def test_an_attach_that_fails_half_way_takes_no_view(page, child, listed, truth, refusal, error):
    one = child("process.registry()")
    before = listed()
    target, count = refusal
    one.run(f"undo = failing({target!r}, {count}, {error})")
    with pytest.raises((OSError, MemoryError, KeyboardInterrupt)):
        one.run("ms.retrieve_views('n', 'x')")
    one.run("undo(); gc.collect()")
    assert one.eval("ms.view_list()") == []
    assert listed() == truth() == before
    assert one.eval("ms.retrieve_views('n', 'x')['x'].tolist()") == [0, 1, 2, 3, 4]
    assert listed() == truth()


def test_a_page_of_another_format_is_refused_and_no_view_is_kept(page):
    handle = next(iter(process.registry()._handles.pages.values()))
    mapping = handle.page._held
    at = mapping.rfind(b"memsharp") + 8
    mapping[at] = 7
    with pytest.raises(ms.HeaderMismatchError, match="has format 7, this process reads format 3"):
        ms.retrieve_views("n", "x")
    assert ms.view_list() == []
    mapping[at] = 3
    mapping[at - 8] = 0
    with pytest.raises(ms.HeaderMismatchError, match="not a page of memshare_jupyter"):
        ms.retrieve_views("n", "x")


def test_a_page_with_a_damaged_descriptor_is_refused(page):
    mapping = next(iter(process.registry()._handles.pages.values())).page._held
    mapping[mapping.find(b'"shape"') + 1] = 0
    with pytest.raises(ms.HeaderMismatchError, match="register it again"):
        ms.retrieve_views("n", "x")
    assert ms.view_list() == []


# --- detach and release ------------------------------------------------------------------


def test_detaching_reports_what_is_still_in_use(page):
    view = ms.retrieve_views("n", "x")["x"]
    assert ms.release_views("n", "x") == ["n.x"]
    assert ms.view_list() == ["n.x"]
    part = view[1:3]
    del view
    assert ms.view_list() == ["n.x"]
    del part
    assert ms.view_list() == []


def test_a_kept_view_stays_until_it_is_detached_and_a_taken_one_until_it_dies(page):
    ms.Namespace("n")["x"]
    assert ms.view_list() == []
    ms.retrieve_views("n", "x")
    gc.collect()
    assert ms.view_list() == ["n.x"]
    ms.Namespace("n")["x"]
    assert ms.view_list() == ["n.x"]
    assert ms.release_views("n", "x") == []
    assert ms.view_list() == []


def test_detaching_several_detaches_all_or_none(page):
    ms.retrieve_views("n", "x")
    with pytest.raises(PageNotFoundError, match=r"no view of n\.y \(it has: n\.x\); attach"):
        ms.release_views("n", ["x", "y"])
    assert ms.view_list() == ["n.x"]
    ms.release_views("n", ["x", "x"])


def test_releasing_several_releases_all_or_none(page, child):
    with pytest.raises(PageNotFoundError, match="namespace 'n' has: x"):
        ms.release_variables("n", ["x", "y"])
    other = child("ms.register_variables('n', {'theirs': np.ones(2)})")
    with pytest.raises(NotOwnerError, match=f"cannot release n.theirs: process {other.pid}"):
        ms.release_variables("n", ["x", "theirs"])
    assert ms.page_list() == ["n.x"]
    ms.release_variables("n", ["x", "x"])
    assert ms.page_list() == []


def test_a_view_of_somebody_elses_page_is_no_right_to_release_it(child):
    owner = child("ms.register_variables('n', {'x': np.arange(5)})")
    ms.retrieve_views("n", "x")
    with pytest.raises(NotOwnerError) as error:
        ms.release_variables("n", "x")
    assert (error.value.pid, error.value.name) == (owner.pid, "n.x")
    assert isinstance(error.value, PermissionError)
    ms.release_views("n", "x")


def test_a_release_that_cannot_be_listed_still_frees_the_memory(child, truth):
    one = child("ms.register_variables('n', {'x': np.arange(5)})")
    one.run("undo = failing('os.pwrite', 1)")
    with pytest.raises(OSError, match="No space left"):
        one.run("ms.release_variables('n', 'x')")
    one.run("undo()")
    assert truth() == {}


def test_errors_survive_the_journey_between_processes(page, child):
    with pytest.raises(PageNotFoundError) as here:
        ms.retrieve_views("n", "y")
    with pytest.raises(PageNotFoundError) as there:
        child().run("ms.retrieve_views('n', 'y')")
    assert str(here.value) == str(there.value)
    assert here.value.name == there.value.name == "n.y"
    assert str(pickle.loads(pickle.dumps(here.value))) == str(here.value)


# --- looking -----------------------------------------------------------------------------


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


# --- threads and interrupts --------------------------------------------------------------


def test_threads_at_work_on_the_same_names_leave_right_counts(listed, truth):
    until = time.monotonic() + 1.0
    faults = []

    def work(seed):
        rng = np.random.default_rng(seed)
        kept = []
        deeds = [
            lambda name: ms.register_variables("n", {name: np.full(500, 7)}),
            lambda name: ms.release_variables("n", name),
            lambda name: kept.append(ms.retrieve_views("n", name)[name]),
            lambda name: kept.append(ms.Namespace("n")[name][::2]),
            lambda name: ms.release_views("n", name),
            lambda _: kept.clear() if all((view == 7).all() for view in kept) else 1 / 0,
        ]
        while time.monotonic() < until:
            with contextlib.suppress(PageNotFoundError):
                deeds[rng.integers(len(deeds))]("abc"[rng.integers(3)])

    def report(seed):
        try:
            work(seed)
        except BaseException as error:  # noqa: BLE001 -- reported by the test
            faults.append(error)

    threads = [threading.Thread(target=report, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not faults
    assert not any(thread.is_alive() for thread in threads)
    del threads
    gc.collect()
    assert listed() == truth()
    process.registry().gc()
    assert listed() == truth() == {}


def test_views_that_die_by_garbage_collection_inside_an_operation_are_withdrawn(listed, truth):
    class Knot:
        pass

    ms.register_variables("n", {"x": np.arange(5)})
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(50):
            knot = Knot()
            knot.itself, knot.view = knot, ms.Namespace("n")["x"]
            del knot
            ms.register_variables("n", {"x": np.arange(5)})
            ms.snapshot()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert listed() == truth()
    assert ms.view_list() == []
    ms.release_variables("n", "x")


def test_a_view_held_by_an_exceptions_frame_ends_with_the_exception(page):
    def fail():
        x = ms.Namespace("n")["x"]
        raise RuntimeError(x.shape)

    try:
        fail()
    except RuntimeError as error:
        kept = error
    assert ms.view_list() == ["n.x"]
    del kept
    gc.collect()
    assert ms.view_list() == []


INTERRUPTED = """
def deed():
    ms.register_variables('n', {'x': np.arange(5), 'y': np.ones(9)})
    a = ms.retrieve_views('n', ['x', 'y'])
    b = ms.Namespace('n')['x']
    ms.register_variables('n', {'x': np.arange(7)})
    ms.release_views('n', ['x', 'y'])
    ms.release_variables('n', 'x')

def check():
    gc.collect()
    listed, held = listed_here(), held_here()  # listing closes what an interrupt left open
    assert held == listed, (sorted(set(held) - set(listed)), sorted(set(listed) - set(held)))
"""


@pytest.mark.slow
def test_interrupts_at_any_moment_leave_counts_right(child, listed):
    one = child(INTERRUPTED)
    one.run("begin = time.monotonic(); [deed() for _ in range(20)]")
    duration_s = one.eval("(time.monotonic() - begin) / 20")
    count = one.eval(f"interrupted(deed, 1000, {duration_s}, check)", timeout_s=100)
    assert count > 300
    one.run("process.registry().gc(); check()")
    assert one.eval("held_here()") == []
    assert listed() == {}


def test_a_look_puts_together_again_only_what_changed(child):
    with ms.Namespace("n") as n:
        n["a"], n["b"] = np.ones(1), np.ones(1)
        before = ms.snapshot()
        assert ms.snapshot() is before
        viewer = child("b = ms.retrieve_views('n', 'b')")
        a, b = ms.snapshot().pages
        assert a is before.pages[0]
        assert (b.views, before.pages[1].views) == (1, 0)
        viewer.kill()
        assert ms.snapshot() == before


# --- limits ------------------------------------------------------------------------------


@pytest.mark.parametrize("pages_as", ["memfd", "file on tmpfs"], indirect=True)
def test_the_soft_limit_of_open_files_is_raised_when_pages_come_close(
    child, listed, truth, pages_as
):
    one = child("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 4096))")
    one.run("ms.register_variables('n', {f'v{i}': np.ones(1) for i in range(400)})")
    assert listed() == truth()
    assert len(truth()) == 400
    one.run("ms.release_variables('n', [f'v{i}' for i in range(400)])")
    assert listed() == truth() == {}


def limited_to(hard):
    return f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({hard}, {hard}))"


@pytest.mark.parametrize("pages_as", ["memfd", "file on tmpfs"], indirect=True)
def test_running_out_of_descriptors_in_register_says_what_to_do_and_leaves_nothing(
    child, listed, truth, pages_as
):
    one = child("process.registry()")
    one.run(limited_to(256))
    with pytest.raises(ms.TooManyFilesError, match=r"may have 256 files open.*Release.*ulimit -n"):
        one.run("ms.register_variables('n', {f'v{i}': np.ones(1) for i in range(300)})")
    assert listed() == truth() == {}
    one.run("ms.register_variables('n', {'x': np.ones(1)})")
    assert listed() == truth() != {}
    one.kill()


def test_running_out_of_descriptors_in_attach_leaves_the_views_there_were(child, listed, truth):
    ms.register_variables("n", {f"v{i}": np.ones(1) for i in range(300)})
    one = child(limited_to(256))
    one.run("x = ms.retrieve_views('n', 'v7')['v7']")
    with pytest.raises(ms.TooManyFilesError, match="share many small arrays as one page"):
        one.run("ms.retrieve_views('n', [f'v{i}' for i in range(300)])")
    assert listed() == truth()
    assert one.eval("(ms.view_list(), x.sum())") == (["n.v7"], 1)
    ms.release_variables("n", [f"v{i}" for i in range(300)])


def test_with_no_descriptor_left_pages_can_be_released_and_lists_are_refused(child, listed, truth):
    one = child("ms.register_variables('n', {'x': np.ones(1), 'y': np.ones(1)})")
    rest = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))"
    one.run("soft, hard, more = 64, 64, []; " + rest)
    none_left = """
with contextlib.suppress(OSError):
    while True:
        more.append(os.dup(0))
"""
    one.run(none_left)
    newcomer = child("ms.register_variables('m', {'z': np.ones(1)})")
    one.run("with contextlib.suppress(ms.TooManyFilesError): ms.snapshot()")
    one.run(none_left)  # with what was kept open for sessions known before
    with pytest.raises(ms.TooManyFilesError):
        one.run("ms.snapshot()")
    assert one.eval("ms.page_list()") == ["n.x", "n.y"]
    one.run("ms.release_variables('n', 'x')")
    assert one.eval("process.registry().gc('n')") == (["n.y"], [])
    newcomer.kill()
    assert listed() == truth() == {}


def test_a_session_that_cannot_be_opened_is_an_error_and_not_missing_from_lists(child):
    one = child("process.registry(); " + limited_to(64))
    other = child("ms.register_variables('n', {'x': np.ones(1)})")
    one.run("""
more = []
with contextlib.suppress(OSError):
    while True:
        more.append(os.dup(0))
os.close(more.pop())
""")
    # One descriptor is enough to list the directory, but that is free again; so keep it.
    one.run("at_call('os.listdir', 1, 'after', lambda: more.append(os.dup(0)))")
    with pytest.raises(ms.TooManyFilesError):
        one.run("ms.snapshot()")
    one.run("for fd in more: os.close(fd)")  # this process may have a session, too
    assert one.eval("[page.owner_pid for page in ms.snapshot().pages]") == [other.pid]


# --- what calls leave behind -------------------------------------------------------------


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
