"""Which hosts reach which, and how fast: what the doctor says of a cluster."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from memshare_jupyter.engines.hosts._bring import finish
from memshare_jupyter.engines.hosts._describe import by_host
from memshare_jupyter.engines.hosts._doors import Way, give
from memshare_jupyter.engines.hosts._grains import Arriving, Stock, fetch
from memshare_jupyter.engines.hosts._lead import Lead
from memshare_jupyter.engines.hosts._linked import linked
from memshare_jupyter.engines.hosts._links import gather
from memshare_jupyter.engines.hosts._proof import is_encrypted, new_token

if TYPE_CHECKING:
    from memshare_jupyter.engines import Engine

_SIZE_BYTES: Final = 16 << 20
_UUID: Final = uuid.UUID("6d656d73-6861-7265-0000-000000000000").bytes
_PATIENCE_S: Final = 3.0
_ANSWER_S: Final = 60.0


class Path(NamedTuple):
    """What comes of a host getting something from another one.

    Attributes
    ----------
    to, source : str
        The hosts; one that takes no part comes from nowhere.
    bytes_per_s : float
        How fast; 0 if it does not.
    why_not : str
        Why it does not.
    """

    to: str
    source: str
    bytes_per_s: float
    why_not: str


def examine(engines: Sequence[Engine]) -> list[Path]:
    """Have each host get 16 MB from each other one, and say how fast that was.

    Nothing if the engines are all on this host.
    """
    groups, silent = by_host(engines)
    if not groups:
        return []
    links, without = linked(groups)
    paths = [Path(g.name, "", 0.0, without[g.identity]) for g in groups if g.identity in without]
    paths += [Path(f"engine {engine.number}", "", 0.0, "it does not answer") for engine in silent]
    for link in links.values():
        if link.why_letters:
            why = f"it gets all by the cluster's messages, which is slower: {link.why_letters}"
            paths.append(Path(link.name, "", 0.0, why))
    token, encrypted = new_token(), is_encrypted()
    ready = gather(links.values(), offer, lambda _: (token,), _PATIENCE_S)
    ways = {link: link.way for link in ready if link.way is not None}
    for link in ways:  # one after the other: they may share a network
        others = [(other.name, way) for other, way in ways.items() if other is not link]
        found = gather([link], probe, lambda _: (others, token, encrypted), _ANSWER_S)  # noqa: B023 -- asked at once
        answer = found.get(link, "it does not answer")
        if isinstance(answer, list):
            paths += [Path(link.name, *each) for each in answer]
        else:
            paths.append(Path(link.name, "", 0.0, str(answer)))
    for link in ready:
        link.tell(finish, token)
    return paths


# What leads are told to do.


def offer(lead: Lead, token: bytes) -> bool:
    """Have something for others to get."""
    stock = lead.stocks[token] = Stock([_UUID])
    stock.add(_UUID, Arriving(_block(), _SIZE_BYTES, whole=True), own=True)
    give(token, stock.serve)
    lead.at_end(token, lambda: finish(lead, token))
    return True


def probe(
    lead: Lead,  # noqa: ARG001 -- as all that leads are told
    others: Sequence[tuple[str, Way]],
    token: bytes,
    encrypted: bool,
) -> list[tuple[str, float, str]]:
    """Get it from each of the others; return how fast that was, or why it was not."""
    found = []
    for name, way in others:
        fd = _block()
        begun = time.monotonic()
        arriving = Arriving(fd, _SIZE_BYTES, whole=False)
        try:
            fetch(arriving, _UUID, [way], token, int, encrypted=encrypted, patience_s=_PATIENCE_S)
            found.append((name, _SIZE_BYTES / (time.monotonic() - begun), ""))
        except ConnectionError as error:
            found.append((name, 0.0, str(error)))
        finally:
            os.close(fd)
    return found


def _block() -> int:
    fd = os.memfd_create("memshare-probe", os.MFD_CLOEXEC)
    os.ftruncate(fd, _SIZE_BYTES)
    return fd
