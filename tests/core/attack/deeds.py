"""What processes do with the package, and the tempers by which they choose."""

from __future__ import annotations

import os
import pickle
import signal
import threading

import hostile
import numpy as np
import stamps
from stamps import SPACE

import memshare_jupyter as ms
from memshare_jupyter.core.registry import registry

# --- owners ------------------------------------------------------------------------------


def where(actor):
    directory = actor.worker.place.directory
    return {"backend": "file", "directory": directory} if directory else {"backend": "memfd"}


def _register(actor, names):
    owned = actor.worker.owned
    made = {name: stamps.make(actor.rng, name) for name in names}
    writable = names[0][0] == "w"
    mark = owned.touch(names)
    values = {name: value for name, (value, _) in made.items()}
    ms.register_variables(SPACE, values, writable=writable, **where(actor))
    owned.settle(mark, {name: stamp for name, (_, stamp) in made.items()})


def register(actor):
    _register(actor, [actor.any_name("awlo")])


def register_big(actor):
    _register(actor, [actor.any_name("b")])


def register_big_often(actor):
    name = actor.any_name("b")
    for _ in range(actor.rng.randrange(2, 12)):
        _register(actor, [name])


def register_several(actor):
    names = [name for name in stamps.NAMES if name[0] in "abl"]
    _register(actor, actor.rng.sample(names, 3))


def fill(actor):
    name = actor.any_name("e")
    mark = actor.worker.owned.touch([name])
    x = ms.Namespace(SPACE).empty(name, actor.rng.choice([5, 4000]), int)
    x[:] = actor.rng.getrandbits(40) << 16 | stamps.code(name)
    if actor.rng.random() < 0.6:
        actor.hold(name, x)
    actor.worker.owned.settle(mark, {name: x.size})


def release(actor):
    if mine := ms.page_list():
        _release(actor, actor.rng.choice(mine).rpartition(".")[2])


def release_anything(actor):
    _release(actor, actor.any_name())


def _release(actor, name):
    mark = actor.worker.owned.touch([name])
    ms.release_variables(SPACE, name)
    actor.worker.owned.settle(mark, {name: None})


def collect(actor):
    owned = actor.worker.owned
    mark = owned.touch(stamps.NAMES)
    registry().gc(SPACE)
    owned.settle(mark, dict.fromkeys(stamps.NAMES))


def close(actor):
    actor.worker.close()


# --- viewers -----------------------------------------------------------------------------


def attach(actor):
    name = actor.any_name()
    actor.hold(name, ms.retrieve_views(SPACE, name)[name])


def attach_big(actor):
    name = actor.any_name("b")
    actor.hold(name, ms.retrieve_views(SPACE, name)[name])


def attach_several(actor):
    names = actor.rng.sample(stamps.NAMES, 2)
    for name, value in ms.retrieve_views(SPACE, names).items():
        actor.hold(name, value)


def attach_private(actor):
    if actor.worker.temper.handle == "interrupt" or actor.worker.threads:
        return  # what it wrote would not be certain
    name = actor.any_name("aw")
    x = ms.retrieve_views(SPACE, name, "c")[name]
    number = actor.rng.getrandbits(40)
    x[:] = number
    # One mapping for all of this mode, and so the same for all arrays on it.
    for held in actor.held:
        if held.private is not None and np.may_share_memory(held.value, x):
            held.private = number
    actor.hold(name, x, private=number)


def attach_to_write(actor):
    name = actor.any_name("aw")
    x = ms.retrieve_views(SPACE, name, "r+")[name]
    x[:] = actor.rng.getrandbits(40) << 16 | stamps.code(name)
    actor.hold(name, x)


def take(actor):
    name = actor.any_name("abw")
    x = ms.Namespace(SPACE)[name]
    cut = len(x) > 1
    actor.hold(name, x[:-1] if cut else x, cut=cut)


def glance(actor):
    name = actor.any_name()
    if wrong := stamps.fault(name, ms.Namespace(SPACE)[name]):
        actor.worker.tell("wrong", f"{wrong}, at a glance")


def send(actor):
    views = [held for held in actor.held if held.name[0] not in "lo" and held.private is None]
    if views:
        one = actor.rng.choice(views)
        again = pickle.loads(pickle.dumps(one.value))
        actor.hold(one.name, again, cut=one.cut)


def detach(actor):
    if mine := ms.view_list():
        ms.release_views(SPACE, actor.rng.choice(mine).rpartition(".")[2])


def forget(actor):
    if actor.held:
        del actor.held[: actor.rng.randrange(1, len(actor.held) + 1)]


