"""The other side: starts processes, strikes them, and says what is wrong when all is quiet."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import random
import signal
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection, wait

import stamps
from kernel import descendants, descriptors_of, mapped, opened, stands_at
from stamps import SPACE
from worker import UNLISTED

import memshare_jupyter as ms
from memshare_jupyter.core.registry import registry

PROCESSES = 6
PATIENCE_S = 40.0
STRIKES_WITHIN_S = 0.1
FOUND = ("wrong", "lost", "leaked", "errors", "stuck")
FDS_EACH = 1 if sys.version_info >= (3, 13) else 2
"""Descriptors that a handle takes: the block's and, before Python 3.13, its mapping's."""


class Life:
    """A process as the attack knows it."""

    def __init__(self, pid, slot=None):
        self.pid = pid
        self.slot = slot
        self.pidfd = os.pidfd_open(pid)
        self.connection = None
        self.name = ""
        self.unlisted = False
        self.quiet = False
        self.struck = False

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self):
        self.quiet, self.struck = False, True  # until its pidfd says that it is gone
        self.signal(signal.SIGKILL)

    def close(self):
        os.close(self.pidfd)
        if self.connection is not None:
            self.connection.close()


class Stuck(Exception):  # noqa: N818 -- a finding
    """Somebody does not answer."""


class Attack:
    """All rounds; `found` counts what was wrong."""

    def __init__(self, seed, orders, spawner, listener, faults, place):
        self.seed = seed
        self.orders = orders
        self.spawner = spawner
        self.listener = listener
        self.faults = faults
        self.place = place
        self.lives = {}
        self.callers = []  # who has not said yet who they are
        self.kills = 0
        self.found = Counter()
        self.kinds = Counter()

    def report(self, kind, what, count=1):
        self.found[kind] += count
        pids = [pid for pid in self.lives if str(pid) in str(what)]
        what = f"{what}\n" + "".join(f"  {pid} is {self.lives[pid].name}\n" for pid in pids)
        print(f"{kind} in --seed {self.seed} --first {self.round} --rounds 1: {what}", flush=True)

    def run(self, number):
        self.round = number
        rng = random.Random(f"{self.seed}/{number}")  # noqa: S311 -- nothing secret
        try:
            self.let_them_work(rng)
            self.judge("at rest")
            self.end_some(rng)
            self.judge("after more deaths")
        except Stuck as stuck:
            self.report("stuck", stuck)
        self.end_all()
        self.find_remains()

    def let_them_work(self, rng):
        """Have six at work, strike, and start others, until all that live are quiet."""
        more = [rng.randrange(3) for _ in range(PROCESSES)]
        for slot in range(PROCESSES):
            self.start(slot, more[slot])
        begin = time.monotonic()
        strikes = [self.kill_one] * rng.randrange(4) + [self.stop_one] * rng.randrange(3)
        self.due = [(rng.uniform(0, STRIKES_WITHIN_S), strike) for strike in strikes]
        while self.due or self.busy() or self.strangers():
            now = time.monotonic() - begin
            for one in [one for one in self.due if one[0] <= now]:
                self.due.remove(one)
                one[1](rng, now)
            next_s = min((when - now for when, _ in self.due), default=1)
            for life in self.pump(min(1, max(0, next_s))):
                if life.slot is not None and more[life.slot]:
                    more[life.slot] -= 1
                    self.start(life.slot, more[life.slot])
            ms.snapshot()
            if now > PATIENCE_S:
                self.show_stuck()

    def kill_one(self, rng, _now):
        if self.lives:
            self.lives[rng.choice(sorted(self.lives))].kill()

    def stop_one(self, rng, now):
        """Let one stand still for up to a second, wherever it is."""
        if self.lives:
            life = self.lives[rng.choice(sorted(self.lives))]
            life.signal(signal.SIGSTOP)
            self.due.append((now + rng.random() ** 6, lambda *_: self.go_on(life)))

    def go_on(self, life):
        if self.lives.get(life.pid) is life:
            life.signal(signal.SIGCONT)

    def start(self, slot, more):
        self.orders.send(f"{self.seed}/{self.round}/{slot}/{more}")
        pid = self.orders.recv()
        with contextlib.suppress(ProcessLookupError):  # dead already, and nobody's zombie
            self.lives[pid] = Life(pid, slot)

    def busy(self):
        return [life for life in self.lives.values() if not life.quiet]

    def strangers(self):
        """Find children of children that have not called yet, or never will."""
        found = descendants() - {os.getpid(), self.spawner} - self.lives.keys()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                self.lives[pid] = Life(pid)
        return found

    def pump(self, timeout_s):
        """Take what comes in; the lives that ended."""
        by_fd = {life.pidfd: life for life in self.lives.values()}
        by_connection = {life.connection: life for life in self.lives.values() if life.connection}
        ended = []
        sources = [self.listener, self.faults, *self.callers, *by_fd, *by_connection]
        for ready in wait(sources, max(0, timeout_s)):
            if ready is self.listener:
                self.callers.append(Connection(self.listener.accept()[0].detach()))
            elif ready in self.callers:
                self.callers.remove(ready)
                self.admit(ready)
            elif ready in by_connection:
                with contextlib.suppress(EOFError, ConnectionError):  # its pidfd will say so
                    _, kinds = ready.recv()
                    by_connection[ready].unlisted = UNLISTED in kinds
                    by_connection[ready].quiet = not by_connection[ready].struck
                    self.kinds += kinds
                    continue
                by_connection[ready].connection = None
                ready.close()
        self.hear()
        for fd in wait(list(by_fd), 0):
            life = by_fd[fd]
            self.kills += 1
            del self.lives[life.pid]
            life.close()
            ended.append(life)
        return ended

    def hear(self):
        """Take what processes tell of."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.report(*pickle.loads(self.faults.recv(1 << 16)))

    def admit(self, connection):
        try:
            pid, name = connection.recv()
            if pid not in self.lives:
                self.lives[pid] = Life(pid)
        except (EOFError, ConnectionError, ProcessLookupError):
            connection.close()
        else:
            self.lives[pid].connection, self.lives[pid].name = connection, name

    def show_stuck(self):
        lives = self.busy()
        for life in lives:
            print(f"{vars(life)}\n{stands_at(life.pid)}", file=sys.stderr, flush=True)
            life.signal(signal.SIGUSR1)  # which shows where its threads stand
            time.sleep(0.5)
        raise Stuck(f"processes {[life.pid for life in lives]}")

    # what has to hold

    def judge(self, when):
        self.order("look")
        self.order("look")  # again: a file put back may have been what somebody else waited for
        self.compare(when)
        self.order("verify")
        self.attach_everything()

    def order(self, what):
        """Have every process do something, and wait until all have."""
        for life in self.lives.values():
            with contextlib.suppress(ConnectionError, OSError, AttributeError):
                life.quiet = False
                life.connection.send(what)
        deadline = time.monotonic() + PATIENCE_S
        while self.busy():
            for life in self.pump(1):
                self.report("errors", f"{life.name} ended when it was told to {what}")
            if time.monotonic() > deadline:
                self.show_stuck()

    def compare(self, when):
        now = ms.snapshot()
        listed = Counter((h.pid, page.uuid) for page in now.pages for h in page.holders)
        truth = everything = mapped()
        unlisted = {life.pid for life in self.lives.values() if life.unlisted}
        truth = Counter({one: count for one, count in truth.items() if one[0] not in unlisted})
        names = {page.uuid: f"{page.name} ({page.state})" for page in now.pages}
        if listed != truth:
            more, less = listed - truth, truth - listed
            self.report("wrong", f"{when}: listed {dict(more)}, mapped {dict(less)}; {names}")
        for uuid in {uuid for _, uuid in truth} - {uuid for _, uuid in listed}:
            self.report("lost", f"{when}: {uuid} is not listed")
        owners = Counter(
            page.name for page in now.pages for holder in page.holders if holder.role == "owner"
        )
        for name in [name for name, count in owners.items() if count > 1]:
            self.report("wrong", f"{when}: {name} has {owners[name]} owners")
        self.compare_descriptors(when, listed)
        for life in self.pump(0):
            self.report("errors", f"{life.name} ended when it had nothing to do")
        if self.place.directory:
            there = {name.removesuffix(".page") for name in os.listdir(self.place.directory)}
            for uuid in {uuid for _, uuid in truth} - there:
                pids = {pid: descriptors_of(pid, uuid) for pid, one in truth if one == uuid}
                self.report("lost", f"{when}: {names.get(uuid)} {uuid} has no file: {pids}")
            for uuid in there - {uuid for _, uuid in everything}:
                self.report("leaked", f"{when}: nobody holds the file {uuid}")

    def compare_descriptors(self, when, listed):
        """See that no process has more open than what it lists, and files of those it sees."""
        for pid in [life.pid for life in self.lives.values() if not life.unlisted]:
            pages, files = opened(pid, self.place.runtime)
            expected = Counter({uuid: n * FDS_EACH for (p, uuid), n in listed.items() if p == pid})
            more, less = dict(pages - expected), dict(expected - pages)
            if more or any(uuid not in pages for uuid in less):  # see blocks.close_strays
                shown = {uuid: descriptors_of(pid, uuid) for uuid in more}
                self.report("leaked", f"{when}: descriptors of {pid}: {shown}, less {less}")
            odd = {name: n for name, n in files.items() if n > 1 or not _is_kept_open(name)}
            if odd:
                self.report("leaked", f"{when}: files of {pid}: {odd}")

    def attach_everything(self):
        """Have every page that can be had by its name, as newcomers would."""
        for page in ms.snapshot().pages:
            if page.state == "draining":
                continue
            try:
                value = ms.Namespace(SPACE)[page.variable]
            except ms.MemshareError as error:
                holders = [(holder.pid, holder.role) for holder in page.holders]
                what = f"{page.state} {page.name} of {page.owner_pid}, held by {holders}: {error}"
                self.report("lost", what)
            else:
                if wrong := stamps.fault(page.variable, value):
                    self.report("wrong", f"{page.state} {page.name}: {wrong}")
                del value
        registry().gc(SPACE)  # what objects attached when they were unpickled

    def end_some(self, rng):
        """Kill about half, and have some of them exit."""
        going = [life for pid, life in sorted(self.lives.items()) if rng.random() < 0.6]
        for life in going:
            if rng.random() < 0.3 and life.connection is not None:
                life.connection.send("exit")
            else:
                life.kill()
        self.wait_for(going)

    def end_all(self):
        for pid in descendants() - {os.getpid(), self.spawner}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.strangers()
        self.wait_for(list(self.lives.values()))

    def wait_for(self, going):
        deadline = time.monotonic() + PATIENCE_S
        while any(self.lives.get(life.pid) is life for life in going):
            self.pump(1)
            if time.monotonic() > deadline:
                self.show_stuck()

    def find_remains(self):
        gc.collect()
        self.pump(0)
        listed = [page.name for page in ms.snapshot().pages]
        truth = mapped()
        if listed or truth:
            self.report("leaked", f"listed {listed}, mapped {truth}")
        with contextlib.suppress(FileNotFoundError):
            left = {path.name for path in self.place.runtime.iterdir()} - {"names.lock"}
            left -= {name for name in left if name.startswith(f"{os.getpid()}-")}
            left |= set(os.listdir(self.place.directory)) if self.place.directory else set()
            if left:
                self.report("leaked", f"left: {sorted(left)}", len(left))


def _is_kept_open(name):
    """Say whether a process may have that file open between two acts."""
    return name in ("names.lock", "own") or name.endswith(".session")
