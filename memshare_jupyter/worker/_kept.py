"""Kept views: pages that calls ask for by name stay mapped from one call to the next.

To map a page of 400 MB anew takes as long as to compute its standard deviations. What is kept is
address space; the memory is the owner's. A view is let go

- when the owner releases the page, or registers another value of that size: a caller says so
  over its line; of other owners, the page itself says it when it is looked at, which is after
  each call and once a second;
- when the owner has died, as seen by that look;
- when others were asked for more lately, or nobody asked for it for a while;
- when the lines end over which it was asked for.

A forked child keeps nothing.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from memshare_jupyter.core.registry import registry, when_pages_end
from memshare_jupyter.errors import MemshareError

MOST_KEPT: Final = 16
_MOST_BYTES: Final = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
_IDLE_S: Final = 60.0


@dataclass(slots=True)
class _Kept:
    mapping: mmap.mmap
    by: set[object]
    asked_for: float


_kept: Final[OrderedDict[bytes, _Kept]] = OrderedDict()  # what was asked for last at the end


def keep(pages: Iterable[bytes], by: object) -> None:
    """Keep the views that this process has of pages.

    Parameters
    ----------
    pages : iterable of bytes
        Their uuids.
    by : object
        Who asks for it, until it says `forget`.
    """
    now = time.monotonic()
    for uuid in pages:
        found = _kept.get(uuid)
        if found is None:
            mapping = registry().keep(uuid)
            if mapping is None:
                continue
            found = _kept[uuid] = _Kept(mapping, set(), now)
        found.by.add(by)
        found.asked_for = now
        _kept.move_to_end(uuid)
    while len(_kept) > MOST_KEPT or sum(len(one.mapping) for one in _kept.values()) > _MOST_BYTES:
        _kept.popitem(last=False)


def look(*, at_owners: bool = False) -> bool:
    """Let go of what has ended, list the rest as what it is; say whether there is any.

    With `at_owners`, also of what nobody has asked for for a while, or whose owner is dead.
    """
    if _kept:
        # A call is not to fail for it, nor the looks to end: the next one says it.
        with contextlib.suppress(OSError, MemshareError):
            let_go(registry().rest(_kept, look=at_owners))
        if at_owners:
            before = time.monotonic() - _IDLE_S
            let_go([uuid for uuid, one in _kept.items() if one.asked_for < before])
    return bool(_kept)


def let_go(pages: Iterable[bytes]) -> None:
    """Keep these no longer."""
    for uuid in pages:
        _kept.pop(uuid, None)


def forget(by: object) -> None:
    """Keep no longer what nobody else has asked for."""
    for uuid, one in list(_kept.items()):
        one.by.discard(by)
        if not one.by:
            _kept.pop(uuid, None)


when_pages_end(let_go)  # those of this very process
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_kept.clear)
