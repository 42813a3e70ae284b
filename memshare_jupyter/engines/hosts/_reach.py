"""Beside calls: pages to be attached by name on engines of other hosts, and a look at all hosts."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import references
from memshare_jupyter.engines.hosts._bring import bring
from memshare_jupyter.engines.hosts._describe import by_host
from memshare_jupyter.engines.hosts._linked import linked
from memshare_jupyter.engines.hosts._links import gather
from memshare_jupyter.engines.hosts._seen import Told, tell

if TYPE_CHECKING:
    from memshare_jupyter.engines import Engine

_LOOK_S = 5.0


class Host(NamedTuple):
    """What is on a host, or why that is not known.

    Attributes
    ----------
    name : str
        What people call it.
    engines : list of int
        Its engines.
    why_not : str
        Why it takes no part in calls; empty if it does.
    pages, size_bytes : int
        How many pages can be attached there, replicas included, and their bytes of data.
    free_bytes : int
        How much memory is free.
    """

    name: str
    engines: list[int]
    why_not: str
    pages: int = 0
    size_bytes: int = 0
    free_bytes: int = 0


def reach(pages: Iterable[PageName], engines: Sequence[Engine]) -> list[str]:
    """See to it that pages can be attached by name wherever the engines are.

    Returns
    -------
    list of str
        On which hosts they cannot, and why.
    """
    groups, silent = by_host(engines)
    wrong = [f"engine {engine.number} does not answer" for engine in silent]
    if not groups:
        return wrong
    links, without = linked(groups)
    wrong += [f"{g.name}: {without[g.identity]}" for g in groups if g.identity in without]
    with references() as wanted:
        for page in pages:
            pickle.dumps(registry().refer(*page)[1])
    failed = bring(wanted, list(links.values()))
    return wrong + [f"{link.name}: {why}" for link, why in failed.items()]


def look(engines: Sequence[Engine]) -> list[Host]:
    """Return what is on the hosts of engines; nothing if these are all on this one."""
    groups, silent = by_host(engines)
    if not groups:
        return []
    links, without = linked(groups)
    found = gather(links.values(), tell, lambda _: (), _LOOK_S)
    hosts = []
    for group in groups:
        numbers = [engine.number for engine in group.engines]
        link = links.get(group.identity)
        answer = None if link is None else found.get(link)
        if isinstance(answer, Told):
            what = (answer.pages, answer.size_bytes, answer.free_bytes)
            hosts.append(Host(group.name, numbers, "", *what))
        else:
            why = without.get(group.identity) or str(answer or "it does not answer")
            hosts.append(Host(group.name, numbers, why))
    if silent:
        numbers = [engine.number for engine in silent]
        hosts.append(Host("?", numbers, "they do not say where they are"))
    return hosts
