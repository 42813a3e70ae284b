"""Register, attach and list beside what else there is, in one run.

Run ``python tests/benchmarks/bench_core.py``; ``--json`` prints the figures as JSON. Contenders
that are not installed are left out and named. Every figure is the median of several rounds in
which the contenders take turns, so that a machine that gets slower does so for all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path

import numpy as np

import memshare_jupyter as ms
from memshare_jupyter.core.registry._process import registry

SHM = Path("/dev/shm")  # noqa: S108 -- where the contenders put their blocks

Prepared = tuple[Callable[[], object], Callable[[], object]]


def ours(X: np.ndarray) -> Prepared:
    return (
        lambda: ms.register_variables("bench", {"X": X}),
        lambda: ms.release_variables("bench", "X"),
    )


def bare_write(X: np.ndarray) -> Prepared:
    opened: list[int] = []

    def fill() -> None:
        opened.append(os.memfd_create("bench"))
        os.ftruncate(opened[-1], X.nbytes)
        rest = memoryview(X.reshape(-1).view(np.uint8))
        while rest:
            rest = rest[os.write(opened[-1], rest) :]

    return fill, lambda: os.close(opened.pop())


def standard_library(X: np.ndarray) -> Prepared:
    made: list[shared_memory.SharedMemory] = []

    def fill() -> None:
        made.append(shared_memory.SharedMemory(create=True, size=X.nbytes))
        np.ndarray(X.shape, X.dtype, made[-1].buf)[:] = X

    def free() -> None:
        block = made.pop()
        block.close()
        block.unlink()

    return fill, free


def joblib_dump(X: np.ndarray) -> Prepared:
    import joblib

    directory = Path(tempfile.mkdtemp(prefix="memshare-bench-", dir=SHM))
    return lambda: joblib.dump(X, directory / "X"), (directory / "X").unlink


def shared_array(X: np.ndarray) -> Prepared:
    import SharedArray

    def fill() -> None:
        SharedArray.create("memshare-bench", X.shape, X.dtype)[:] = X

    return fill, lambda: SharedArray.delete("memshare-bench")


CONTENDERS = {
    "memshare_jupyter": ours,
    "write() into a memfd": bare_write,
    "multiprocessing.shared_memory": standard_library,
    "joblib.dump to /dev/shm": joblib_dump,
    "SharedArray": shared_array,
}


def in_turns(actions: dict[str, Prepared], rounds: int) -> dict[str, float]:
    """Return the median seconds of each action; what it made is freed outside the clock.

    Who begins changes from round to round: the memory that one frees, the next one gets.
    """
    taken: dict[str, list[float]] = {name: [] for name in actions}
    order = list(actions)
    for _ in range(rounds + 1):
        order.append(order.pop(0))
        for name in order:
            act, undo = actions[name]
            begin = time.perf_counter()
            act()
            taken[name].append(time.perf_counter() - begin)
            undo()
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


def register(megabytes: int, rounds: int) -> tuple[dict[str, float], list[str]]:
    X = np.random.default_rng(0).random((megabytes * 1_000_000 // 8_000, 1000))
    actions, missing = {}, []
    for name, make in CONTENDERS.items():
        try:
            actions[name] = make(X)
        except ImportError:
            missing.append(name)
    try:
        return in_turns(actions, rounds), missing
    finally:
        for left in SHM.glob("memshare-bench-*"):
            shutil.rmtree(left, ignore_errors=True)


def reregister(megabytes: int, rounds: int) -> dict[str, float]:
    """Registering again, with the same size, while nobody else holds the page."""
    X = np.random.default_rng(0).random((megabytes * 1_000_000 // 8_000, 1000))
    there = np.empty_like(X)
    there[:] = 0
    ms.register_variables("bench", {"X": X})
    actions = {
        "memshare_jupyter": (lambda: ms.register_variables("bench", {"X": X}), lambda: None),
        "memcpy into memory that is there": (lambda: np.copyto(there, X), lambda: None),
    }
    try:
        return in_turns(actions, rounds)
    finally:
        ms.release_variables("bench", "X")


OWNER = """
import numpy as np, sys
from multiprocessing import shared_memory
import memshare_jupyter as ms
ms.register_variables("bench", {f"X{i}": np.zeros(1000) for i in range(50)})
blocks = [shared_memory.SharedMemory(create=True, size=8000) for _ in range(50)]
print(*(block.name for block in blocks), flush=True)
sys.stdin.read()
for block in blocks:
    block.close()
    block.unlink()
"""


def attach(rounds: int) -> dict[str, float]:
    """Attach a page of another process, use one value and let go of it, in seconds."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        names = owner.stdout.readline().split()
        turn = [0]

        def by_name() -> None:
            turn[0] += 1
            name = f"X{turn[0] % 50}"
            ms.retrieve_views("bench", name)[name][0]
            ms.release_views("bench", name)

        def standard() -> None:
            turn[0] += 1
            block = shared_memory.SharedMemory(names[turn[0] % 50])
            # Or the standard library would destroy the block of the living owner.
            resource_tracker.unregister(block._name, "shared_memory")
            value = np.ndarray(1000, float, block.buf)[0]
            assert value == 0
            block.close()

        nothing = (by_name, lambda: None), (standard, lambda: None)
        taken = in_turns(
            dict(zip(["memshare_jupyter", "multiprocessing.shared_memory"], nothing, strict=True)),
            rounds,
        )
    finally:
        owner.communicate("")
    return taken


