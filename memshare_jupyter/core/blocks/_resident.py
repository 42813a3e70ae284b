"""How much of each page a process has in memory: its proportional share of the mapping (PSS)."""

from __future__ import annotations

import re
from typing import Final

from memshare_jupyter.core import _proc

_BLOCK: Final = r"/(?:memfd:memshare:|(?=[0-9a-f]{32}\.page))([0-9a-f]{32})"
_MAPPING: Final = re.compile(rf"^[0-9a-f]+-[0-9a-f]+ .*?(?:{_BLOCK}.*)?$")
_SHARE: Final = "Pss:"


def share_bytes(pid: int, pid_namespace: int | None = None) -> dict[str, int]:
    """Return the share of a process by page uuid; empty when it cannot be looked at.

    Of another pid namespace than this process's that is always so: its pid is another process here.

    A byte that *n* processes have in memory counts as 1/n for each of them, so the shares of
    all processes add up to what the page takes. Memory that was written but is not mapped in
    by anybody is in nobody's share. Takes about a millisecond a process.
    """
    shares: dict[str, int] = {}
    page = None
    if pid_namespace not in {None, _proc.pid_namespace()}:
        return shares
    try:
        with open(f"/proc/{pid}/smaps", errors="replace") as smaps:
            for line in smaps:
                if line.startswith(_SHARE):
                    if page is not None:
                        kilobytes = int(line.split()[1])
                        shares[page] = shares.get(page, 0) + (kilobytes << 10)
                elif (mapping := _MAPPING.match(line)) is not None:
                    page = mapping[1]
    except OSError:  # it has ended, or is somebody else's
        return {}
    return shares
