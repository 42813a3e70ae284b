"""What is done to a process from within: signals, finalizers, limits, files, forks, deaths."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import gc
import os
import random
import resource
import shutil
import signal
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import stamps
from stamps import SPACE

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.core.registry import registry

sys.path.append(str(Path(__file__).parents[2]))
from child import at_call, at_event, die

_at_rest = []
_LIBC = ctypes.CDLL(None)
_STACK = ctypes.create_string_buffer(1 << 16)
STEPS = [
    *("os.pwrite", "os.link", "fcntl.lockf", "fcntl.flock", "os.memfd_create", "os.unlink"),
    *(
        "memshare_jupyter.core." + step
        for step in (
            *("blocks._block.create", "blocks._block.attach", "blocks._block.map_block"),
            *("registry._page.Page.mark", "registry._page.Page.drop", "registry._page.Page.close"),
            *("registry._page.Page.refill", "registry._handles.Handles.publish"),
            *("registry._claims.refuse_rivals", "registry._claims.claims_by_name"),
            *("ledger._names.try_lock", "ledger._reader._sweep", "ledger._create.try_lock"),
            *("blocks._file._remove_if_last", "blocks._file.reclaim", "blocks._file.try_flock"),
            *("blocks.copy_into", "blocks._memfd.try_flock"),
            *(f"ledger._session.SessionFile.{act}" for act in ("put", "clear", "end")),
        )
    ),
]


# --- death -------------------------------------------------------------------------------


def choose_death(rng):
    """Die at a random call of a random step, half-way through a write, or at a random line."""
    how = rng.randrange(3)
    if how == 0:
        when = rng.choice(["before", "half", "half", "after"])
        at_call("os.pwrite", rng.randrange(1, 80), when, strike)
    elif how == 1:
        step = rng.choice(STEPS)
        at_call(step, rng.randrange(1, 25), rng.choice(["before", "after"]), strike)
    else:
        at_event(int(10 ** rng.uniform(1, 4)), strike)


def strike():
    """Die, unless this process has done all its deeds."""
    if not _at_rest:
        die()


def rest():
    """Die no more."""
    _at_rest.append(True)


def crash(actor):
    how = actor.rng.randrange(4)
    if how == 0:
        os._exit(1)
    elif how == 1:
        faulthandler.disable()  # it is no news
        os.abort()
    elif how == 2:
        actor.worker.crashing = True
        raise SystemExit  # in good order
    die()


# --- signals -----------------------------------------------------------------------------


def interrupt(_number, _frame):
    raise KeyboardInterrupt


def handler(worker):
    """A handler of signals that uses the package as its author pleased."""
    rng = random.Random(worker.name)  # noqa: S311 -- nothing secret

    def handle(_number, _frame):
        act(worker, rng)

    return handle


def act(worker, rng):
    """Release, detach, gc or list, from a handler or finalizer: at any moment, in any thread."""
    name = rng.choice(stamps.NAMES)
    how = rng.randrange(5)
    names = stamps.NAMES if how == 2 else [name] if how == 0 else []
    worker.owned.forget(names)
    try:
        if how == 0:
            ms.release_variables(SPACE, name)
        elif how == 1:
            ms.release_views(SPACE, name)
        elif how == 2:
            registry().gc(SPACE)
        elif how == 3:
            ms.page_list()
        else:
            ms.snapshot()
    except ms.MemshareError as error:
        worker.note(error)
    worker.owned.forget(names)


def arm(rng):
    """Have SIGALRM strike soon, from 20 us to 2 ms."""
    signal.setitimer(signal.ITIMER_REAL, 20e-6 * 100 ** rng.random(), 0)


def calm():
    signal.setitimer(signal.ITIMER_REAL, 0)


# --- finalizers --------------------------------------------------------------------------


class Doomed:
    """An object in a cycle that uses the package when it is found to be garbage."""

    def __init__(self, worker, rng):
        self.worker = worker
        self.rng = random.Random(rng.random())  # noqa: S311 -- nothing secret
        self.me = self

    def __del__(self):
        if hasattr(self, "me"):  # no interrupt came before
            act(self.worker, self.rng)


class Mortal:
    """An object in a cycle, with a finalizer that is not its own."""

    def __init__(self, worker, rng):
        self.me = self
        finalizer = weakref.finalize(self, act, worker, random.Random(rng.random()))  # noqa: S311
        finalizer.atexit = False


def doom(actor):
    """Leave garbage that will call back: whenever, and where it is found."""
    actor.rng.choice([Doomed, Mortal])(actor.worker, actor.rng)
    if actor.held and actor.rng.random() < 0.5:
        cycle = [actor.held.pop()]
        cycle.append(cycle)


def collect_garbage(actor):
    gc.collect(actor.rng.randrange(3))


# --- files -------------------------------------------------------------------------------


def lose_lock(actor):
    """Open and close the files of the runtime directory, as a backup or grep would."""
    for path in _files(actor):
        with contextlib.suppress(OSError):
            path.read_bytes()


def remove_file(actor):
    """Remove one of the files, as a cleaner of temporary files would."""
    if files := _files(actor):
        with contextlib.suppress(OSError):
            actor.rng.choice(files).unlink()


def remove_own_file(actor):
    registry = process._registry
    if registry is not None and registry.session_file is not None:
        with contextlib.suppress(OSError):
            registry.session_file.unlink()


def remove_directory(actor):
    calm()  # interrupted, it would close a descriptor twice, or not at all
    with contextlib.suppress(OSError):
        shutil.rmtree(actor.worker.place.runtime, ignore_errors=True)


def _files(actor):
    try:
        return sorted(actor.worker.place.runtime.iterdir())
    except OSError:
        return []


# --- limits ------------------------------------------------------------------------------


def small_files(actor):
    """Let no file grow beyond a limit, for a while."""
    _limit(actor.worker, resource.RLIMIT_FSIZE, actor.rng.choice([1 << 17, 1 << 19, 1 << 20]))


def few_files(actor):
    """Let this process open no other file, or just one, for a while."""
    with contextlib.suppress(OSError):  # so it is already
        _limit(actor.worker, resource.RLIMIT_NOFILE, _lowest() + actor.rng.randrange(2))


def few_files_for_life(rng):
    most = _lowest() + rng.randrange(4, 24)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def has_no_descriptor():
    """Say whether this process may not open another file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return True
    return False


