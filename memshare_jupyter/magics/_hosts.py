"""The hosts of the engines in use, as ``%memshare list --hosts`` and ``doctor`` show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memshare_jupyter.core.quantities import in_units
from memshare_jupyter.display import Table

if TYPE_CHECKING:
    from memshare_jupyter.engines.hosts import Host, Path


def hosts_table(hosts: Sequence[Host]) -> Table:
    """Return a row for each host."""
    if not hosts:
        return Table([], "all engines are on this host, or there are none yet")
    rows = [
        {
            "host": host.name,
            "engines": ", ".join(map(str, host.engines)),
            "pages": "" if host.why_not else str(host.pages),
            "size": "" if host.why_not else in_units(host.size_bytes),
            "free": "" if host.why_not else in_units(host.free_bytes),
        }
        for host in hosts
    ]
    out = [f"{host.name} takes no part in calls: {host.why_not}" for host in hosts if host.why_not]
    return Table(rows, "\n".join(out))


def paths_text(paths: Sequence[Path]) -> str:
    """Return a line for each way from host to host; empty if there are none."""
    if not paths:
        return ""
    lines = ["between the hosts of the engines:"]
    for path in paths:
        way = f"{path.to} from {path.source}" if path.source else path.to
        lines.append(f"  {way}: {path.why_not or f'{in_units(path.bytes_per_s)}/s'}")
    return "\n".join(lines)
