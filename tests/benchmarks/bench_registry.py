"""What the registry itself costs, beside the limits of the machine, in one run.

Run ``python -m tests.benchmarks registry [--before TREE]``. A tree is a directory with another
version of the package, such as a worktree of the commit before: the versions take turns, each in
processes of its own, and every figure is the median of all rounds. The rows:

- attach a page of another process, use a value and release it, beside 1 and 8 other sessions;
- the first look of a fresh process at 8,000 handles, and later looks when nothing has changed;
- a look when another process has changed 100 of 5,000 pages;
- register 8 MB, and for the limit a bare ``write()`` of the same bytes;
- register 1,000 names in one call beside 8 sessions, and release them;
- fork while 2,000 pages are held, until parent and child go on;
- register 800 MB anew, and which part of that time another thread could run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import memshare_jupyter as ms

HERE = Path(__file__).parents[2]


def median(act: Callable[[], object], rounds: int, undo: Callable[[], object] = int) -> float:
    """Return the median seconds of an act; what it made is undone outside the clock."""
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        act()
        taken.append(time.perf_counter() - begin)
        undo()
    return statistics.median(taken)


OTHER = """
import sys
import numpy as np
import memshare_jupyter as ms
namespace, pages = sys.argv[1], int(sys.argv[2])
names = [f"v{i}" for i in range(pages)]
ms.register_variables(namespace, dict.fromkeys(names, np.zeros(16)))
if sys.argv[3:] == ["viewed"]:
    views = ms.retrieve_views(namespace, names)
print("ready", flush=True)
for line in sys.stdin:
    again = range(int(line))
    ms.register_variables(namespace, {f"v{i}": np.ones(16) for i in again})
    print("done", flush=True)
"""


@contextlib.contextmanager
def others(count: int, pages: int, *how: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Let other processes own pages: ``other0.v0`` and so on. Each registers some anew if told."""
    started = []
    try:
        for i in range(count):
            command = [sys.executable, "-P", "-c", OTHER, f"other{i}", str(pages), *how]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            started.append(subprocess.Popen(command, **pipes))
        for process in started:
            assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        for process in started:
            process.communicate("")


def attach(sessions: int) -> float:
    turn = [0]

    def act() -> None:
        turn[0] += 1
        name = f"v{turn[0] % 50}"
        assert ms.retrieve_views("other0", name)[name][0] == 0
        ms.release_views("other0", name)

    with others(sessions, 50):
        median(act, 100)
        return median(act, 1000)


LOOK = """
import time
import memshare_jupyter as ms
ms.register_variables("mine", {"x": 0})  # imports, and makes the registry
begin = time.perf_counter()
handles = sum(page.handles for page in ms.snapshot().pages)
print(handles, time.perf_counter() - begin)
"""


def looks() -> dict[str, float]:
    def first() -> float:
        done = subprocess.run([sys.executable, "-P", "-c", LOOK], capture_output=True, text=True)
        handles, seconds = done.stdout.split()
        assert int(handles) == 8001, done
        return float(seconds)

    with others(1, 4000, "viewed"):
        fresh = statistics.median(first() for _ in range(5))
        return {"first look": fresh, "later looks": median(ms.snapshot, 100)}


