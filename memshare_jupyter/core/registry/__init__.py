"""The registry: what this process holds, and sight of everybody else's.

Imports blocks, values and the ledger, which do not know each other.
"""

from memshare_jupyter.core.registry._endings import when_pages_end
from memshare_jupyter.core.registry._process import close, registry
from memshare_jupyter.core.registry._snapshot import Holder, PageInfo, Snapshot

__all__ = ["Holder", "PageInfo", "Snapshot", "close", "registry", "when_pages_end"]
