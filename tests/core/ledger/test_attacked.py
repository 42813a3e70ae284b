"""What the attack found, each reduced to the few steps that it takes."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process


def test_a_dead_process_that_nobody_has_waited_for_holds_nothing(child):
    parent = child("signal.signal(signal.SIGCHLD, signal.SIG_DFL)")
    parent.run(
        "heir = os.fork()\n"
        "if heir == 0:\n"
        "    ms.register_variables('n', {'x': np.arange(5)})\n"
        "    time.sleep(60)"
    )
    heir = parent.eval("heir")
    parent.run("while not ms.snapshot().pages: time.sleep(0.01)")
    os.kill(heir, signal.SIGKILL)
    parent.run("os.waitid(os.P_PID, heir, os.WEXITED | os.WNOWAIT)")
    assert ms.snapshot().pages == ()
    parent.run("os.waitpid(heir, 0)")


def test_a_process_that_can_open_no_file_does_not_take_another_one_for_dead(child):
    ms.register_variables("n", {"x": np.arange(5)})
    path = process.registry().session_file
    other = child("import resource; time.sleep(0.1); ms.snapshot()")
    path.read_bytes()  # which drops the lock
    other.run(
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))\n"
        "with contextlib.suppress(ms.TooManyFilesError): ms.snapshot()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))"
    )
    assert path.exists()
    assert other.eval("len(ms.snapshot().pages)") == 1
    ms.release_variables("n", "x")


STRIKE = "def strike(): raise KeyboardInterrupt\n"
MADE = [
    ("ledger._session.SessionFile.begin", "after"),
    ("ledger._ledger.SessionFile", "after"),
    ("ledger._session.SessionFile.abandon", "before"),
    ("ledger._session.SessionFile.abandon", "after"),
    ("ledger._session.create_locked", "after"),
]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(("step", "when"), MADE)
def test_a_session_file_whose_making_was_interrupted_is_made_again(
    child, listed, truth, runtime_directory, step, when, again
):
    owner = child("ms.register_variables('n', {'y': np.arange(5)})" if again else "")
    if again:
        (file,) = runtime_directory.glob(f"{owner.pid}-*.session")
        file.unlink()
    owner.run(STRIKE + f"at_call('memshare_jupyter.core.{step}', 1, {when!r}, strike)")
    register = "ms.register_variables('n', {'x': np.arange(5)})"
    owner.run(f"with contextlib.suppress(KeyboardInterrupt): {register}")
    owner.run("ms.view_list()")
    assert listed() == truth()
    owner.run(register)
    assert listed() == truth()
    assert [page.variable for page in ms.snapshot().pages] == (["x", "y"] if again else ["x"])
    assert len(list(runtime_directory.glob(f"{owner.pid}-*.session"))) == 1


@pytest.mark.parametrize("step", ["_register.claims.refuse_rivals", "_handles.NameLocks.try_lock"])
@pytest.mark.parametrize("again", [False, True])
def test_a_name_is_unlocked_after_an_interrupt(child, runtime_directory, step, again):
    owner = child("ms.register_variables('n', {'y': np.arange(5)})")
    if again:
        (file,) = runtime_directory.glob(f"{owner.pid}-*.session")
        file.unlink()
    owner.run(STRIKE + f"at_call('memshare_jupyter.core.registry.{step}', 1, 'after', strike)")
    register = "ms.register_variables('n', {'x': np.arange(5)})"
    owner.run(f"with contextlib.suppress(KeyboardInterrupt): {register}")
    for name in ("x", "y"):
        try:
            ms.register_variables("n", {name: np.arange(3)})
        except ms.PageExistsError:
            continue
        ms.release_variables("n", name)


def test_a_process_that_began_without_a_descriptor_is_told_apart_all_the_same(child):
    owner = child(
        "import resource\n"
        "limits = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))\n"
        "with contextlib.suppress(ms.TooManyFilesError): ms.view_list()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, limits)\n"
        "ms.register_variables('n', {'x': np.arange(5)})\n"
        "process.registry().session_file.read_bytes()"  # which drops the lock
    )
    assert [page.name for page in ms.snapshot().pages] == ["n.x"]
    assert owner.eval("process.registry().session_file.exists()")