def changes() -> float:
    with others(1, 5000) as (process,):
        taken = []
        ms.snapshot()
        for _ in range(20):
            process.stdin.write("100\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            begin = time.perf_counter()
            ms.snapshot()
            taken.append(time.perf_counter() - begin)
        return statistics.median(taken)


def eight_megabytes() -> dict[str, float]:
    X = np.random.default_rng(0).random(1_000_000)
    opened: list[int] = []

    def bare() -> None:
        opened.append(os.memfd_create("bench"))
        os.ftruncate(opened[-1], X.nbytes)
        os.write(opened[-1], X.data)

    def ours() -> None:
        ms.register_variables("bench", {"X": X})

    taken: dict[str, list[float]] = {"register": [], "write": []}
    for _ in range(25):  # in turn: the memory that one frees, the other gets
        taken["register"].append(median(ours, 1, lambda: ms.release_variables("bench", "X")))
        taken["write"].append(median(bare, 1, lambda: os.close(opened.pop())))
    return {what: statistics.median(seconds[3:]) for what, seconds in taken.items()}


def thousand_names() -> float:
    values = {f"x{i}": np.zeros(16) for i in range(1000)}
    with others(8, 1):
        return median(
            lambda: ms.register_variables("bench", values),
            7,
            lambda: ms.release_variables("bench", list(values)),
        )


def fork() -> float:
    values = {f"x{i}": np.zeros(16) for i in range(2000)}
    ms.register_variables("bench", values)
    children: list[int] = []
    ready = os.pipe()

    def act() -> None:
        pid = os.fork()
        if not pid:
            os.write(ready[1], b"1")
            os._exit(0)
        children.append(pid)
        os.read(ready[0], 1)

    try:
        return median(act, 20, lambda: os.waitpid(children.pop(), 0))
    finally:
        for end in ready:
            os.close(end)
        ms.release_variables("bench", list(values))


def anew() -> dict[str, float]:
    X = np.random.default_rng(0).random(100_000_000)
    there = np.zeros_like(X)
    count, running = [0], [True]

    def other() -> None:
        while running[0]:
            count[0] += 1

    def counted(act: Callable[[], object]) -> tuple[float, float]:
        before, begin = count[0], time.perf_counter()
        act()
        taken = time.perf_counter() - begin
        return taken, (count[0] - before) / taken

    ms.register_variables("bench", {"X": X})
    thread = threading.Thread(target=other)
    try:
        alone = median(lambda: ms.register_variables("bench", {"X": X}), 7)
        memcpy = median(lambda: np.copyto(there, X), 7)
        thread.start()
        rate = statistics.median(counted(lambda: time.sleep(0.2))[1] for _ in range(3))
        shared = [
            counted(lambda: ms.register_variables("bench", {"X": X}))[1] / rate for _ in range(5)
        ]
    finally:
        running[0] = False
        if thread.ident:
            thread.join()
        ms.release_variables("bench", "X")
    return {"register anew": alone, "memcpy": memcpy, "share": statistics.median(shared)}


def measured() -> dict[str, float]:
    """Return all figures: milliseconds, and ratios where the row says so."""
    eight, look, again = eight_megabytes(), looks(), anew()
    return {
        "attach and release, 1 other session, ms": 1e3 * attach(1),
        "attach and release, 8 other sessions, ms": 1e3 * attach(8),
        "first look at 8,000 handles, ms": 1e3 * look["first look"],
        "later looks, ms": 1e3 * look["later looks"],
        "look after 100 of 5,000 pages changed, ms": 1e3 * changes(),
        "register 8 MB, ms": 1e3 * eight["register"],
        "write() of 8 MB / register, ratio": eight["write"] / eight["register"],
        "register 1,000 names beside 8 sessions, ms": 1e3 * thousand_names(),
        "fork with 2,000 pages, ms": 1e3 * fork(),
        "register 800 MB anew, ms": 1e3 * again["register anew"],
        "memcpy of 800 MB, ms": 1e3 * again["memcpy"],
        "share of another thread meanwhile, ratio": again["share"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a directory with another version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one round of this version, as JSON")
    chosen = parser.parse_args()
    if chosen.json:
        print(json.dumps(measured()))
        return
    trees = {"now": HERE} | ({"before": chosen.before.absolute()} if chosen.before else {})
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    for _ in range(chosen.rounds):
        for name, tree in trees.items():
            environment = os.environ | {"PYTHONPATH": str(tree)}
            command = [sys.executable, __file__, "--json"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            rounds[name].append(json.loads(done.stdout))
    print(f"{'':<44}" + "".join(f"{name:>12}" for name in trees))
    for row in rounds["now"][0]:
        figures = [statistics.median(one[row] for one in rounds[name]) for name in trees]
        print(f"{row:<44}" + "".join(f"{figure:>12.3f}" for figure in figures))


if __name__ == "__main__":
    main()
