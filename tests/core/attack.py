"""Processes that share pages and are killed, round after round; what was wrong, in one line.

Run ``python tests/core/attack.py --seed 1 --rounds 500 --backend memfd``. In every round six
processes register, replace, release, attach in all modes, keep, slice, pickle, fork, close their
session, and are killed: from outside at random moments; by themselves at a random call of a
random step, half-way through a write, or at a random line of the core; or they crash, or exit.
Others are started in their place. Then, with whoever is left:

wrong      counts that do not equal ``/proc/*/maps`` and ``/proc/*/fd``
lost       pages that somebody holds and that are not listed, cannot be attached by name, have
           other values than they were given, or (files) have no file any more
leaked     what is listed, mapped, or left in a directory when all are dead and somebody looked
errors     exceptions that no user should see
stuck      processes that did not answer in time

All that is random derives from the seed and the round, so ``--first 17 --rounds 1`` replays what
the processes of round 17 do, and at which of their own steps they die. How their steps interleave,
and where a kill from outside strikes, is up to the system's scheduler.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import gc
import glob
import os
import pickle
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process

sys.path.append(str(Path(__file__).parents[1]))
from child import at_call, at_event, blocks_of, die

PROCESSES = 6
PATIENCE_S = 30.0
STRIKES_WITHIN_S = 0.05
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)

# --- what a process does -----------------------------------------------------------------

NAMES = [kind + str(i) for kind in "awel" for i in range(3)]
"""Arrays, writable arrays, arrays filled in place, and lists."""
SPACE = "n"
STEPS = [
    *("os.pwrite", "os.link", "fcntl.lockf", "fcntl.flock", "os.memfd_create", "os.unlink"),
    *(
        "memshare_jupyter.core." + step
        for step in (
            *("blocks.create", "blocks.attach", "blocks.map_block"),
            *("blocks._memfd.MemfdBlock.try_alone", "registry._page.Page.refill"),
            *("registry._page.Page.mark", "registry._page.Page.drop", "registry._page.Page.close"),
            *("registry._claims.refuse_rivals", "registry._claims.claims_by_name"),
            *("ledger._names.try_lock", "ledger._reader._sweep"),
            *("blocks._file._remove_if_last", "blocks._file.sweep"),
            *(f"ledger._session.SessionFile.{act}" for act in ("put", "clear", "end")),
        )
    ),
]
EXPECTED = (ms.PageNotFoundError, ms.PageExistsError, ms.NotOwnerError, ms.ReadOnlyPageError)


def code(name):
    """What the low 16 bits of all values of a page of that name are."""
    return NAMES.index(name) + 1


def is_right(name, value, first=None):
    """Say whether a value is what processes put under that name; all `first`, when that is known.

    The values of writable arrays, and of those being filled, change.
    """
    if name[0] == "l":
        return len(value) == 2 and all(_is_right(name, x, first) for x in value)
    return _is_right(name, value, first)


def _is_right(name, value, first):
    x = np.asarray(value)
    if name[0] == "e":
        x = x[x != 0]
    if first is not None:
        return bool((x == first).all())
    return bool((x & 0xFFFF == code(name)).all())


class Held:
    """A value that a process has, and what it must be."""

    def __init__(self, name, value, *, private=None):
        self.name, self.value = name, value
        self.private = private is not None
        self.first = private
        if name[0] in "al" and not self.private:
            self.first = int((value[0] if name[0] == "l" else value)[0])

    def right(self):
        return is_right(self.name, self.value, self.first)


class Worker:
    """One process: it does what its name's random numbers say, and then waits for orders."""

    def __init__(self, name, address, directory):
        self.directory = directory
        self.address = address
        self.held = []
        self.faults = []
        self.forks = 0
        self.begin(name)
        self.choose_death()

    def begin(self, name):
        """Take on a name, its random numbers, and a connection."""
        self.name = name
        self.rng = random.Random(name)  # noqa: S311 -- nothing secret
        self.deeds = self.rng.randrange(5, 45)
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(self.address)
        self.connection = Connection(connected.detach())
        self.connection.send(("born", os.getpid()))

    def choose_death(self):
        how = self.rng.randrange(6)
        if how == 0:
            when = self.rng.choice(["before", "half", "half", "after"])
            at_call("os.pwrite", self.rng.randrange(1, 80), when)
        elif how == 1:
            step = self.rng.choice(STEPS)
            at_call(step, self.rng.randrange(1, 25), self.rng.choice(["before", "after"]))
        elif how == 2:
            at_event(int(10 ** self.rng.uniform(1, 4)), die)

    def live(self):
        while self.deeds:
            self.deeds -= 1
            deed = self.rng.choices(*DEEDS)[0]
            try:
                deed(self)
            except EXPECTED:
                pass
            except Exception:  # noqa: BLE001 -- the other side counts it
                self.faults.append(traceback.format_exc())
        sys.settrace(None)
        self.connection.send(("quiet", self.faults))
        with contextlib.suppress(EOFError, ConnectionError):
            while self.connection.recv() == "check":
                wrong = [f"{h.name} in {self.name}" for h in self.held if not h.right()]
                self.connection.send(("checked", wrong))

    def any_name(self, kinds="awel"):
        return self.rng.choice([name for name in NAMES if name[0] in kinds])

    def value(self, name):
        number = self.rng.getrandbits(40) << 16 | code(name)
        x = np.full(self.rng.choice([1, 40, 3000, 20_000]), number)
        return [x, x[:3]] if name[0] == "l" else x

    def where(self):
        if not self.directory:
            return {"backend": "memfd"}
        return {"backend": "file", "directory": self.directory}

    # the deeds

    def register(self):
        name = self.any_name("awl")
        values = {name: self.value(name)}
        ms.register_variables(SPACE, values, writable=name[0] == "w", **self.where())

    def register_several(self):
        names = self.rng.sample([n for n in NAMES if n[0] in "al"], 3)
        ms.register_variables(SPACE, {name: self.value(name) for name in names}, **self.where())

    def fill(self):
        name = self.any_name("e")
        x = ms.Namespace(SPACE).empty(name, self.rng.choice([5, 4000]), int)
        x[:] = self.rng.getrandbits(40) << 16 | code(name)
        if self.rng.random() < 0.6:
            self.held.append(Held(name, x))

    def release(self):
        if mine := ms.page_list():
            ms.release_variables(SPACE, self.rng.choice(mine).rpartition(".")[2])

    def release_anything(self):
        ms.release_variables(SPACE, self.any_name())

    def attach(self):
        name = self.any_name()
        self.held.append(Held(name, ms.retrieve_views(SPACE, name)[name]))

    def attach_several(self):
        names = self.rng.sample(NAMES, 2)
        for name, value in ms.retrieve_views(SPACE, names).items():
            self.held.append(Held(name, value))

    def attach_private(self):
        name = self.any_name("aw")
        x = ms.retrieve_views(SPACE, name, "c")[name]
        x[:] = self.rng.getrandbits(40)
        # One mapping for all of this mode, and so the same for all arrays on it.
        for held in self.held:
            if held.private and np.may_share_memory(held.value, x):
                held.first = int(x[0])
        self.held.append(Held(name, x, private=int(x[0])))

    def attach_to_write(self):
        name = self.any_name("aw")
        x = ms.retrieve_views(SPACE, name, "r+")[name]
        x[:] = self.rng.getrandbits(40) << 16 | code(name)
        self.held.append(Held(name, x))

    def take(self):
        name = self.any_name("aw")
        x = ms.Namespace(SPACE)[name]
        self.held.append(Held(name, x[:-1] if len(x) > 1 else x))

    def glance(self):
        name = self.any_name()
        assert is_right(name, ms.Namespace(SPACE)[name]), f"{name} has another's values"

    def send(self):
        views = [held for held in self.held if held.name[0] != "l"]
        if views:
            one = self.rng.choice(views)
            again = pickle.loads(pickle.dumps(one.value))
            self.held.append(Held(one.name, again, private=one.first if one.private else None))

    def detach(self):
        if mine := ms.view_list():
            ms.release_views(SPACE, self.rng.choice(mine).rpartition(".")[2])

    def forget(self):
        if self.held:
            del self.held[: self.rng.randrange(1, len(self.held) + 1)]

    def check(self):
        assert all(held.right() for held in self.held), "other values than they were given"

    def look(self):
        ms.snapshot()

    def collect(self):
        ms.memshare_gc(SPACE)

    def close(self):
        self.held.clear()
        process.close()

    def fork(self):
        self.forks += 1
        if self.forks > 2:
            return
        name = f"{self.name}.{self.forks}"
        if os.fork() == 0:
            self.connection.close()
            self.faults = []
            self.forks = 2
            self.begin(name)

    def crash(self):
        how = self.rng.randrange(4)
        if how == 0:
            os._exit(1)
        elif how == 1:
            os.abort()
        elif how == 2:
            raise SystemExit  # in good order
        die()


