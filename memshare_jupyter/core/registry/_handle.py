"""A handle: what one process holds of one page; and a page that is held for a moment."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np

from memshare_jupyter.core.ledger import Entry
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry._page import Page


class Handle:
    """One claim of this process on one page, and the slot that lists it.

    Attributes
    ----------
    page : Page
        The memory.
    entry : Entry
        What the ledger says of it.
    slot : int
        Where it says so.
    held : bool
        Of a view: it ends by `detach`, not with the last array.
    lent : bool
        Of a page: arrays were made on its owner's own mapping, so it is never written anew.
    references : WeakSet or None
        Of a page: what leads others to it at this moment; None as long as nothing ever did. As long
        as there is one, memory that is released goes on as if it were lent.
    adopted : bool
        Of a page: another process made it and has ended, so this one cannot write to it.
    released : bool
        Of a page that ends: whether its name leads nowhere from then on.
    forked : bool
        Of a page: a forked child has its open file, too, and lists it. The kernel does not tell
        the two apart, so it is never written anew.
    usable : bool
        False of what a forked child inherited from the owner, by whose mapping it could write:
        the child maps the page again before it gives out arrays.
    """

    __slots__ = (
        "adopted",
        "entry",
        "forked",
        "held",
        "lent",
        "page",
        "references",
        "released",
        "slot",
        "usable",
    )

    def __init__(self, page: Page, entry: Entry, slot: int) -> None:
        self.page = page
        self.entry = entry
        self.slot = slot
        self.held = False
        self.lent = False
        self.references: weakref.WeakSet[object] | None = None
        self.adopted = False
        self.released = True
        self.forked = False
        self.usable = True

    def lead_by(self, reference: object) -> None:
        """Know what leads others to the page, as long as it does."""
        if self.references is None:
            self.references = weakref.WeakSet()
        self.references.add(reference)

    @property
    def in_use(self) -> bool:
        """Whether arrays on a page's own mapping may be in use."""
        return self.lent or bool(self.references)


class Taken(NamedTuple):
    """A page that is in use as long as this exists, and the handle on it."""

    name: PageName
    handle: Handle
    memory: np.ndarray[Any, Any]
    was_held: bool
