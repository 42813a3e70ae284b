"""Which pages a pickle refers to: noted while it is made.

A reference may be anywhere in what is pickled, as in a function's closure, so what is pickled says
so itself; nobody has to look for it afterwards.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

from memshare_jupyter.core.names import PageName


class Reference(NamedTuple):
    """What leads to a value of a page: the page's name and uuid, which value, and the mode."""

    name: PageName
    uuid: bytes
    edition: int
    mode: str


class _Noting(threading.local):
    found: set[Reference] | None = None


_noting = _Noting()


@contextlib.contextmanager
def references() -> Iterator[set[Reference]]:
    """Yield a set to which is added what this thread pickles by reference inside the block."""
    before, _noting.found = _noting.found, set()
    try:
        yield _noting.found
    finally:
        _noting.found = before


def note(namespace: str, variable: str, uuid: bytes, edition: int, mode: str) -> None:
    """Say that a value is being pickled as a reference."""
    if _noting.found is not None:
        _noting.found.add(Reference(PageName(namespace, variable), uuid, edition, mode))
