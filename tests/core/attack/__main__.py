"""Processes that share pages and are attacked, round after round; what was wrong, in one line.

Run ``python tests/core/attack --seed 1 --rounds 500 --backend memfd``. In every round six
processes register, replace, release, attach in all modes, keep, slice, pickle, fork, close their
session, in one thread and in several. Meanwhile (`deeds`, `hostile`)

- they are killed: from outside at random moments; by themselves at a random call of a random step,
  half-way through a write, or at a random line of the core; or they crash, or exit;
- signals interrupt them at any bytecode, or call handlers that release, detach and list; finalizers
  and objects being unpickled do that, too;
- they are stopped for a while, with whatever lock they have;
- threads register and release the same names, and fork; so do libraries in C, behind our back;
- files of the runtime directory are opened, which drops locks, and removed, with it or without;
- no file may grow, no further file may be opened.

Others are started in place of the dead. Then, with whoever is left (`judge`):

wrong      counts that do not equal ``/proc/*/maps``; a name with two owners; a value that nobody
           registered under that name, or that changed under its reader
lost       pages that somebody holds and that are not listed, cannot be attached by name, are not
           their owner's any more, or (files) have no file any more
leaked     descriptors that are not accounted for; what is listed, mapped, or left in a directory
           when all are dead and somebody looked
errors     exceptions that no user should see; those that an attack provokes are counted by kind
stuck      processes that did not answer in time, with the stacks of their threads

All that is random derives from the seed and the round, so ``--first 17 --rounds 1`` replays what
the processes of round 17 do, and at which of their own steps they die. How their steps interleave,
and where a signal strikes, is up to the system's scheduler.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import gc
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from judge import FOUND, Attack
from worker import Worker

from memshare_jupyter.core.registry import _process as process

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


@dataclass
class Place:
    """Where the attack takes place, and where its processes tell of faults."""

    address: str
    runtime: Path
    directory: str
    faults: socket.socket


def serve(orders, place):
    """Fork a process for every name that comes; returns in each of them, with its worker."""
    while True:
        try:
            name = orders.recv()
        except EOFError:
            return None
        if (pid := os.fork()) == 0:
            orders.close()
            return Worker(name, place)
        orders.send(pid)


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
    heard, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.setblocking(False)
    place = Place(address, private / "memshare", directory, told)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # So that the children of killed children are ours again.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    orders, theirs = (Connection(end.detach()) for end in socket.socketpair())
    gc.freeze()
    if (spawner := os.fork()) == 0:
        listener.close()
        heard.close()
        orders.close()
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        worker = serve(theirs, place)
        if worker is not None:
            worker.live()
        told.close()
        return 0
    theirs.close()

    attack = Attack(chosen.seed, orders, spawner, listener, heard, place)
    begin = time.monotonic()
    try:
        for number in range(chosen.first, chosen.first + chosen.rounds):
            attack.run(number)
    finally:
        seconds = time.monotonic() - begin
        attack.end_all()
        orders.close()
        for end in (listener, heard, told):
            end.close()
        process.close()
        shutil.rmtree(private, ignore_errors=True)
    found = {kind: attack.found[kind] for kind in FOUND}
    print("provoked:", ", ".join(f"{n} {kind}" for kind, n in attack.kinds.most_common()))
    print(
        f"{chosen.backend} seed {chosen.seed}: {chosen.rounds} rounds, {attack.kills} kills,",
        ", ".join(f"{count} {kind}" for kind, count in found.items()) + f", {seconds:.1f} s",
    )
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
