"""A server of child processes for the tests; started once a run, see `children` in conftest.

The server imports what the tests need and then forks one process for every connection, which
takes milliseconds where a fresh interpreter takes tenths of a second. As the server itself never
begins a session, its forks are like fresh processes to the package. A child executes what comes
over its connection until the connection ends, and then exits as any interpreter does.
"""

from __future__ import annotations

import contextlib
import ctypes
import dis
import fcntl
import functools
import gc
import glob
import itertools
import os
import pickle
import pkgutil
import random
import re
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import memshare_jupyter as ms
from memshare_jupyter.core import api
from memshare_jupyter.core import blocks as segment
from memshare_jupyter.core._locks import is_locked
from memshare_jupyter.core.ledger import _ledger as ledger
from memshare_jupyter.core.ledger import _session as session
from memshare_jupyter.core.registry import _page as page
from memshare_jupyter.core.registry import _process as process

FOR_TESTS = (
    api,
    ctypes,
    fcntl,
    gc,
    is_locked,
    ledger,
    ms,
    np,
    process,
    segment,
    session,
    threading,
)
"""What the code that tests send may use besides what this file does."""
CORE = str(Path(page.__file__).parents[1])
MONITORING = getattr(sys, "monitoring", None)  # from Python 3.12 on
BLOCK = re.compile(r"/(?:memfd:memshare:|(?=[0-9a-f]{32}\.page))([0-9a-f]{32})")


