"""Blocks: memory, and how another process reaches it. Imports errors and nothing else of ours."""

from memshare_jupyter.core._locks import is_locked
from memshare_jupyter.core.blocks._ability import why_no_memfds
from memshare_jupyter.core.blocks._block import (
    Address,
    Backend,
    Mode,
    Segment,
    anonymous,
    attach,
    attach_at_once,
    choose,
    create,
    map_block,
    reclaim,
)
from memshare_jupyter.core.blocks._filling import copy_into, fill, hide, populate, show, write_at
from memshare_jupyter.core.blocks._filling import setting as huge_pages
from memshare_jupyter.core.blocks._forked import close_strays, unmap
from memshare_jupyter.core.blocks._gone import BlockBusy, SegmentGone
from memshare_jupyter.core.blocks._handover import short_name, user_of
from memshare_jupyter.core.blocks._memfd import close_all
from memshare_jupyter.core.blocks._notice import Notice, notices
from memshare_jupyter.core.blocks._places import VARIABLE as DIRECTORY_VARIABLE
from memshare_jupyter.core.blocks._places import Places, page_directory
from memshare_jupyter.core.blocks._reach import VARIABLE as SOCKET_VARIABLE
from memshare_jupyter.core.blocks._reach import Reach, line_path, remove_leftovers, socket_path
from memshare_jupyter.core.blocks._reserve import require, reserved
from memshare_jupyter.core.blocks._resident import share_bytes
from memshare_jupyter.core.blocks._room import directory as room_in
from memshare_jupyter.core.blocks._room import explain, machine, room

__all__ = [
    "DIRECTORY_VARIABLE",
    "SOCKET_VARIABLE",
    "Address",
    "Backend",
    "BlockBusy",
    "Mode",
    "Notice",
    "Places",
    "Reach",
    "Segment",
    "SegmentGone",
    "anonymous",
    "attach",
    "attach_at_once",
    "choose",
    "close_all",
    "close_strays",
    "copy_into",
    "create",
    "explain",
    "fill",
    "hide",
    "huge_pages",
    "is_locked",
    "line_path",
    "machine",
    "map_block",
    "notices",
    "page_directory",
    "populate",
    "reclaim",
    "remove_leftovers",
    "require",
    "reserved",
    "room",
    "room_in",
    "share_bytes",
    "short_name",
    "show",
    "socket_path",
    "unmap",
    "user_of",
    "why_no_memfds",
    "write_at",
]