DEEDS = tuple(
    zip(
        *(
            *((Worker.register, 10), (Worker.register_several, 3), (Worker.fill, 4)),
            *((Worker.release, 4), (Worker.release_anything, 2)),
            *((Worker.attach, 10), (Worker.attach_several, 3), (Worker.attach_private, 3)),
            *((Worker.attach_to_write, 3), (Worker.take, 8), (Worker.glance, 3)),
            *((Worker.send, 3), (Worker.detach, 6), (Worker.forget, 5), (Worker.check, 3)),
            *((Worker.look, 2), (Worker.collect, 1), (Worker.close, 1), (Worker.fork, 1.5)),
            *((Worker.crash, 0.7),),
        ),
        strict=True,
    )
)


def serve(orders, address, directory):
    """Fork a process for every name that comes; returns in each of them, with its worker."""
    while True:
        try:
            name = orders.recv()
        except EOFError:
            return None
        if (pid := os.fork()) == 0:
            orders.close()
            return Worker(name, address, directory)
        orders.send(pid)


# --- the other side ----------------------------------------------------------------------


class Life:
    """A process as the attack knows it."""

    def __init__(self, pid, slot=None):
        self.pid = pid
        self.slot = slot
        self.pidfd = os.pidfd_open(pid)
        self.connection = None
        self.quiet = False
        self.struck = False

    def kill(self):
        self.quiet, self.struck = False, True  # until its pidfd says that it is gone
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self):
        os.close(self.pidfd)
        if self.connection is not None:
            self.connection.close()


