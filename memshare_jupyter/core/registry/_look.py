"""Looks: how the entries of living sessions are put together to a `Snapshot`."""

from __future__ import annotations

import functools
from collections.abc import Container
from operator import itemgetter
from typing import Final, get_args

from memshare_jupyter.core.ledger import (
    KEPT,
    PAGE,
    Entry,
    Reader,
    Session,
    Table,
    TornSlot,
    handle_in,
    unpack,
)
from memshare_jupyter.core.names import in_order
from memshare_jupyter.core.registry._snapshot import Holder, PageInfo, Role, Snapshot, State
from memshare_jupyter.core.values import unpack_about

Claim = tuple[Session | Reader, Entry]
_Lists = dict[Table, tuple[bytes, str]]
"""What living processes list, and their tokens and labels."""


class Looks:
    """Takes snapshots; what did not change since the last one is not put together again."""

    def __init__(self) -> None:
        self._seen: _Lists = {}
        self._known: dict[bytes, _Known] = {}
        self._released: dict[bytes, bool] = {}
        self._doubted: set[bytes] = set()
        self._last = Snapshot(())

    def learn(self, uuid: bytes, *, released: bool) -> None:
        """Remember whether a page had been released before its owner ended."""
        self._released[uuid] = released
        self._known.pop(uuid, None)

    def doubt(self, uuid: bytes) -> None:
        """Ask again at the next look: the owner may live, out of sight."""
        self._released.pop(uuid, None)
        self._doubted.add(uuid)

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
        # By table: a process whose list was removed can be seen with the old one and a new one.
        now = {s.table: (s.who.token, s.who.label) for s in sessions}
        living = {token for token, _ in now.values()}
        if not seen:
            self._known.clear()
        stale = self._stale(now, seen)
        unclear = []
        for uuid, found in _found(sessions, stale).items():
            page = self._page(found, living)
            if page is None:
                self._known.pop(uuid, None)
                self._released.pop(uuid, None)
                continue
            self._known[uuid] = page
            if page[2].state == "orphaned" and uuid not in self._released:
                unclear.append(
                    [(session, e) for session in sessions for e in session.table.of(uuid)]
                )
        if stale or not seen:
            known = sorted(self._known.values(), key=itemgetter(0))
            self._last = Snapshot(tuple([page for *_, page in known]))
        self._doubted.clear()
        self._seen = now
        return self._last, unclear

    def _stale(self, now: _Lists, seen: _Lists) -> set[bytes]:
        """Return the pages of which something changed since the last look."""
        others = {table for table in now.keys() | seen.keys() if now.get(table) != seen.get(table)}
        tokens = {lists[table][0] for table in others for lists in (now, seen) if table in lists}
        known = self._known.items() if tokens else ()
        stale = {uuid for uuid, (_, owner, _) in known if owner in tokens}
        for table in now.keys() | others:  # of lists that have gone: what they let go before
            stale |= table.take_changed()
        for table in others:
            stale.update(table.uuids())
        stale.update(uuid for uuid in self._released if uuid not in self._known)
        stale |= self._doubted
        return stale

    def page(self, sessions: list[Session | Reader], uuid: bytes) -> PageInfo | None:
        """Put the entries of one page together; None when nobody has it any more."""
        (found,) = _found(sessions, {uuid}).values()
        page = self._page(found, {session.who.token for session in sessions})
        return None if page is None else page[2]

    def _page(self, found: _Found, living: Container[bytes]) -> _Known | None:
        """Return where a page stands in lists, its owner's token, and all about it.

        This runs for each of thousands of pages at a first look, and is written for that: one of
        the page's slots is read and no other, and to call a named tuple's class would take twice as
        long as to make it.
        """
        holders, slots = found
        for slot in slots:
            try:
                entry = unpack(slot)
                break
            except TornSlot:
                continue
        else:
            return None
        kind, name, uuid, _, size_bytes, writable, created, _, owner_pid, token, packed, *_ = entry
        if token in living:  # out of sight for a while, at most: it may release it yet
            self._released.pop(uuid, None)
        if kind == PAGE:
            state: State = "writable" if writable else "active"
        elif token in living or self._released.get(uuid, False):
            state = "draining"
        else:
            state = "orphaned"
        if len(holders) > 1 + (kind == PAGE):  # the owner is the first one already
            holders.sort(key=_by_age)
        about = _about(packed)
        all_about = (
            *name,
            about.kind,
            about.dtype,
            about.shape or (),
            about.order,
            size_bytes,
            about.unshared_bytes,
            writable,
            created,
            owner_pid,
            state,
            tuple(holders),
            uuid.hex(),
        )
        namespace, variable = name
        names = f"{in_order(namespace)}\0{namespace}\0{in_order(variable)}\0{variable}"
        return (names, created), token, _make(PageInfo, all_about)


_Known = tuple[tuple[str, float], bytes, PageInfo]
"""Where a page stands in lists, its owner's token, and all about it."""
_Found = tuple[list[Holder], list[bytes]]
"""The holders of a page, and the slots that say so, the owner's first."""
_make = tuple.__new__


def _found(sessions: list[Session | Reader], uuids: set[bytes]) -> dict[bytes, _Found]:
    """Find who holds pages. The first of the sessions is this process's."""
    found: dict[bytes, _Found] = {}
    for session in sessions:
        pid, space, *_, label = who = session.who
        here, token, table = session is sessions[0], who.session, session.table
        for uuid, slot in table.slots_of(uuids):
            if uuid not in found:
                found[uuid] = ([], [])
            holders, slots = found[uuid]
            kind, since = handle_in(slot)
            if kind == PAGE:
                holders.insert(0, _make(Holder, (pid, label, "owner", since, here, space, token)))
                slots.insert(0, slot)
                continue
            role: Role = "kept" if kind == KEPT else "view"
            holders.append(_make(Holder, (pid, label, role, since, here, space, token)))
            slots.append(slot)
    return found | {uuid: ([], []) for uuid in uuids - found.keys()}


_about = functools.lru_cache(maxsize=256)(unpack_about)
_ROLES: Final[tuple[Role, ...]] = get_args(Role)


def _by_age(holder: Holder) -> tuple[int, float]:
    return _ROLES.index(holder.role), holder.since
