"""Random calls, and everything that can come to them meanwhile: none is wrong, none is left.

Each call works on a page, an array or a list, in one of the ways there are. Meanwhile an engine is
killed, the user interrupts or cancels, processes fork, the engines get tasks as from ``%%px``,
or a storm of interrupts hits everybody. ``MEMSHARE_CALLS`` says how many calls there are, and
``MEMSHARE_SEED`` which.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import CancelledError
from dataclasses import dataclass, field

import ipykernel
import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.apply import current_runs
from memshare_jupyter.engines import _lines

CALLS = int(os.environ.get("MEMSHARE_CALLS", "60"))
SEED = int(os.environ.get("MEMSHARE_SEED", "0"))
EVENTS = [
    *("nothing", "nothing", "kill in an item", "kill", "interrupts", "cancel", "fork in an item"),
    *("fork here", "tasks", "tasks before", "another call", "error", "stow"),
]
if ipykernel.version_info >= (7,):  # else there are no lines
    EVENTS.append("storm")


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from Python 3.12 on, of threads
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def work(item, nap_s=0.0, deed=None, mark=""):
    """Sum an item; at one item of all, on one engine, do something else before."""
    time.sleep(nap_s)
    if deed is not None:
        with contextlib.suppress(FileExistsError), open(mark, "x") as file:
            if deed == "kill":
                file.write(str(os.getpid()))
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            elif deed == "fork":
                fork()
            elif deed == "stow":
                from IPython import get_ipython

                get_ipython().user_ns["stowed"] = item
            else:
                raise ValueError(deed)
    return float(np.sum(item))


def batch_work(items, **more):
    return [work(item, **more) for item in items.T]


def square(number, nap_s):
    time.sleep(nap_s)
    return number**2


@dataclass
class Trials:
    """The calls, what they should give, and whom we have killed."""

    cluster: object
    namespace: object
    folder: object
    chance: random.Random
    killed: set[int] = field(default_factory=set)
    inside: bool = False
    number: int = 0

    def pids(self):
        """Return the pids of two engines, once there are two that live."""
        deadline = time.monotonic() + 60
        while True:
            view = ms.local_cluster(2, quiet=True).view(2)
            try:
                return {*view.apply_async(os.getpid).get(30)}
            except Exception:  # noqa: BLE001 -- ipyparallel has many
                # One was killed a moment ago.
                assert time.monotonic() < deadline

    def call(self, event):
        """Make one call, in whatever way, with what comes to it."""
        self.number += 1
        mark = self.folder / f"{self.number}"
        chance = self.chance
        deed = {"kill in an item": "kill", "fork in an item": "fork", "error": "boom"}.get(event)
        deed = "stow" if event == "stow" else deed
        more = {"nap_s": chance.choice([0, 0, 0.0005, 0.004]), "deed": deed, "mark": str(mark)}
        shape = chance.choice([(40, 30), (7, 200), (300, 11)])
        X = np.random.default_rng(self.number).random(shape)
        if chance.random() < 0.2:
            X = np.asfortranarray(X)
        given = X
        if chance.random() < 0.6:
            if chance.random() < 0.7 or "X" not in self.namespace:
                self.namespace["X"] = X
            given, X = "trials.X", np.array(self.namespace["X"])
        block = event != "cancel" and chance.random() < 0.7
        options = {"cluster": self.cluster, "vars": more, "block": block}
        how = chance.choice(["rows", "cols", "cols", "list", "batch", "array"])
        if how == "list":
            right = [float(np.sum(row)) for row in X]
            begin = lambda: ms.memlapply([*X], work, **options)  # noqa: E731
        elif how == "batch":
            right = [float(np.sum(column)) for column in X.T]
            begin = lambda: ms.memapply(given, "cols", batch_work, batch=True, **options)  # noqa: E731
        else:
            right = [float(np.sum(line)) for line in (X if how == "rows" else X.T)]
            margin = "rows" if how == "rows" else "cols"
            out = "array" if how == "array" else "list"
            begin = lambda: ms.memapply(given, margin, work, out=out, **options)  # noqa: E731
        with self.meanwhile(event):
            found = self.result(begin, event, block=block)
        if mark.exists() and deed == "kill":
            self.killed.add(int(mark.read_text()))
        if event == "stow":
            self.cluster.view(2).execute("globals().pop('stowed', None)", block=True)
        what = f"call {self.number} of seed {SEED}: {event}, {how}, {shape}, block={block}"
        if isinstance(found, BaseException):
            expected = {
                "interrupts": KeyboardInterrupt,
                "cancel": CancelledError,
                "error": ms.MemApplyError,
            }
            assert event in expected, f"{what}: {found!r}"
            assert isinstance(found, expected[event]), f"{what}: {found!r}"
        else:
            assert np.allclose(found, right, rtol=1e-12), what
            assert event != "error", what
        self.nothing_is_left(what)

    def result(self, begin, event, *, block):
        """Return what a call gives, or the error with which it ends."""
        run = None
        try:
            self.inside = True
            run = begin()
            if block:
                return run
            if event == "cancel":
                time.sleep(self.chance.choice([0, 0.002, 0.02]))
                run.cancel()
            return run.result(60)
        except (Exception, KeyboardInterrupt, CancelledError) as error:  # noqa: BLE001 -- judged above
            self.inside = False
            if not block and run is not None:  # who waits was interrupted, and not the call
                run.cancel()
                with contextlib.suppress(Exception, CancelledError):
                    run.result(60)
            return error
        finally:
            self.inside = False

    def handle(self, *_):
        """Have an interrupt of the user's, as long as we are in the call."""
        if self.inside:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def meanwhile(self, event):
        """Let an event come to what is done in here, and check afterwards what it was to give."""
        begin = getattr(self, event.replace(" ", "_"), None)
        stop = threading.Event()
        act, check = begin(stop) if begin is not None else (None, None)
        wait_s = self.chance.choice([0.0, 0.001, 0.005, 0.02])
        thread = threading.Thread(target=lambda: (time.sleep(wait_s), act()))
        try:
            if act is not None:
                thread.start()
            yield
        finally:
            stop.set()
            if act is not None:
                thread.join(60)
                assert not thread.is_alive()
        if check is not None:
            check()

    def kill(self, _):
        pid = self.chance.choice([*self.pids()])
        self.killed.add(pid)
        return lambda: os.kill(pid, signal.SIGKILL), None

    def interrupts(self, _):
        main, often = threading.get_ident(), self.chance.choice([1, 1, 3, 20])

        def act():
            for _ in range(often):
                signal.pthread_kill(main, signal.SIGINT)
                time.sleep(0.001)

        return act, None

    def have_lines(self):
        """Have a free line to each engine, so that the next call is no message."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.pids()
            assert ms.memapply(np.ones((5, 8)), "cols", work, cluster=self.cluster) == [5.0] * 8
            free = _lines.lines_of(self.cluster.client)._free
            if all(free.get(number) for number in self.cluster.view(2).targets):
                return

    def storm(self, stop):
        # Over lines: in the middle of an ordinary message, an interrupt can end ipykernel's loop.
        self.have_lines()
        pids = self.pids()

        def act():
            while not stop.is_set():
                for pid in pids:
                    os.kill(pid, signal.SIGINT)
                time.sleep(0.0007)

        return act, None

    def fork_here(self, _):
        return fork, None

    def tasks(self, _):
        view, sent = self.cluster.view(2), []
        nap_s = self.chance.choice([0, 0.01, 0.05])

        def act():
            sent.extend((n, view.apply_async(square, n, nap_s)) for n in range(3))

        def check():
            assert [task.get(60) for _, task in sent] == [[n**2] * 2 for n, _ in sent]

        return act, check

    def tasks_before(self, stop):
        act, check = self.tasks(stop)
        act()
        return None, check

    def another_call(self, _):
        other = ms.memapply(np.ones((5, 60)), "cols", work, cluster=self.cluster, block=False)

        def check():
            assert other.result(60) == [5.0] * 60

        return None, check

    def nothing_is_left(self, what):
        deadline = time.monotonic() + 30
        while current_runs() and time.monotonic() < deadline:  # its thread is at its last step
            time.sleep(0.002)
        assert current_runs() == [], what
        gc.collect()
        assert ms.view_list() == [], what
        assert set(ms.page_list()) <= {"trials.X"}, what
        assert {p.name for p in ms.snapshot().pages if p.state != "draining"} <= {"trials.X"}, what


@pytest.fixture
def interrupts_may_come_in_callbacks(monkeypatch):
    """Such an interrupt is lost; pytest would keep it, and with it all frames there were."""
    tell = sys.unraisablehook

    def unless_interrupted(unraisable):
        if unraisable.exc_type is not KeyboardInterrupt:
            tell(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", unless_interrupted)


@pytest.mark.slow
@pytest.mark.timeout(120 + 6 * CALLS)
@pytest.mark.usefixtures("interrupts_may_come_in_callbacks")
def test_whatever_comes_to_a_call_it_is_right_or_says_why(tmp_path, eventually):
    cluster = ms.local_cluster(2, quiet=True)
    before = signal.getsignal(signal.SIGINT)
    try:
        with ms.Namespace("trials") as namespace, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "engine.* died during the call", RuntimeWarning)
            trials = Trials(cluster, namespace, tmp_path, random.Random(SEED))  # noqa: S311 -- can be repeated
            signal.signal(signal.SIGINT, trials.handle)
            pids = trials.pids()
            for _ in range(CALLS):
                trials.call(trials.chance.choice(EVENTS))
                now = trials.pids()
                died = pids - now
                assert died <= trials.killed, f"call {trials.number} of seed {SEED}: {died} died"
                pids = now
        eventually(lambda: ms.snapshot().pages == ())
    finally:
        signal.signal(signal.SIGINT, before)
        ms.local_cluster(1, quiet=True).stop()