class Stuck(Exception):  # noqa: N818 -- a finding
    """Somebody does not answer."""


class Attack:
    """All rounds; `found` counts what was wrong."""

    def __init__(self, seed, orders, spawner, listener, runtime, directory):
        self.seed = seed
        self.orders = orders
        self.spawner = spawner
        self.listener = listener
        self.runtime = runtime
        self.directory = directory
        self.lives = {}
        self.kills = 0
        self.found = Counter()

    def report(self, kind, what, count=1):
        self.found[kind] += count
        print(f"{kind} in --seed {self.seed} --first {self.round} --rounds 1: {what}", flush=True)

    def run(self, number):
        self.round = number
        rng = random.Random(f"{self.seed}/{number}")  # noqa: S311 -- nothing secret
        try:
            self.let_them_work(rng)
            self.compare("at rest")
            self.check_values()
            self.attach_everything()
            self.end_some(rng)
            self.compare("after more deaths")
            self.check_values()
            self.attach_everything()
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
        strikes = sorted(rng.uniform(0, STRIKES_WITHIN_S) for _ in range(rng.randrange(4)))
        while self.busy() or self.strangers():
            now = time.monotonic() - begin
            if strikes and now >= strikes[0]:
                strikes.pop(0)
                if self.lives:
                    self.lives[rng.choice(sorted(self.lives))].kill()
            for life in self.pump(strikes[0] - now if strikes else PATIENCE_S):
                if life.slot is not None and more[life.slot]:
                    more[life.slot] -= 1
                    self.start(life.slot, more[life.slot])
            ms.snapshot()
            if now > PATIENCE_S:
                self.show_stuck()

    def start(self, slot, more):
        self.orders.send(f"{self.seed}/{self.round}/{slot}/{more}")
        pid = self.orders.recv()
        with contextlib.suppress(ProcessLookupError):  # dead already, and nobody's zombie
            self.lives[pid] = Life(pid, slot)

    def busy(self):
        return [life for life in self.lives.values() if not life.quiet]

    def strangers(self):
        """Find children of children that have not called yet."""
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
        for ready in wait([self.listener, *by_fd, *by_connection], max(0, timeout_s)):
            if ready is self.listener:
                self.admit()
            elif ready in by_connection:
                with contextlib.suppress(EOFError, ConnectionError):  # its pidfd will say so
                    kind, faults = ready.recv()
                    by_connection[ready].quiet = not by_connection[ready].struck
                    for fault in faults:
                        self.report("errors" if kind == "quiet" else "lost", fault)
                    continue
                by_connection[ready].connection = None
                ready.close()
        for fd in wait(list(by_fd), 0):
            life = by_fd[fd]
            self.kills += 1
            del self.lives[life.pid]
            life.close()
            ended.append(life)
        return ended

    def admit(self):
        connection = Connection(self.listener.accept()[0].detach())
        try:
            _, pid = connection.recv()
            if pid not in self.lives:
                self.lives[pid] = Life(pid)
        except (EOFError, ConnectionError, ProcessLookupError):
            connection.close()
        else:
            self.lives[pid].connection = connection

    def show_stuck(self):
        pids = [life.pid for life in self.busy()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)  # which shows where it stands
        time.sleep(1)
        raise Stuck(f"processes {pids}")

    # what has to hold

    def compare(self, when):
        listed = Counter((h.pid, page.uuid) for page in ms.snapshot().pages for h in page.holders)
        truth = mapped()
        if listed != truth:
            self.report("wrong", f"{when}: listed {listed - truth}, mapped {truth - listed}")
        for uuid in {uuid for _, uuid in truth} - {uuid for _, uuid in listed}:
            self.report("lost", f"{when}: {uuid} is not listed")
        if self.directory:
            there = {name.removesuffix(".page") for name in os.listdir(self.directory)}
            for uuid in {uuid for _, uuid in truth} - there:
                self.report("lost", f"{when}: {uuid} has no file")
            for uuid in there - {uuid for _, uuid in truth}:
                self.report("leaked", f"{when}: nobody holds the file {uuid}")

    def check_values(self):
        for life in self.lives.values():
            life.quiet = False
            life.connection.send("check")
        deadline = time.monotonic() + PATIENCE_S
        while self.busy():
            self.pump(PATIENCE_S)
            if time.monotonic() > deadline:
                self.show_stuck()

    def attach_everything(self):
        """Have every page that can be had by its name, as newcomers would."""
        for page in ms.snapshot().pages:
            if page.state == "draining":
                continue
            try:
                value = ms.Namespace(SPACE)[page.variable]
            except ms.MemshareError as error:
                self.report("lost", f"{page.state} {page.name}: {error}")
            else:
                if not is_right(page.variable, value):
                    self.report("lost", f"{page.state} {page.name} has another's values")
                del value

    def end_some(self, rng):
        """Kill about half, and have some of them exit."""
        going = [life for pid, life in sorted(self.lives.items()) if rng.random() < 0.6]
        for life in going:
            if rng.random() < 0.3:
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
            self.pump(PATIENCE_S)
            if time.monotonic() > deadline:
                raise Stuck([life.pid for life in going])

    def find_remains(self):
        listed = [page.name for page in ms.snapshot().pages]
        if listed or (truth := mapped()):
            self.report("leaked", f"listed {listed}, mapped {truth}")
        left = {path.name for path in self.runtime.iterdir()} - {"names.lock"}
        left -= {name for name in left if name.startswith(f"{os.getpid()}-")}
        left |= set(os.listdir(self.directory)) if self.directory else set()
        if left:
            self.report("leaked", f"left: {sorted(left)}", len(left))


