"""Blocks: memory, and how another process reaches it. Imports errors and nothing else of ours."""

from memshare_jupyter.core.blocks._block import (
    Address,
    Backend,
    Mode,
    Segment,
    SegmentGone,
    anonymous,
    attach,
    choose,
    create,
    map_block,
    write_at,
)
from memshare_jupyter.core.blocks._resident import share_bytes
from memshare_jupyter.core.blocks._room import explain, in_units, machine, require, room

__all__ = [
    "Address",
    "Backend",
    "Mode",
    "Segment",
    "SegmentGone",
    "anonymous",
    "attach",
    "choose",
    "create",
    "explain",
    "in_units",
    "machine",
    "map_block",
    "require",
    "room",
    "share_bytes",
    "write_at",
]
