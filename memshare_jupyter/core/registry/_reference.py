"""What leads other processes to a page: a few hundred bytes that attach it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memshare_jupyter.core.values import note


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PageReference:
    """Pickles to a few hundred bytes; unpickling it attaches the page and gives its value.

    Views and lists of a page do that by themselves; frames and dicts, which are made of others'
    classes, do not.
    """

    rebuild: Callable[..., Any]
    arguments: tuple[Any, ...]

    @property
    def uuid(self) -> bytes:
        """The page."""
        uuid: bytes = self.arguments[2]
        return uuid

    def __reduce__(self) -> tuple[Any, ...]:
        note(*self.arguments)
        return self.rebuild, self.arguments