def die() -> None:
    """End as if struck by lightning."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def with_parent() -> None:
    """End when the parent does, in whatever way."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def stop() -> None:
    """Stand still until SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def at_call(target: str, count: int = 1, when: str = "before", act=die) -> None:
    """Run `act` at the `count`-th call of `target` from now on.

    ``before`` or ``after`` the call; ``half`` calls it with half of its second argument, a
    buffer, before.
    """
    owner_name, _, name = target.rpartition(".")
    owner = pkgutil.resolve_name(owner_name)
    original = getattr(owner, name)
    calls = 0

    def wrapper(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls != count:
            return original(*args, **kwargs)
        if when == "after":
            result = original(*args, **kwargs)
            act()
            return result
        if when == "half":
            first, buffer, *rest = args
            original(first, bytes(buffer)[: len(buffer) // 2], *rest)
        act()
        return original(*args, **kwargs)

    setattr(owner, name, wrapper)


def failing(target: str, count: int = 1, error: BaseException | None = None):
    """Let the `count`-th call of `target` raise instead; a function that undoes this."""
    owner_name, _, name = target.rpartition(".")
    owner = pkgutil.resolve_name(owner_name)
    original = getattr(owner, name)

    def fail():
        raise error if error is not None else OSError(28, "No space left on device")

    at_call(target, count, "before", fail)
    return lambda: setattr(owner, name, original)


@functools.cache
def interruptible(code) -> set[int]:
    """Return the places in a function's code before which signal handlers are run.

    What a handler raises is raised by the instruction before. A trace function cannot do that,
    so places are left out at which another ``except`` or ``finally`` begins or ends.
    """
    table = dis._parse_exception_table(code)

    def caught_by(offset):
        return [one.target for one in table if one.start <= offset < one.end]

    found = set()
    for one, following in itertools.pairwise(dis.get_instructions(code)):
        place = following.offset if one.opname.startswith(("CALL", "RESUME")) else -1
        if one.opname.startswith("JUMP_BACKWARD"):
            place = one.argval
        if place >= 0 and caught_by(place) == caught_by(place - 2):
            found.add(place)
    return found


def at_event(count: int, act) -> list[int]:
    """Run `act` at the `count`-th call, line or return inside the core; the counter."""
    seen = [0]

    def trace(frame, event, arg):
        if not frame.f_code.co_filename.startswith(CORE):
            return None
        seen[0] += 1
        if seen[0] == count:
            act()
        return trace

    sys.settrace(trace)
    return seen


def at_bytecode(count: int, act) -> list[int]:
    """Run `act` at the `count`-th point inside the core at which a signal handler may run.

    That is after a call, at the beginning of a function and at that of each round of a loop.
    `untraced` ends it.
    """
    seen = [0]

    def step(code, place):
        if place in interruptible(code):
            seen[0] += 1
            if seen[0] == count:
                act()

    def trace(frame, event, arg):
        if not frame.f_code.co_filename.startswith(CORE):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        if event == "opcode":
            step(frame.f_code, frame.f_lasti)
        return trace

    if MONITORING is None:
        sys.settrace(trace)
        return seen
    # Trace functions of these Pythons miss bytecodes of code that is being run already.
    if MONITORING.get_tool(MONITORING.DEBUGGER_ID) is None:
        MONITORING.use_tool_id(MONITORING.DEBUGGER_ID, "tests")
    MONITORING.register_callback(
        MONITORING.DEBUGGER_ID,
        MONITORING.events.INSTRUCTION,
        lambda code, place: step(code, place) if code.co_filename.startswith(CORE) else None,
    )
    MONITORING.set_events(MONITORING.DEBUGGER_ID, MONITORING.events.INSTRUCTION)
    return seen


def untraced() -> None:
    """End `at_bytecode` and `at_event`."""
    sys.settrace(None)
    if MONITORING is not None:
        MONITORING.set_events(MONITORING.DEBUGGER_ID, 0)


def interrupted(deed, times: int, check) -> None:
    """Run `deed` until an interrupt at a random moment has come so many times, and `check`."""

    def strike(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, strike)
    rng = random.Random(times)  # noqa: S311 -- nothing secret
    within_s = 1.0
    while times:
        begun = time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, within_s))
            try:
                deed()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            within_s = time.monotonic() - begun  # as long as it takes now, whatever else runs
        except KeyboardInterrupt:
            times -= 1
        check()
    signal.signal(signal.SIGALRM, before)


def blocks_of(pid: int) -> Counter[str]:
    """Return how often a process holds each block, as the kernel knows it, by uuid.

    Once for every mapping, and for every descriptor that no mapping explains: a page has one of
    its own, and before Python 3.13 its mapping has another.
    """
    mapped: Counter[str] = Counter()
    with contextlib.suppress(OSError):
        mapped.update(BLOCK.findall(Path(f"/proc/{pid}/maps").read_text()))
    opened: Counter[str] = Counter()
    for descriptor in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            opened.update(BLOCK.findall(os.readlink(descriptor)))
    each = 1 if sys.version_info >= (3, 13) else 2
    return mapped | Counter({uuid: -(-count // each) for uuid, count in opened.items()})


def held_here() -> list[str]:
    """Return the pages this process holds, see `blocks_of`."""
    return sorted(blocks_of(os.getpid()).elements())


def pss_bytes() -> int:
    """Return the memory of this process; what is shared by n processes counts 1/n."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def listed_here() -> list[str]:
    """Return the pages this process is listed with, once for every handle."""
    pages = ms.snapshot().pages
    return sorted(page.uuid for page in pages for holder in page.holders if holder.here)


def run(code: str, scope: dict[str, object]) -> None:
    """Execute code that a test sent."""
    exec(code, scope)  # noqa: S102 -- that is what this process is for


def serve(connection: Connection) -> None:
    """Execute requests until the other side hangs up."""
    scope = {**globals(), "__name__": "__main__"}
    connection.send(os.getpid())
    while True:
        try:
            kind, code = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer = ("ok", eval(code, scope) if kind == "eval" else run(code, scope))  # noqa: S307
        except BaseException as error:  # noqa: BLE001 -- the other side raises it
            text = traceback.format_exc()
            try:
                pickle.loads(pickle.dumps(error))
                answer = ("error", error, text)
            except Exception:  # noqa: BLE001 -- whatever it is, it does not travel
                answer = ("error", RuntimeError(text), text)
        with contextlib.suppress(BrokenPipeError):
            connection.send(answer)
        del answer


def main(address: str) -> None:
    """Fork a child for every connection until standard input ends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([listener, 0], [], [])
        if 0 in readable:
            listener.close()
            return
        accepted, _ = listener.accept()
        if os.fork() == 0:
            os.setpgid(0, 0)  # what it forks is of its group, and ends with the test
            break
        accepted.close()
    listener.close()
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection = Connection(accepted.detach())
    serve(connection)


if __name__ == "__main__":
    main(sys.argv[1])
