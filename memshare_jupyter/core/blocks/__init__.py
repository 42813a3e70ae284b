"""Blocks: memory, and how another process reaches it. Imports errors and nothing else of ours."""

from memshare_jupyter.core.blocks._block import (
    Address,
    Backend,
    Mode,
    OwnBlock,
    Segment,
    anonymous,
    attach,
    choose,
    create,
    fill,
    map_block,
    reclaim,
    write_at,
)
from memshare_jupyter.core.blocks._gone import BlockBusy, SegmentGone
from memshare_jupyter.core.blocks._huge import copy_into, not_inherited
from memshare_jupyter.core.blocks._memfd import close_all
from memshare_jupyter.core.blocks._resident import share_bytes
from memshare_jupyter.core.blocks._room import FULL, explain, in_units, machine, require, room

__all__ = [
    "FULL",
    "Address",
    "Backend",
    "BlockBusy",
    "Mode",
    "OwnBlock",
    "Segment",
    "SegmentGone",
    "anonymous",
    "attach",
    "choose",
    "close_all",
    "copy_into",
    "create",
    "explain",
    "fill",
    "in_units",
    "machine",
    "map_block",
    "not_inherited",
    "reclaim",
    "require",
    "room",
    "share_bytes",
    "write_at",
]
