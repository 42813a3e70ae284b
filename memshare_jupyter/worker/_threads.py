"""One thread per worker for linear algebra: workers that each use all cores wait for each other."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

from threadpoolctl import ThreadpoolController

_VARIABLE: Final = "OMP_NUM_THREADS"
"""What libraries read that are loaded in the call, by the function itself. OpenBLAS, MKL, BLIS and
numexpr read it unless the user has set one of their own."""

_found: tuple[int, ThreadpoolController] | None = None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let the BLAS and OpenMP libraries of this process use one thread, also those still to come.

    The numbers of those that were loaded before are restored at the end. One that is loaded inside
    the block reads the environment and keeps to one thread; so do processes that are started there.
    """
    ours = _VARIABLE not in os.environ
    with _libraries().limit(limits=1):
        if ours:
            os.environ[_VARIABLE] = "1"
        try:
            yield
        finally:
            if ours:
                os.environ.pop(_VARIABLE, None)


def _libraries() -> Any:
    """Find the libraries: it takes 3 ms, and is done again only if modules were imported since."""
    global _found  # noqa: PLW0603 -- one process, one set of libraries
    modules = len(sys.modules)
    if _found is None or _found[0] != modules:
        _found = modules, ThreadpoolController()
    return _found[1]