def _lowest():
    """Return the number that the next file would have."""
    taken = set(map(int, os.listdir("/proc/self/fd")))
    return min(set(range(len(taken) + 1)) - taken)


def _limit(worker, kind, number):
    before = resource.getrlimit(kind)
    if before[1] != resource.RLIM_INFINITY and number > before[1]:
        return
    worker.undo.append(lambda: resource.setrlimit(kind, (before[0], _hard(kind))))
    resource.setrlimit(kind, (number, before[1]))


def _hard(kind):
    return resource.getrlimit(kind)[1]


def full(actor):
    """Let no file have more room, and no new one be made, for a while: what a full disk does.

    What has its room already can be written to; of what has not, half may be written.
    """
    if actor.worker.temper.struck:
        return  # by these functions, which are not in C, an interrupt could lose a descriptor
    pwrite, open_, truncate = os.pwrite, os.open, os.ftruncate
    allocate = os.posix_fallocate
    rng = random.Random(actor.rng.random())  # noqa: S311 -- nothing secret

    def refuse():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_pwrite(fd, data, offset):
        room = os.fstat(fd).st_size - offset
        if room >= len(data):
            return pwrite(fd, data, offset)
        if room <= 0 and rng.random() < 0.5:
            refuse()
        some = len(data) // 2
        return pwrite(fd, memoryview(data)[:some], offset) if some > 8 else refuse()

    def full_open(path, flags, *rest, **named):
        makes = flags & os.O_CREAT and not os.path.exists(path)
        makes = makes or flags & os.O_TMPFILE == os.O_TMPFILE
        return refuse() if makes and rng.random() < 0.5 else open_(path, flags, *rest, **named)

    def full_grow(grow):
        def grown(fd, *where):
            return refuse() if rng.random() < 0.7 else grow(fd, *where)

        return grown

    os.pwrite, os.open = full_pwrite, full_open
    os.ftruncate, os.posix_fallocate = full_grow(truncate), full_grow(allocate)

    def undo():
        os.pwrite, os.open = pwrite, open_
        os.ftruncate, os.posix_fallocate = truncate, allocate

    actor.worker.undo.append(undo)


# --- forks -------------------------------------------------------------------------------


def fork_in_c(actor):
    """Fork as a library written in C does: the child knows of nothing, and merely has our memory.

    No Python runs in it, which could wait for threads that it does not have; so what its arrays
    have is read from here.
    """
    known = []
    for held in actor.held[:20]:
        if not stamps.is_loose(held.name) and held.private is None:
            array = stamps.arrays(held.name, held.value)
            known.append((held.name, array, np.ascontiguousarray(array).tobytes()))
    nap_us = actor.rng.randrange(1000, 60_000)
    top = ctypes.c_void_p(ctypes.addressof(_STACK) + len(_STACK) // 2)
    pid = _LIBC.clone(_LIBC.usleep, top, signal.SIGCHLD, ctypes.c_void_p(nap_us))
    if pid > 0 and known:
        time.sleep(actor.rng.uniform(0, nap_us * 1e-6))
        with contextlib.suppress(OSError), open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for name, array, right in known:
                if array.flags.c_contiguous:
                    memory.seek(array.__array_interface__["data"][0])
                    found = memory.read(len(right))
                    if found not in (right, b""):
                        actor.worker.tell("wrong", f"{name} changed under a child forked in C")
