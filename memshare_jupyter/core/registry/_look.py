"""Looks: how the entries of living sessions are put together to a `Snapshot`."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from memshare_jupyter.core.ledger import PAGE, Entry, Reader, Session, Table
from memshare_jupyter.core.registry._snapshot import Holder, PageInfo, Snapshot, State
from memshare_jupyter.core.values import _summary as summaries

Claim = tuple[Session | Reader, Entry]
_MANY: Final = 1000


class Looks:
    """Takes snapshots; what did not change since the last one is not put together again."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[Table, str]] = {}
        self._known: dict[bytes, tuple[bytes, PageInfo]] = {}
        self._released: dict[bytes, bool] = {}
        self._last = Snapshot(())

    def learn(self, uuid: bytes, *, released: bool) -> None:
        """Remember whether a page had been released before its owner ended."""
        self._released[uuid] = released
        self._known.pop(uuid, None)

    def take(self, sessions: list[Session | Reader]) -> tuple[Snapshot, list[list[Claim]]]:
        """Put the entries of living sessions, the first of which is this process's, together.

        Returns
        -------
        snapshot : Snapshot
            With pages whose owner ended as ``orphaned``, unless something else was learnt.
        unclear : list of list of Claim
            The claims on pages of which it is not known whether their owner released them.
        """
        # Until the end nothing counts as seen, so that an interrupt makes the next look a full one.
        seen, self._seen = self._seen, {}
        now = {s.who.token: (s.table, s.who.label) for s in sessions}
        if any(token in now and now[token][0] is not table for token, (table, _) in seen.items()):
            seen = {}  # read anew: what changed before that, no table says any more
        if not seen:
            self._known.clear()
        others = {token for token in now.keys() | seen.keys() if now.get(token) != seen.get(token)}
        stale = {uuid for uuid, (owner, _) in self._known.items() if owner in others}
        for token in others & seen.keys():
            stale.update(seen[token][0].uuids())
        for session in sessions:
            changed = session.table.take_changed()
            stale |= changed
            if session.who.token in others:
                stale.update(session.table.uuids())
        stale.update(uuid for uuid in self._released if uuid not in self._known)
        unclear = []
        with _without_collecting(len(stale)):
            for uuid in stale:
                claims = [(session, e) for session in sessions for e in session.table.of(uuid)]
                if claims:
                    owner = claims[0][1].owner_token
                    info = self._page(claims, sessions[0], owner_lives=owner in now)
                    self._known[uuid] = (owner, info)
                    if info.state == "orphaned" and uuid not in self._released:
                        unclear.append(claims)
                else:
                    self._known.pop(uuid, None)
                    self._released.pop(uuid, None)
        if stale:
            pages = (page for _, page in self._known.values())
            by_name = sorted(pages, key=lambda p: (p.namespace, p.variable, p.created))
            self._last = Snapshot(tuple(by_name))
        self._seen = now
        return self._last, unclear

    def page(self, sessions: list[Session | Reader], uuid: bytes) -> PageInfo | None:
        """Put the entries of one page together; None when nobody has it any more."""
        claims = [(session, e) for session in sessions for e in session.table.of(uuid)]
        if not claims:
            return None
        living = {session.who.token for session in sessions}
        owner_lives = claims[0][1].owner_token in living
        return self._page(claims, sessions[0], owner_lives=owner_lives)

    def _page(self, claims: list[Claim], mine: Session | Reader, *, owner_lives: bool) -> PageInfo:
        if len(claims) > 1:
            claims = sorted(claims, key=lambda claim: (claim[1].kind, claim[1].since))
        entry = claims[0][1]
        if owner_lives:  # it began while an earlier look went on, if that missed it
            self._released.pop(entry.uuid, None)
        if entry.kind == PAGE:
            state: State = "writable" if entry.writable else "active"
        elif owner_lives or self._released.get(entry.uuid, False):
            state = "draining"
        else:
            state = "orphaned"
        about = summaries.unpack(entry.about)
        name = entry.name
        return PageInfo(
            name.namespace,
            name.variable,
            about.kind,
            about.dtype,
            about.shape or (),
            about.order,
            entry.size_bytes,
            entry.writable,
            entry.created,
            entry.owner_pid,
            state,
            tuple(_holders(claims, mine)),
            entry.uuid.hex(),
        )


def _holders(claims: Iterable[Claim], mine: Session | Reader) -> Iterator[Holder]:
    for session, entry in claims:
        who = session.who
        role: Literal["owner", "view"] = "owner" if entry.kind == PAGE else "view"
        yield Holder(who.pid, who.label, role, entry.since, session is mine, who.token.hex())


@contextlib.contextmanager
def _without_collecting(count: int) -> Iterator[None]:
    """Put garbage collection off while very many objects are made that are no garbage."""
    if count < _MANY or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
