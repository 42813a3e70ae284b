"""Replicas that are loaded from a file of their host, and compared with the original."""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshare_jupyter.core import blocks
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import Original, registry
from memshare_jupyter.core.values import Plan, Reference, references
from memshare_jupyter.engines import engines_of
from memshare_jupyter.engines.hosts._bring import alone_with, refuse_if_writable
from memshare_jupyter.engines.hosts._describe import by_host
from memshare_jupyter.engines.hosts._lead import Lead
from memshare_jupyter.engines.hosts._linked import linked
from memshare_jupyter.engines.hosts._links import Pinned, gather

if TYPE_CHECKING:
    from memshare_jupyter.engines import AnyCluster


def load_on_hosts(
    namespace: str,
    name: str,
    path: str,
    loader: Callable[[str], Any] | None,
    cluster: AnyCluster,
) -> list[str]:
    """Have each host load a file as the page of that name; return where it is another one."""
    from memshare_jupyter.worker import dumps  # noqa: PLC0415 -- brings cloudpickle

    groups, _ = by_host(engines_of(cluster))
    if not groups:
        return []
    links, _ = linked(groups)
    with references() as found:
        pickle.dumps(registry().refer(*PageName(namespace, name))[1])
    (ref,) = found
    original, block = registry().replicas.pin(ref)
    pinned = Pinned(block)
    pinned.use()
    try:
        refuse_if_writable(ref, original)
        size_bytes = original.entry.size_bytes
        end = os.pread(block.fd, original.size_bytes - size_bytes, size_bytes)
        sent = None if loader is None else dumps(loader)
        what = (ref, original, end, checksum_of(block, size_bytes), path, sent)
        answers = gather(links.values(), load, lambda _: what)
        for link, answer in answers.items():
            if answer is True:
                link.stand_for(pinned)
        return [f"{link.name}: {answer}" for link, answer in answers.items() if _differs(answer)]
    finally:
        pinned.leave()


def _differs(answer: Any) -> bool:
    # Where there is no such file, or no room for it, a call will say so if it needs the page there.
    return isinstance(answer, ValueError | TypeError)


def checksum_of(block: blocks.Segment, size_bytes: int) -> int:
    """Return the CRC-32 of the first bytes of a block."""
    return zlib.crc32(blocks.map_block(block, mode="r", size_bytes=size_bytes)) if size_bytes else 0


def load(
    lead: Lead,
    ref: Reference,
    original: Original,
    end: bytes,
    checksum: int,
    path: str,
    loader: bytes | None,
) -> bool:
    """Load a file as a replica; for the caller to ask of leads."""
    with alone_with(ref.uuid):
        if not registry().replicas.keep(ref):
            read = None if loader is None else pickle.loads(loader)  # noqa: S301 -- the caller's
            plan = Plan.file(Path(path)) if read is None else Plan.of(read(path))
            size_bytes = original.entry.size_bytes
            if plan.size_bytes != size_bytes:
                raise ValueError(
                    f"it has {plan.size_bytes:,} bytes of data, and not {size_bytes:,}"
                )
            with registry().replicas.making(original) as (block, filled, publish):
                blocks.fill(block, plan.layout, filled)
                blocks.write_at(block, end, size_bytes)
                if checksum_of(block, size_bytes) != checksum:
                    raise ValueError("its values are others")
                publish()
        lead.keep(ref.uuid)
    return True
