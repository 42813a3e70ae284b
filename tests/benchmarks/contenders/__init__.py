"""The contenders of the apply benchmark, a module each.

Each module has a class ``Contender(workers)`` that starts the workers, with the methods
``share(X)``, ``apply(margin, fun)`` (a list with a result for each item of the matrix shared
last), ``unshare()`` and ``close()``. It does what the contender's own documentation recommends for
a large array that all workers read. It is used in a process of its own.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A contender: its module, and the package that has to be installed for it."""

    module: str
    package: str | None = None

    @property
    def installed(self) -> bool:
        return self.package is None or importlib.util.find_spec(self.package) is not None


SERIAL = "serial loop"
CONTENDERS = {
    SERIAL: Entry(f"{__name__}.serial"),
    "memapply": Entry(f"{__name__}.memapply"),
    "threads": Entry(f"{__name__}.threads"),
    "multiprocessing": Entry(f"{__name__}.pool"),
    "SharedArray": Entry(f"{__name__}.shared_array", "SharedArray"),
    "mpire": Entry(f"{__name__}.mpire", "mpire"),
    "joblib": Entry(f"{__name__}.joblib", "joblib"),
    "DirectView.map": Entry(f"{__name__}.direct_view", "ipyparallel"),
    "LoadBalancedView.map": Entry(f"{__name__}.load_balanced_view", "ipyparallel"),
    "ray": Entry(f"{__name__}.ray", "ray"),
    "dask": Entry(f"{__name__}.dask", "distributed"),
}
"""The serial loop is first: all others are compared with its results and its times."""
