"""Requests: pages that are to be registered, and how far that is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from memshare_jupyter.core import blocks
from memshare_jupyter.core.ledger import PAGE, Entry, Who, about_room
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry._handle import Handle
from memshare_jupyter.core.registry._page import Mappings, Page
from memshare_jupyter.core.values import Plan, View
from memshare_jupyter.errors import UnsupportedValueError

_LEAST_REFILL_BYTES: Final = 1 << 20


@dataclass(slots=True, weakref_slot=True, eq=False)
class Request:
    """A page that is to be registered, and how far that is.

    Attributes
    ----------
    name, plan, writable, lend : PageName, Plan, bool, bool
        What is asked for; `lend` an array on the owner's own mapping.
    block : Segment or None
        Its memory, as long as nobody else has it.
    page : Page or None
        The memory, mapped.
    refilled, edition : Handle or None, int
        The page of this process that becomes the new one, and which value it had before.
    lent : View or None
        What was asked for by `lend`.
    """

    name: PageName
    plan: Plan
    writable: bool = False
    lend: bool = False
    block: blocks.Segment | None = None
    page: Page | None = None
    refilled: Handle | None = None
    edition: int = -1
    lent: View | None = None

    def fits(self, handle: Handle, backend: blocks.Backend, place: str) -> bool:
        """Say whether a page of this process could be written anew with what is asked for."""
        if handle.in_use or handle.adopted or handle.forked or self.lend:
            return False
        entry, plan = handle.entry, self.plan
        return (
            (entry.writable, entry.backend, entry.place) == (self.writable, backend, place)
            and plan.size_bytes >= _LEAST_REFILL_BYTES
            and plan.layout.in_memory
            and handle.page.fits(plan)
        )

    def mapped(self, mappings: Mappings) -> Page:
        """Return the page as it is to be listed, mapped and sealed; once or more often."""
        if self.refilled is not None:
            page = self.refilled.page
            page.show()
        elif self.page is not None:
            page = self.page  # made before a name had to be waited for
        else:
            assert self.block is not None  # noqa: S101 -- one of the three
            # The mapping is made before the seal, so the owner alone can write to a sealed page.
            page = self.page = Page(self.block, "r+", mappings)
            self.block = None
            # The owner may write; whom it sends views may not.
            page.sent_mode = "r+" if self.writable else "r"
            page.block.seal(writable=self.writable)
        return page

    def entry(self, page: Page, who: Who, newest: float) -> Entry:
        """Return what the ledger is to say of the page.

        It is younger than the newest page that had the name before, whatever the clock says.
        """
        created, block = max(time.time(), newest + 1e-6), page.block
        return Entry(
            *(PAGE, self.name, page.uuid, block.fd, self.plan.size_bytes, self.writable),
            *(created, created, who.pid, who.token),
            self.plan.about.pack(about_room(self.name, block.place)),
            *(block.backend, block.place),
        )

    def lend_from(self, handle: Handle, rebuild: Callable[..., Any]) -> None:
        """Make the array that was asked for by `lend`; an array, so this runs no code of others."""
        handle.lent = True
        self.lent = handle.page.value(self.name, rebuild)


def plan_of(name: PageName, value: Any) -> Plan:
    """Lay a value out for its page; the error names the page."""
    try:
        return Plan.of(value)
    except UnsupportedValueError as error:
        raise UnsupportedValueError(f"{name}: {error}", name=str(name)) from None
