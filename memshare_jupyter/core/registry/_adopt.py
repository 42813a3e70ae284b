"""Adopt pages: what others still view after its owner has ended gets an owner again.

1. open and map the page once more, through whoever has it;
2. in a turn, lock its name, and look for a living owner of the name;
3. list the page as this process's, and look once more.

The memory stays as it is, sealed by its first owner: an adopter can neither write to it nor leave a
mark in it. So when it releases the page, that is orphaned again as long as somebody views it.
"""

from __future__ import annotations

from collections.abc import Iterable

from memshare_jupyter.core.ledger import PAGE
from memshare_jupyter.core.names import PageName, page_name
from memshare_jupyter.core.registry import _claims as claims
from memshare_jupyter.core.registry._attach import Viewer
from memshare_jupyter.core.registry._handle import Handle, Taken
from memshare_jupyter.core.registry._handles import Handles
from memshare_jupyter.core.registry._opening import Wanted
from memshare_jupyter.core.registry._turn import Turn, in_turn, pauses, wait_for


class Adopter:
    """Makes this process the owner of orphaned pages."""

    def __init__(self, handles: Handles, viewer: Viewer) -> None:
        self._handles = handles
        self._viewer = viewer

    @property
    def turn(self) -> Turn:
        """What the methods take."""
        return self._handles.turn

    def adopt(self, namespace: str, variables: Iterable[str]) -> None:
        """Become the owner of pages whose owner has ended: of all, or of none and an error.

        Raises
        ------
        PageNotFoundError
            There is no such page.
        PageExistsError
            A living process owns it.
        """
        names = [page_name(namespace, variable) for variable in dict.fromkeys(variables)]
        self._refuse_owned(names)
        taken = [self._viewer.take(Wanted(name), "r", hold=False) for name in names]
        waits = pauses()
        while (locked := self._try_adopt(taken)) is not None:
            wait_for(locked, waits)

    @in_turn
    def _refuse_owned(self, names: list[PageName]) -> None:
        claims.refuse_rivals(self._handles.sessions(), names, myself=True, act="adopt")

    @in_turn
    def _try_adopt(self, taken: list[Taken]) -> tuple[PageName, int] | None:
        handles = self._handles
        names = [one.name for one in taken]
        for name in names:
            handles.refuse_late(name)
        if (locked := handles.names.try_lock(names)) is not None:
            return locked
        made: dict[PageName, Handle] = {}
        try:
            claims.refuse_rivals(handles.sessions(), names, myself=True, act="adopt")
            who = handles.ledger.mine.who
            pages = [handles.again(one.handle.page) for one in taken]
            entries = [
                one.handle.entry._replace(
                    kind=PAGE, fd=page.block.fd, owner_pid=who.pid, owner_token=who.token
                )
                for one, page in zip(taken, pages, strict=True)
            ]
            slots = handles.publish(entries)
            for page, entry, slot in zip(pages, entries, slots, strict=True):
                made[entry.name] = handle = Handle(page, entry, slot)
                handle.adopted = True
            claims.refuse_late_rivals(handles.sessions(), names)
            handles.pages.update(made)
        except BaseException as error:
            for handle in made.values():
                handles.ledger.withdraw(handle.slot, handle.entry)
                handle.page.drop()
            if isinstance(error, claims.Rival):
                return error.found
            raise
        finally:
            handles.names.unlock()
        return None
