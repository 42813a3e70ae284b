"""What the attack found, each reduced to the few steps that it takes."""

from __future__ import annotations

import os
import signal

import memshare_jupyter as ms


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
