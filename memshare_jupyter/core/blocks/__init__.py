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
)
from memshare_jupyter.core.blocks._filling import fill, write_at
from memshare_jupyter.core.blocks._reserve import require, reserved
from memshare_jupyter.core.blocks._resident import share_bytes
from memshare_jupyter.core.blocks._room import FULL, explain, in_units, machine, room

__all__ = [
    "FULL",
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
    "fill",
    "in_units",
    "machine",
    "map_block",
    "require",
    "reserved",
    "room",
    "share_bytes",
    "write_at",
]
