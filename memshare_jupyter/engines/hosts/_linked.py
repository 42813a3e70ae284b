"""Which links there are: made at the first call on engines of a host, and for all later ones.

When one has ended, the next call makes another, to the first engine of that host that answers.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from memshare_jupyter.engines.hosts._describe import Group
from memshare_jupyter.engines.hosts._links import Link

if TYPE_CHECKING:
    from ipyparallel import Client

_links: Final[weakref.WeakKeyDictionary[Client, dict[str, Link]]] = weakref.WeakKeyDictionary()
_turns: Final[weakref.WeakKeyDictionary[Client, threading.RLock]] = weakref.WeakKeyDictionary()
"""By whose turn it is a client's links are made: calls may begin at the same time."""


def linked(groups: Sequence[Group]) -> tuple[dict[str, Link], dict[str, str]]:
    """Return the links to hosts, which are made if need be, and why others have none."""
    client: Any = groups[0].engines[0].client
    with _turns.setdefault(client, threading.RLock()):
        links = _links.get(client)
        if links is None:
            links = {}
            weakref.finalize(client, _close, links)
            _links[client] = links
        wanted = {group.identity: _link_to(group, links) for group in groups}
        for link in wanted.values():
            link.begin()
    # Not in the turn: it takes long where a host is slow, and others need not wait for that one.
    without = {identity: why for identity, link in wanted.items() if (why := link.open())}
    return {i: link for i, link in wanted.items() if i not in without}, without


def _link_to(group: Group, links: dict[str, Link]) -> Link:
    link = links.get(group.identity)
    if link is None or link.is_over:
        # One that was asked before, and did not come, is asked no more.
        asked = None if link is None else link.engine
        others = [engine for engine in group.engines if engine != asked]
        link = links[group.identity] = Link((others or group.engines)[0], group)
    link.engines.update(engine.number for engine in group.engines)
    return link


def links_now() -> list[Link]:
    """Return the links that there are."""
    # By the references: of the dictionary itself another thread may change the size meanwhile.
    clients = [client for ref in _links.keyrefs() if (client := ref()) is not None]
    every = [link for client in clients for link in list(_links.get(client, {}).values())]
    return [link for link in every if link.way is not None and not link.gone.is_set()]


def _close(links: dict[str, Link]) -> None:
    for link in list(links.values()):
        link.close()


def _after_fork() -> None:
    """Have no links in a forked child, which has none of their threads, and no turn is kept."""
    for ref in _links.keyrefs():
        if (client := ref()) is not None:
            _links[client].clear()
    _links.clear()
    _turns.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
