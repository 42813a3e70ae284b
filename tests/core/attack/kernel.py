"""The truth, as the kernel knows it: which processes there are, what they have mapped and open."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections import Counter
from pathlib import Path

_PAGE = re.compile(r"/(?:memfd:memshare:|(?=[0-9a-f]{32}\.page))([0-9a-f]{32})")


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
    """Say who has which page mapped, and how many times."""
    found = Counter()
    for pid in descendants():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps") as maps:
            for uuid in _PAGE.findall(maps.read()):
                found[pid, uuid] += 1
    return found


def opened(pid, runtime):
    """Return what a process has open: pages by uuid, and files of the runtime directory by name.

    Its own session file is ``own``: it was made without a name, and that is what it is called.
    """
    pages, files = Counter(), Counter()
    for descriptor in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            link = os.readlink(descriptor)
            pages.update(_PAGE.findall(link))
            if link.startswith(str(runtime)):
                name = link.removeprefix(f"{runtime}/")
                name = re.sub(r"#\d+ \(deleted\)", "own", name)
                files[name.replace("names.lock (deleted)", "names.lock")] += 1
    return pages, files


def descriptors_of(pid, uuid):
    """Return what a process has a page open as, number and flags, and how often it is mapped."""
    found = []
    for descriptor in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            if uuid in os.readlink(descriptor):
                info = Path(descriptor.replace("/fd/", "/fdinfo/")).read_text().split()
                found.append((int(descriptor.rpartition("/")[2]), info[3], "lock:" in info))
    maps = ""
    with contextlib.suppress(OSError):
        maps = Path(f"/proc/{pid}/maps").read_text()
    return sorted(found), maps.count(uuid)


def stands_at(pid):
    """Say where a process stands, as far as the kernel tells."""
    told = []
    for what in ("wchan", "stack", "syscall", "status"):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/{what}").read_text()
            if what == "status":
                text = " ".join(line for line in text.splitlines() if line.startswith("State"))
            told.append(f"{what}: {text.strip()}")
    return "\n".join(told)
