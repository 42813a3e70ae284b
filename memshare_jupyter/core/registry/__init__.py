"""The registry: what this process holds, and sight of everybody else's.

Imports blocks, values and the ledger, which do not know each other.
"""

from memshare_jupyter.core.registry._endings import when_pages_end
from memshare_jupyter.core.registry._process import close, registry, what_this_is
from memshare_jupyter.core.registry._replicas import Original
from memshare_jupyter.core.registry._snapshot import Holder, PageInfo, Snapshot

__all__ = [
    "Holder",
    "Original",
    "PageInfo",
    "Snapshot",
    "close",
    "registry",
    "what_this_is",
    "when_pages_end",
]
