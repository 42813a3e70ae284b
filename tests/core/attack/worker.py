"""A process of the attack: who does its deeds, what it knows for certain, and how it answers.

Its deeds are drawn by the numbers of its name (`deeds`). Where an act was broken off, or somebody
else in the process acted on the same name meanwhile, nothing is certain; of all other names the
process knows whether it owns a page of that name, and which value that has.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import random
import socket
import sys
import threading
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Connection

import deeds
import hostile
import stamps
from stamps import SPACE

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.core.registry import registry

UNSURE = object()
UNLISTED = "not listed for want of a descriptor"
PROVOKED = (
    *(ms.PageNotFoundError, ms.PageExistsError, ms.NotOwnerError, ms.ReadOnlyPageError),
    *(ms.TooManyFilesError, ms.NotEnoughMemoryError, ms.LockTimeoutError),
    *(ms.RegistryBusyError, ms.RegistryCorruptError),
)
"""What an attack may provoke; anything else is a fault."""


class Owned:
    """What a process knows of its own pages: which value each name has, or none, or UNSURE."""

    def __init__(self):
        self._known = dict.fromkeys(stamps.NAMES)
        self._touched = Counter()
        self.lock = threading.RLock()

    def touch(self, names):
        """Say that an act on names begins: what it leaves is not certain; a mark for `settle`."""
        with self.lock:
            for name in names:
                self._known[name] = UNSURE
                self._touched[name] += 1
            return {name: self._touched[name] for name in names}

    def settle(self, mark, result):
        """Say what the act left, which is certain if nobody else touched the name meanwhile."""
        with self.lock:
            for name, count in mark.items():
                self._known[name] = result[name] if self._touched[name] == count else UNSURE
                self._touched[name] += 1

    def forget(self, names=stamps.NAMES):
        """Be certain of nothing."""
        self.touch(names)

    def none(self):
        """Be certain that there is nothing."""
        self._known = dict.fromkeys(stamps.NAMES)

    def certain(self):
        return {name: value for name, value in self._known.items() if value is not UNSURE}


class Held:
    """A value that somebody has, and what it must be."""

    def __init__(self, name, value, *, private=None, cut=False):
        self.name, self.value = name, value
        self.private, self.cut = private, cut
        self.first = None
        if private is None and not stamps.is_loose(name):
            self.first = stamps.stamp_of(name, value)

    def fault(self):
        if self.private is not None:
            right = (stamps.arrays(self.name, self.value) == self.private).all()
            return "" if right else f"the private copy of {self.name} changed"
        if found := stamps.fault(self.name, self.value, whole=not self.cut):
            return found
        if self.first is not None and stamps.stamp_of(self.name, self.value) != self.first:
            return f"the view of {self.name} changed under its reader"
        return ""


class Actor:
    """A thread of a process: its random numbers, and the values it has."""

    def __init__(self, worker, name):
        self.worker = worker
        self.name = name
        self.rng = random.Random(name)  # noqa: S311 -- nothing secret
        self.held = []

    def any_name(self, kinds=stamps.KINDS):
        return self.rng.choice([name for name in stamps.NAMES if name[0] in kinds])

    def hold(self, name, value, **facts):
        # Before anything else: an interrupt may come before it is among those held.
        held = Held(name, value, **facts)
        if wrong := held.fault():
            self.worker.tell("wrong", f"{wrong}, as it was attached")
        self.held.append(held)

    def check(self):
        for held in list(self.held):
            if wrong := held.fault():
                self.worker.tell("wrong", wrong)
                held.first = None if stamps.is_loose(held.name) else held.first
                self.held.remove(held)


class Worker:
    """One process: it does what its name's random numbers say, and then waits for orders."""

    def __init__(self, name, place):
        self.place = place
        self.tell_on = place.faults
        self.forks = 0
        self.actor = Actor(self, name)
        self.owned = Owned()
        self.undo = []
        self.threads = []
        self.closes = True  # False where frames of threads that a child does not have keep arrays
        self.temper = deeds.temper(self.actor.rng)
        self.begin(name)
        sys.unraisablehook = self._unraisable
        threading.excepthook = lambda args: self.crashing or self.note(args.exc_value)
        sys.excepthook = lambda _kind, error, _tb: self.note(error)
        warnings.simplefilter("always", RuntimeWarning)
        warnings.simplefilter("ignore", ResourceWarning)  # an interrupt leaves a file to gc
        warnings.showwarning = self._warned
        gc.set_threshold(self.actor.rng.choice([30, 200, 700]))
        self.temper.prepare(self)

    def begin(self, name, actor=None):
        """Take on a name, its random numbers, and a connection; also in a forked child."""
        actor = actor or self.actor
        self.give_back()
        if actor is not self.actor:
            actor.held += self.actor.held
        self.actor = actor
        actor.name = self.name = name
        actor.rng = random.Random(name)  # noqa: S311 -- nothing secret
        self.deeds = actor.rng.randrange(5, 45)
        self.kinds = Counter()
        self.threads = []
        self.crashing = False
        try:
            connected = socket.socket(socket.AF_UNIX)
        except OSError:  # its parent could not open another file either
            os._exit(0)
        connected.connect(self.place.address)
        self.connection = Connection(connected.detach())
        self.connection.send((os.getpid(), f"{name}, {self.temper.name}"))

    def fork(self, actor):
        """Fork; the child goes on as a process of another name. Says whether this is the child."""
        self.forks += 1
        if self.forks > 2:
            return False
        name = f"{self.name}.{self.forks}"
        if os.fork():
            return False
        hostile.calm()
        self.closes = self.closes and not self.threads
        self.connection.close()
        self.forks = 2
        self.owned = Owned()  # what was inherited it has views of
        self.begin(name, actor)
        return True

    # --- what is said to the other side ----------------------------------------------

    def tell(self, kind, what):
        hostile.calm()
        text = f"{what}\n  in {self.name} ({self.temper.name}, process {os.getpid()})"
        with contextlib.suppress(OSError):
            self.tell_on.send(pickle.dumps((kind, text[:60_000])))

    def note(self, error):
        """Count an error, or tell of it as a fault."""
        kind = type(error).__name__
        if isinstance(error, (*PROVOKED, KeyboardInterrupt)):
            self.kinds[kind] += 1
            return
        self.tell("errors", "".join(traceback.format_exception(error)))

    def _unraisable(self, args):
        error = args.exc_value
        if error is None:
            return
        self.kinds["unraisable"] += 1
        frames = traceback.extract_tb(args.exc_traceback)
        if any("memshare_jupyter" in frame.filename for frame in frames):
            self.note(error)  # else an interrupt in what Python itself does at a fork

    def _warned(self, message, category, *_rest):
        text = str(message)
        if "is not a page of this process any more" in text:
            name = text.split(maxsplit=1)[0].rpartition(".")[2]
            self.owned.forget([name])
            self.kinds["given up"] += 1
        else:
            self.tell("errors", f"{category.__name__}: {text}")

    # --- life --------------------------------------------------------------------------

    def live(self):
        while self.deeds:
            self.deeds -= 1
            self.do(self.actor, self.actor.rng.choices(*self.temper.deeds)[0])
            self.join()
            if self.undo and self.actor.rng.random() < 0.3:
                self.give_back()
        sys.settrace(None)
        hostile.rest()
        self.give_back()
        self.rest()
        self.connection.send(("quiet", self.kinds))
        self.kinds = Counter()
        with contextlib.suppress(EOFError, ConnectionError):
            while (order := self.connection.recv()) != "exit":
                try:
                    getattr(self, order)()
                except Exception as error:  # noqa: BLE001 -- the other side counts it
                    self.note(error)
                self.connection.send(("done", self.kinds))
                self.kinds = Counter()

    def do(self, actor, deed):
        """Do a deed, in which a signal may strike if this process's temper has it so."""
        error = None
        try:
            try:
                if actor is self.actor:
                    self.temper.arm(actor.rng)
                deed(actor)
            finally:
                if actor is self.actor:
                    hostile.calm()
        except SystemExit:
            raise
        except BaseException as caught:  # noqa: BLE001 -- all that an attack provokes
            error = caught
        if error is not None:
            self.note(error)
            # The traceback keeps the frames, and these the values.
            error.__traceback__ = error.__context__ = error.__cause__ = None

    def attempt(self, actor, deed):
        """Do a deed in the middle of another, or in another thread."""
        try:
            deed(actor)
        except Exception as error:  # noqa: BLE001 -- all that an attack provokes
            self.note(error)
            error.__traceback__ = error.__context__ = error.__cause__ = None

    def join(self):
        for thread in self.threads:
            thread.join()
        if self.threads:
            self.owned.forget()
        self.threads = []

    def give_back(self):
        """Take back what was done to this process's limits and functions."""
        while self.undo:
            self.undo.pop()()

    def rest(self):
        """Let come what may still come: garbage, what was put off, what was lost."""
        gc.collect()
        for _ in range(2):
            try:
                ms.view_list()
            except PROVOKED as error:
                self.note(error)

    # --- orders ------------------------------------------------------------------------

    def look(self):
        """Have this process see that its file is gone, if it is."""
        self.rest()
        try:
            ms.snapshot()
        finally:
            # Who may not open a single file cannot be listed; what it has stays valid.
            handles = registry()._handles
            if not handles.ledger.is_listed() and hostile.has_no_descriptor():
                self.kinds[UNLISTED] += 1

    def verify(self):
        """Check all values held, and that what is owned is what was registered."""
        self.actor.check()
        try:
            mine = {name.rpartition(".")[2] for name in ms.page_list()}
            known = self.owned.certain()
            for name, mark in known.items():
                if mark is None and name in mine:
                    self.tell("wrong", f"{name} is still owned, although it was released")
                elif mark is not None and name not in mine:
                    self.tell("lost", f"{name} is not owned any more")
            for name in sorted(mine):
                value = ms.Namespace(SPACE)[name]
                wrong = stamps.fault(name, value)
                mark = known.get(name)
                if not wrong and mark is not None and not stamps.is_loose(name):
                    has = stamps.stamp_of(name, value)
                    wrong = "" if has == mark else f"{name} has {hex(has)}, given was {hex(mark)}"
                if wrong:
                    self.tell("wrong", wrong)
                del value
        except ms.TooManyFilesError as error:
            self.note(error)
        except ms.MemshareError as error:
            self.tell("lost", f"of its own pages {sorted(mine)}: {error!r}")

    def close(self):
        """End the session; what arrays there were are gone before."""
        if not self.closes:
            return
        self.actor.held.clear()
        gc.collect()
        mark = self.owned.touch(stamps.NAMES)
        process.close()
        self.owned.settle(mark, dict.fromkeys(stamps.NAMES))
