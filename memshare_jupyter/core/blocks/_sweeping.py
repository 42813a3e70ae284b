"""Removing what dead processes left in the directories of pages that are files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memshare_jupyter.core.blocks import _block as segment
from memshare_jupyter.core.ledger._runtime import page_directory


class Places:
    """The directories of pages that this process knows of.

    The files that a dead session listed go with its session file (`ledger`). What is swept here
    is what it had not listed yet, or was no more: a kill while it made or replaced a page.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def use(self, place: str) -> None:
        """Sweep a directory when this process comes to use it."""
        if place and place not in self._known:
            self._known.add(place)
            segment.sweep(place, ())

    def sweep(self, sessions: Iterable[Any]) -> None:
        """Sweep every directory that is known, or that a living session lists pages in."""
        listed = set()
        self._known.add(str(page_directory()))
        for session in sessions:
            for place, uuid in session.table.files():
                self._known.add(place)
                listed.add(uuid)
        for place in self._known:
            segment.sweep(place, listed)
