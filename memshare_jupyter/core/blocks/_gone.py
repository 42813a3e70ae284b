"""What every backend says of a block that is not there any more."""

from __future__ import annotations


class SegmentGone(Exception):  # noqa: N818 -- a state the caller handles, not an error
    """The process or directory named no longer has that block."""
