"""Why a block cannot be opened."""

from __future__ import annotations


class SegmentGone(Exception):  # noqa: N818 -- a state that callers handle, not an error
    """The block cannot be reached through that holder, or any more."""


class BlockBusy(SegmentGone):
    """Its owner is writing another value into the block: it will be there, or gone, in a moment."""
