"""One BLAS thread per worker: workers that each use all cores wait for each other."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController

_found: tuple[int, ThreadpoolController] | None = None


def one_blas_thread() -> AbstractContextManager[Any]:
    """Let the BLAS libraries of this process use one thread; restore their numbers at the end.

    To look for the libraries takes 3 ms, to set their threads 20 µs: so we look again only when
    modules have been imported since. A library that is loaded inside the block is not limited.
    """
    global _found  # noqa: PLW0603 -- one process, one set of libraries
    modules = len(sys.modules)
    if _found is None or _found[0] != modules:
        _found = modules, ThreadpoolController().select(user_api="blas")
    limited: AbstractContextManager[Any] = _found[1].limit(limits=1)
    return limited
