"""How much of each page a process has in memory: its proportional share of the mapping (PSS)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from memshare_jupyter.core import _proc

_SHARE: Final = re.compile(
    rb"/(?:memfd:memshare:|(?=[0-9a-f]{32}\.page))([0-9a-f]{32})[^\n]*\n"  # the mapping of a block
    rb"(?:[^\n]*\n)*?Pss: *(\d+)"  # the first of its lines that says so
)


def share_bytes(pid: int, pid_namespace: int | None = None) -> dict[str, int]:
    """Return the share of a process by page uuid; empty when it cannot be looked at.

    Of another pid namespace than this process's that is always so: its pid is another process here.

    A byte that *n* processes have in memory counts as 1/n for each of them, so the shares of
    all processes add up to what the page takes. Memory that was written but is not mapped in
    by anybody is in nobody's share. Takes about a millisecond a process.
    """
    shares: dict[str, int] = {}
    if pid_namespace not in {None, _proc.pid_namespace()}:
        return shares
    try:
        # At once: line by line takes twice as long where there are thousands of mappings.
        smaps = Path(f"/proc/{pid}/smaps").read_bytes()
    except OSError:  # it has ended, or is somebody else's
        return shares
    for page, kilobytes in _SHARE.findall(smaps):
        uuid = page.decode()
        shares[uuid] = shares.get(uuid, 0) + (int(kilobytes) << 10)
    return shares
