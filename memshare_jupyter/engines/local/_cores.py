"""How many engines a machine, or the container that it looks like, is good for.

See sched_getaffinity(2), and the kernel's documentation: "Control Group v2", CPU Interface Files,
and "CFS Bandwidth Control" for the first version.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from memshare_jupyter.core import blocks

_GROUPS_OF_SELF: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")
_ENGINE_BYTES: Final = 100_000_000
"""What an engine takes with numpy and scipy loaded, and some of its own."""


def number_of_processes(what: str, given: int | None) -> int | None:
    """Return what was given for an option as an int: numpy's are taken, too, and no truth values.

    Raises
    ------
    ValueError
        It is no whole number of at least 1.
    """
    if given is None:
        return None
    with contextlib.suppress(TypeError):
        if not isinstance(given, bool | np.bool_) and (number := operator.index(given)) >= 1:
            return number
    raise ValueError(f"{what} must be a whole number of at least 1, not {given!r}")


def usable_cores() -> int:
    """Return how many cores this process may use; a control group's quota counts as so many."""
    return min([_affinity(), *map(math.ceil, _quotas())])


def default_engines() -> int:
    """Return how many engines a local cluster gets: cores less one, but two of two.

    One engine cannot beat a loop. There is memory for every engine; at least one.
    """
    cores = usable_cores()
    engines = cores - 1 if cores > 2 else cores
    return max(1, min(engines, blocks.room().free_bytes // _ENGINE_BYTES))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """Yield how many cores the control groups of this process grant, if they have a limit."""
    with contextlib.suppress(OSError):
        for line in _GROUPS_OF_SELF.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                for group in _around(_GROUPS, path):
                    with contextlib.suppress(OSError, ValueError):  # "max" is no limit
                        quota, period = (group / "cpu.max").read_text().split()
                        yield int(quota) / int(period)
            elif "cpu" in controllers.split(","):
                for group in _around(_GROUPS / "cpu", path):
                    with contextlib.suppress(OSError, ValueError):
                        quota_us = int((group / "cpu.cfs_quota_us").read_text())
                        if quota_us > 0:  # -1 is no limit
                            yield quota_us / int((group / "cpu.cfs_period_us").read_text())


def _around(base: Path, path: str) -> Iterator[Path]:
    """Yield a group and those around it. In a container the path may be one that is not there."""
    group = base / path.lstrip("/")
    while group == base or base in group.parents:
        yield group
        group = group.parent
