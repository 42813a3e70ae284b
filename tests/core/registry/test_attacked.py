"""What the attack found, each reduced to the few steps that it takes."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process


@pytest.fixture(autouse=True)
def backend(pages_as):
    """All of this holds for memfds and for files."""
    return pages_as


@pytest.mark.parametrize("seen", [True, False])
def test_an_owner_that_was_out_of_sight_can_still_release(child, runtime_directory, seen):
    owner = child("ms.register_variables('n', {'x': np.arange(5)})")
    viewer = child("x = ms.retrieve_views('n', 'x')['x']")
    (file,) = runtime_directory.glob(f"{owner.pid}-*.session")
    file.unlink()
    assert [page.state for page in ms.snapshot().pages] == ["orphaned"]
    if seen:
        owner.run("ms.page_list()")
        assert [page.state for page in ms.snapshot().pages] == ["active"]
    owner.run("ms.release_variables('n', 'x')")
    owner.kill()
    assert [page.state for page in ms.snapshot().pages] == ["draining"]
    viewer.kill()


@pytest.mark.parametrize("pages_as", ["memfd"], indirect=True)  # a file is never written anew then
def test_a_page_whose_owner_died_over_another_value_is_not_called_attachable(
    backend, child, eventually
):
    owner = child("ms.register_variables('n', {'x': np.zeros(200_000)})")
    owner.run("heir = ctypes.CDLL(None).fork()\nif heir == 0: time.sleep(60)")  # unseen by hooks
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


AGAIN = {
    "release": "release_variables('n', 'x')",
    "replace": "register_variables('n', {'x': 1})",
}
WHEN = {"before": "call", "after": "return"}
STEPS_OF_RELEASE = ["Handles.publish_view", "Ledger.withdraw", "Page.drop", "Page.mark"]
MODULES = {"Handles": "registry._handles", "Ledger": "ledger._ledger", "Page": "registry._page"}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS_OF_RELEASE)
@pytest.mark.parametrize("act", AGAIN)
def test_an_interrupted_end_of_a_page_that_arrays_use_comes_to_its_end(
    child, listed, truth, step, when, act
):
    step = f"memshare_jupyter.core.{MODULES[step.split('.')[0]]}.{step}"
    owner = child("x = ms.Namespace('n').empty('x', 5, int)")
    owner.run("def strike(): raise KeyboardInterrupt")
    owner.run(f"at_call({step!r}, 1, {when!r}, strike)")
    owner.run(f"with contextlib.suppress(KeyboardInterrupt): ms.{AGAIN[act]}")
    owner.run("gc.collect(); ms.view_list()")
    assert listed() == truth()
    owner.run("x = None; gc.collect(); ms.view_list()")
    assert listed() == truth()
    owner.run("if ms.page_list(): assert ms.retrieve_views('n', 'x'); ms.release_views('n', 'x')")
    owner.run("if ms.page_list(): ms.release_variables('n', 'x')")
    assert listed() == truth() == {}


@pytest.mark.parametrize("step", ["Registry.close", "Handles.drop_page", "Ledger.end"])
def test_a_close_that_was_interrupted_leaves_nothing_listed(child, listed, truth, step):
    modules = {"Registry": "registry._registry", **MODULES}
    step = f"memshare_jupyter.core.{modules[step.split('.')[0]]}.{step}"
    owner = child("ms.register_variables('n', {'x': np.arange(5)})")
    owner.run("def strike(): raise KeyboardInterrupt")
    owner.run(f"at_call({step!r}, 1, 'before', strike)")
    owner.run("with contextlib.suppress(KeyboardInterrupt): process.close()")
    owner.run("gc.collect(); ms.snapshot()")
    assert listed() == truth()
    owner.run("process.close()")
    assert listed() == truth() == {}


def test_a_child_forked_while_a_thread_opens_a_block_does_not_have_it(
    backend, child, listed, truth, eventually
):
    call = "memfd_create" if backend == "memfd" else "open"
    owner = child(
        f"real, opened = os.{call}, threading.Event()\n"
        "def slow(path, *rest, **named):\n"
        "    fd = real(path, *rest, **named)\n"
        "    if 'memshare:' in str(path) or '.page' in str(path):\n"
        "        opened.set(); time.sleep(0.5)\n"  # the call has returned to C, but not to Python
        "    return fd\n"
    )
    owner.run("ms.view_list()")
    owner.run(
        f"os.{call} = slow\n"
        "threading.Thread(target=ms.register_variables, args=('n', {'x': np.arange(5)})).start()\n"
        "opened.wait()\n"
        f"os.{call} = real\n"
        "heir = os.fork()\n"
        "if heir == 0: time.sleep(60)\n"
    )
    heir = owner.eval("heir")
    try:
        owner.run("while not ms.page_list(): time.sleep(0.01)")
        eventually(lambda: listed() == truth())  # the child may be forking still
        owner.run("ms.release_variables('n', 'x')")
        assert listed() == truth() == {}
    finally:
        os.kill(heir, 9)


@pytest.mark.parametrize(
    "hook",
    [
        "registry._process._before_fork",
        "registry._process._after_fork_in_parent",
        "registry._registry.Registry.before_fork",
        "registry._registry.Registry.after_fork_in_parent",
        "blocks._reach.Reach.after_fork_in_parent",
        "blocks._forked._before_fork",
        "blocks._forked._open_again",
        "blocks._forked._after_fork_in_parent",
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fork_whose_hooks_are_interrupted_harms_neither(child, listed, truth, hook, when):
    owner = child("ms.register_variables('n', {'x': np.arange(5)})")
    owner.run("y = ms.retrieve_views('n', 'x')['x']")
    name = hook.rpartition(".")[2]
    owner.run(
        "def interrupting(frame, event, arg):\n"
        f"    if frame.f_code.co_name == {name!r} and event == {WHEN[when]!r}:\n"
        "        sys.settrace(None)\n"
        "        raise KeyboardInterrupt\n"
        "    return interrupting\n"
        "sys.unraisablehook = lambda args: None\n"
        "sys.settrace(interrupting)\n"
        "heir = os.fork()\n"
        "if heir == 0:\n"
        "    y = None; ms.memshare_gc('n'); process.close(); os._exit(0)\n"
        "sys.settrace(None); os.waitid(os.P_PID, heir, os.WEXITED | os.WNOWAIT)"
    )
    owner.run(
        "done = []\n"
        "thread = threading.Thread(target=lambda: done.append(ms.page_list()))\n"
        "thread.start(); thread.join(5)\n"
        "assert done == [['n.x']]"
    )
    ms.snapshot()
    assert listed() == truth()
    assert ms.retrieve_views("n", "x")["x"].tolist() == [0, 1, 2, 3, 4]
    ms.release_views("n", "x")
    owner.run("y = None; ms.release_views('n', 'x'); ms.release_variables('n', 'x')")
    assert listed() == truth() == {}


def test_what_was_put_off_is_done_before_what_comes_later(child):
    owner = child("ms.register_variables('n', {'x': np.zeros(5), 'y': np.zeros(5)})")
    owner.run(
        "import signal\n"
        "def strike(): raise KeyboardInterrupt\n"
        "def release(): ms.release_variables('n', 'x')\n"
        "at_call('memshare_jupyter.core.ledger._ledger.Ledger.publish', 1, 'after', release)\n"
        "at_call('memshare_jupyter.core.registry._turn.Turn.settle', 2, 'before', strike)\n"
        "with contextlib.suppress(KeyboardInterrupt):\n"
        "    ms.register_variables('n', {'y': np.ones(5)})"
    )
    owner.run("ms.register_variables('n', {'x': np.ones(5)})")
    assert owner.eval("ms.page_list()") == ["n.x", "n.y"]
    assert ms.retrieve_views("n", "x")["x"].tolist() == [1] * 5
    ms.release_views("n", "x")


def test_what_a_dead_process_let_go_last_is_not_listed_for_ever(child):
    owner = child("ms.register_variables('n', {'x': np.arange(5)})")
    viewer = child("x = ms.retrieve_views('n', 'x')['x']")
    owner.kill()
    assert [page.state for page in ms.snapshot().pages] == ["orphaned"]
    viewer.run("ms.register_variables('n', {'y': 1})")
    assert len(ms.snapshot().pages) == 2
    viewer.run("x = None; ms.release_views('n', 'x')")
    assert ms.retrieve_metadata("n", "y")  # which looks, but not at everything
    viewer.kill()
    assert ms.snapshot().pages == ()


def test_a_child_has_nothing_of_what_another_thread_is_at(child, truth, eventually):
    owner = child("ms.view_list()")
    owner.run(
        "there, further = threading.Event(), threading.Event()\n"
        "def stay(): there.set(); further.wait(10)\n"
        "step = 'memshare_jupyter.core.registry._register.Owner._end_unowned'\n"
        "at_call(step, 1, 'before', stay)\n"
        "failing('memshare_jupyter.core.ledger._ledger.Ledger.publish')\n"
        "def register():\n"
        "    with contextlib.suppress(ms.NotEnoughMemoryError):\n"
        "        ms.register_variables('n', {'x': np.arange(5)})\n"
        "thread = threading.Thread(target=register); thread.start()\n"
        "there.wait(10)\n"
        "heir = os.fork()\n"
        "if heir == 0: time.sleep(60)\n"
        "further.set(); thread.join()"
    )
    heir = owner.eval("heir")
    try:
        eventually(lambda: truth() == {})  # the child may be forking still
    finally:
        os.kill(heir, 9)


def test_a_full_runtime_directory_is_explained_and_keeps_nothing_of_its_callers(monkeypatch):
    ms.register_variables("n", {"x": np.arange(5)})
    handles = process.registry()._handles
    refs = []

    def full():
        raise OSError(28, "No space left on device")

    def caller():
        mine = np.arange(3)
        refs.append(weakref.ref(mine))
        with pytest.raises(ms.NotEnoughMemoryError, match="runtime directory"):
            ms.register_variables("n", {"y": mine})
        ms.page_list()

    process.registry().session_file.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(handles.ledger, "relist", full)
        caller()
        assert refs[0]() is None
    ms.release_variables("n", "x")


def test_attaching_without_a_descriptor_left_says_so(child):
    ms.register_variables("n", {"x": np.arange(5)})
    other = child("import resource; time.sleep(0.1); ms.snapshot(); ms.snapshot()")
    other.run("limits = resource.getrlimit(resource.RLIMIT_NOFILE)")
    for free in range(4):
        other.run(
            "fd = os.dup(1); os.close(fd)\n"
            f"resource.setrlimit(resource.RLIMIT_NOFILE, (fd + {free}, limits[1]))\n"
            "from memshare_jupyter.core import _descriptors; _descriptors._SPARE = 0\n"
            "try: x = ms.retrieve_views('n', 'x')\n"
            "except ms.TooManyFilesError as error: x = None\n"
            "finally: resource.setrlimit(resource.RLIMIT_NOFILE, limits)\n"
            "if x: ms.release_views('n', 'x')\n"
            "x = None"
        )
    ms.release_variables("n", "x")


def test_a_child_forked_during_a_refill_in_a_thread_keeps_none_of_its_memory(
    child, listed, truth, eventually
):
    owner = child("ms.register_variables('n', {'x': np.zeros(200_000)})")
    owner.run(
        "there, further = threading.Event(), threading.Event()\n"
        "def stay(*args, real=np.copyto): there.set(); further.wait(10); real(*args)\n"
        "np.copyto = stay\n"
        "again = {'x': np.ones(200_000)}\n"
        "thread = threading.Thread(target=ms.register_variables, args=('n', again))\n"
        "thread.start(); there.wait(10)\n"
        "heir = os.fork()\n"
        "if heir == 0: time.sleep(60)\n"
        "further.set(); thread.join()"
    )
    heir = owner.eval("heir")
    try:
        assert ms.retrieve_views("n", "x")["x"].sum() == 200_000
        ms.release_views("n", "x")
        eventually(lambda: listed() == truth())  # the child may be forking still
        owner.run("ms.release_variables('n', 'x')")
        assert listed() == truth() == {}
    finally:
        os.kill(heir, 9)


def test_who_could_not_be_listed_can_register_once_there_is_room(monkeypatch):
    ms.register_variables("n", {"x": np.arange(5)})
    handles = process.registry()._handles

    def full():
        raise OSError(28, "No space left on device")

    process.registry().session_file.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(handles.ledger, "relist", full)
        ms.release_variables("n", "x")
    ms.register_variables("n", {"x": np.arange(5)})
    ms.release_variables("n", "x")


def test_an_owner_that_ends_in_the_middle_of_a_look_is_seen_right_for_ever(child, monkeypatch):
    viewer = child()
    owners = [child(f"ms.register_variables('n', {{'x{i}': np.arange(5)}})") for i in range(2)]
    viewer.run("x = ms.retrieve_views('n', ['x0', 'x1'])")
    owners[0].kill()
    take, looks = process.registry()._take, []

    def late():
        looks.append(1)
        if len(looks) == 2:
            owners[1].run("ms.release_variables('n', 'x1')")
            owners[1].kill()
        return take()

    monkeypatch.setattr(process.registry(), "_take", late)
    ms.snapshot()
    assert [page.state for page in ms.snapshot().pages] == ["orphaned", "draining"]
    viewer.kill()


def _is_dead(pid):
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