def check(actor):
    actor.check()


def look(actor):
    ms.snapshot()


# --- processes and threads ---------------------------------------------------------------


def fork(actor):
    actor.worker.fork(actor)


def threads(actor):
    """Have two to four threads do the same at once, with the same names."""
    # No interrupt between a thread's beginning and our knowing of it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    for i in range(actor.rng.randrange(2, 5)):
        other = type(actor)(actor.worker, f"{actor.name}/{len(actor.held)}/{i}")
        other.held = actor.held[:5]
        count = other.rng.randrange(3, 15)
        thread = threading.Thread(target=_work, args=(other, count))
        actor.worker.threads.append(thread)
        thread.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    for _ in range(actor.rng.randrange(10)):
        actor.worker.attempt(actor, actor.rng.choices(*IN_THREADS)[0])


def _work(actor, count):
    worker = actor.worker
    for _ in range(count):
        deed = actor.rng.choices(*IN_THREADS)[0]
        worker.attempt(actor, deed)
        if worker.actor is actor:  # a child that was forked in this thread: it is its main one
            worker.live()
            ends_in_order = actor.rng.random() < 0.5
            if ends_in_order:
                actor.held.clear()
                worker.close()
            os._exit(0)
    actor.check()
    actor.held.clear()


def _weighted(*pairs):
    return tuple(zip(*pairs, strict=True))


OWNING = (
    *((register, 8), (register_big, 6), (register_big_often, 2), (register_several, 3)),
    *((fill, 3), (release, 4), (release_anything, 2), (collect, 0.7)),
)
VIEWING = (
    *((attach, 8), (attach_big, 6), (attach_several, 3), (attach_private, 2)),
    *((attach_to_write, 2), (take, 6), (glance, 3), (send, 3), (detach, 5), (forget, 5)),
    *((check, 5), (look, 2)),
)
HOSTILE = (
    *((close, 0.7), (fork, 1.5), (threads, 1.5), (hostile.crash, 0.6), (hostile.doom, 3)),
    *((hostile.collect_garbage, 1), (hostile.lose_lock, 0.5), (hostile.remove_file, 0.4)),
    *((hostile.remove_own_file, 0.4), (hostile.remove_directory, 0.15)),
    *((hostile.small_files, 0.4), (hostile.few_files, 0.4), (hostile.full, 0.4)),
    *((hostile.fork_in_c, 1),),
)
EVERYTHING = _weighted(*OWNING, *VIEWING, *HOSTILE)
IN_THREADS = _weighted(
    *OWNING, *VIEWING, (fork, 0.3), (hostile.fork_in_c, 0.3), (hostile.doom, 2), (look, 2)
)
READING = _weighted(*VIEWING, (check, 40), (hostile.fork_in_c, 1), (hostile.lose_lock, 0.3))
REFILLING = _weighted((register_big, 20), (register_big_often, 10), *HOSTILE, (fork, 2))


class Temper:
    """By what weights a process chooses, and what strikes it meanwhile."""

    def __init__(self, name, weighted, handle=None, more=1):
        self.name = name
        self.deeds = weighted
        self.handle = handle
        self.more = more

    @property
    def struck(self):
        """Whether signals strike it."""
        return self.handle is not None

    def prepare(self, worker):
        rng = worker.actor.rng
        worker.deeds = max(1, int(worker.deeds * self.more))
        if self.handle == "interrupt":
            signal.signal(signal.SIGALRM, hostile.interrupt)
        elif self.handle == "act":
            signal.signal(signal.SIGALRM, hostile.handler(worker))
        elif rng.random() < 0.5:
            hostile.choose_death(rng)
        if rng.random() < 0.1:
            hostile.few_files_for_life(rng)

    def arm(self, rng):
        if self.handle is not None and rng.random() < 0.7:
            hostile.arm(rng)


TEMPERS = (
    (Temper("mixed", EVERYTHING), 6),
    (Temper("reader", READING, more=4), 3),
    (Temper("refiller", REFILLING), 2),
    (Temper("interrupted", EVERYTHING, "interrupt"), 3),
    (Temper("interrupted refiller", REFILLING, "interrupt"), 1),
    (Temper("handler", EVERYTHING, "act"), 3),
    (Temper("threads", _weighted((threads, 1), (forget, 1)), more=0.2), 2),
    (Temper("interrupted threads", _weighted((threads, 1), (forget, 1)), "interrupt", more=0.2), 1),
)


def temper(rng):
    return rng.choices(*_weighted(*TEMPERS))[0]