def listing(handles: int, rounds: int) -> dict[str, float]:
    """List all handles of this process, in seconds: at the first look and at later ones."""
    for i in range(handles // 2):
        ms.register_variables("bench", {f"v{i}": np.zeros(1)})
        registry().attach("bench", f"v{i}")
    try:
        code = (
            "import time, memshare_jupyter as ms\n"
            "from memshare_jupyter.core.registry._process import registry\n"
            "registry()\n"
            "begin = time.perf_counter(); n = sum(p.handles for p in ms.snapshot().pages)\n"
            "first = time.perf_counter() - begin\n"
            f"again = []\nfor _ in range({rounds}):\n"
            "    begin = time.perf_counter(); ms.snapshot()\n"
            "    again.append(time.perf_counter() - begin)\n"
            "print(n, first, sorted(again)[len(again) // 2])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        found, first, again = done.stdout.split()
        assert int(found) == handles
        return {"first look": float(first), "later looks": float(again)}
    finally:
        ms.memshare_gc("bench")


VIEWER = """
import sys
from memshare_jupyter.core.registry._process import registry
count = int(sys.argv[1])
sys.stdin.readline()
registry().attach_all("bench", [f"v{i}" for i in range(count)])
print("ready", flush=True)
sys.stdin.read()
"""
LOOKER = """
import statistics, sys, time
import numpy as np
from memshare_jupyter.core.registry._process import registry

def timed(act, rounds):
    taken = []
    for i in range(rounds):
        begin = time.perf_counter()
        act(i)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)

handles, rounds = int(sys.argv[1]), int(sys.argv[2])
one = registry()
begin = time.perf_counter()
found = one.snapshot()
print("first look", time.perf_counter() - begin)
assert sum(page.handles for page in found.pages) == handles
print("later looks", timed(lambda i: one.snapshot(), rounds))
print("attach one more", timed(lambda i: one.attach("bench", f"v{i}"), 50))
small = np.zeros(1)
print("register one more", timed(lambda i: one.register("more", {f"v{i}": small}), 50))
"""
PER_PAGE = 1 if sys.version_info >= (3, 13) else 2
"""Descriptors that a page or a view takes."""


def large(pages: int, viewers: int, rounds: int) -> dict[str, float]:
    """What a process that comes to many pages with many viewers waits for, in seconds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The soft limit of most systems: the package has to raise it by itself.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    started = []
    try:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        for _ in range(viewers):
            command = [sys.executable, "-c", VIEWER, str(pages)]
            started.append(subprocess.Popen(command, **pipes))
        for i in range(pages):
            ms.register_variables("bench", {f"v{i}": np.zeros(1)})
        for viewer in started:
            viewer.stdin.write("go\n")
            viewer.stdin.flush()
        for viewer in started:
            assert viewer.stdout.readline() == "ready\n"
        command = [sys.executable, "-c", LOOKER, str(pages * (1 + viewers)), str(rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        for viewer in started:
            viewer.communicate("")
        ms.memshare_gc("bench")
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    rows = (line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    return {what: float(seconds) for what, seconds in rows}


def possible_pages(wanted: int) -> int:
    """Return how many pages a process can have here, at most as many as wanted."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return wanted
    needed = PER_PAGE * wanted + 256
    if hard < needed:
        with contextlib.suppress(ValueError, OSError):  # a privileged process may
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))
            return wanted
    return min(wanted, (hard - 256) // PER_PAGE)


def usual(figures: dict[str, dict[str, float]], rounds: int) -> list[str]:
    """Take all other figures; which contenders are missing."""
    for megabytes in (8, 800):
        figures[f"register {megabytes} MB"], missing = register(megabytes, rounds)
        figures[f"register {megabytes} MB again"] = reregister(megabytes, rounds)
    figures["attach and release"] = attach(500)
    figures["list 8,000 handles"] = listing(8000, rounds)
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument(
        "--large", action="store_true", help="instead: 10,000 pages with 7 viewers each"
    )
    chosen = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    missing: list[str] = []
    if chosen.large:
        pages = possible_pages(10_000)
        figures[f"{pages:,} pages, each with 7 views"] = large(pages, 7, chosen.rounds)
    else:
        missing = usual(figures, chosen.rounds)
    if chosen.json:
        print(json.dumps({"seconds": figures, "not installed": missing}))
        return
    for what, seconds in figures.items():
        print(what)
        reference = seconds.get("memshare_jupyter")
        for name, taken in seconds.items():
            ratio = f"  {taken / reference:6.2f} x ours" if reference else ""
            print(f"  {name:<34} {taken * 1e3:10.3f} ms{ratio}")
    if missing:
        print("not installed:", ", ".join(missing))


if __name__ == "__main__":
    main()
