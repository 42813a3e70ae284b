"""What the attack found, each reduced to the few steps that it takes."""

from __future__ import annotations

import os
import signal

import numpy as np

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