def descendants():
    """Return this process and all living ones that were started from it."""
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(path) as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(path.split("/")[2])] = int(parent)
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return ours


def mapped():
    """Say who holds which page, and how many times, as the kernel knows it."""
    found = Counter()
    for pid in descendants():
        for uuid, count in blocks_of(pid).items():
            found[pid, uuid] = count
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="the first round's number")
    parser.add_argument("--backend", choices=["memfd", "file"], default="memfd")
    chosen = parser.parse_args()

    shared = "/dev/shm"  # noqa: S108 -- mkdtemp makes the private directory
    base = shared if os.access(shared, os.W_OK | os.X_OK) else None
    private = Path(tempfile.mkdtemp(prefix="memshare-attack-", dir=base))
    os.environ["XDG_RUNTIME_DIR"] = str(private)
    os.environ.pop("MEMSHARE_DIR", None)
    directory = ""
    if chosen.backend == "file":
        directory = os.environ["MEMSHARE_DIR"] = str(private / "pages")
        os.mkdir(directory, 0o700)
    address = str(private / "attack.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # So that the children of killed children are ours again.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    orders, theirs = (Connection(end.detach()) for end in socket.socketpair())
    gc.freeze()
    if (spawner := os.fork()) == 0:
        listener.close()
        orders.close()
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        worker = serve(theirs, address, directory)
        if worker is not None:
            worker.live()
        return 0
    theirs.close()

    attack = Attack(chosen.seed, orders, spawner, listener, private / "memshare", directory)
    begin = time.monotonic()
    try:
        for number in range(chosen.first, chosen.first + chosen.rounds):
            attack.run(number)
    finally:
        seconds = time.monotonic() - begin
        attack.end_all()
        orders.close()
        listener.close()
        process.close()
        shutil.rmtree(private, ignore_errors=True)
    found = {kind: attack.found[kind] for kind in ("wrong", "lost", "leaked", "errors", "stuck")}
    print(
        f"{chosen.backend} seed {chosen.seed}: {chosen.rounds} rounds, {attack.kills} kills,",
        ", ".join(f"{count} {kind}" for kind, count in found.items()) + f", {seconds:.1f} s",
    )
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
