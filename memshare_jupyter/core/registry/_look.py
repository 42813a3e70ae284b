"""Looks: how the entries of living sessions are put together to a `Snapshot`."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Container, Iterator
from typing import Final, Literal

from memshare_jupyter.core.ledger import KEPT, PAGE, VIEW, Entry, Reader, Session, Table, handle_in
from memshare_jupyter.core.registry._snapshot import Holder, PageInfo, Snapshot, State
from memshare_jupyter.core.values import unpack_about

Claim = tuple[Session | Reader, Entry]
_MANY: Final = 1000
_ROLES: Final[dict[int, Literal["owner", "view", "kept"]]] = {
    PAGE: "owner",
    VIEW: "view",
    KEPT: "kept",
}


class Looks:
    """Takes snapshots; what did not change since the last one is not put together again."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[Table, str]] = {}
        self._known: dict[bytes, tuple[bytes, PageInfo]] = {}
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
        now = {s.who.token: (s.table, s.who.label) for s in sessions}
        if any(token in now and now[token][0] is not table for token, (table, _) in seen.items()):
            seen = {}  # read anew: what changed before that, no table says any more
        if not seen:
            self._known.clear()
        stale = self._stale(sessions, now, seen)
        unclear = []
        with _without_collecting(len(stale)):
            for uuid in stale:
                page = self._page(sessions, uuid, now)
                if page is None:
                    self._known.pop(uuid, None)
                    self._released.pop(uuid, None)
                    continue
                self._known[uuid] = page
                if page[1].state == "orphaned" and uuid not in self._released:
                    unclear.append(
                        [(session, e) for session in sessions for e in session.table.of(uuid)]
                    )
        if stale:
            pages = (page for _, page in self._known.values())
            by_name = sorted(pages, key=lambda p: (p.namespace, p.variable, p.created))
            self._last = Snapshot(tuple(by_name))
        self._doubted.clear()
        self._seen = now
        return self._last, unclear

    def _stale(
        self,
        sessions: list[Session | Reader],
        now: dict[bytes, tuple[Table, str]],
        seen: dict[bytes, tuple[Table, str]],
    ) -> set[bytes]:
        """Return the pages of which something changed since the last look."""
        others = {token for token in now.keys() | seen.keys() if now.get(token) != seen.get(token)}
        stale = {uuid for uuid, (owner, _) in self._known.items() if owner in others}
        for token in others & seen.keys():
            table = seen[token][0]  # what it let go before it ended was not asked for, maybe
            stale |= table.take_changed()
            stale.update(table.uuids())
        for session in sessions:
            changed = session.table.take_changed()
            stale |= changed
            if session.who.token in others:
                stale.update(session.table.uuids())
        stale.update(uuid for uuid in self._released if uuid not in self._known)
        stale |= self._doubted
        return stale

    def page(self, sessions: list[Session | Reader], uuid: bytes) -> PageInfo | None:
        """Put the entries of one page together; None when nobody has it any more."""
        found = self._page(sessions, uuid, {session.who.token for session in sessions})
        return None if found is None else found[1]

    def _page(
        self, sessions: list[Session | Reader], uuid: bytes, living: Container[bytes]
    ) -> tuple[bytes, PageInfo] | None:
        """Return the owner's token and all about a page; one of its slots is read, and no other."""
        found = [
            (*handle_in(session.table.slots[index]), session, index)
            for session in sessions
            for index in session.table.slots_of(uuid)
        ]
        if len(found) > 1:
            found.sort(key=_by_age)  # the owner first
        entry = next((e for _, _, s, i in found if (e := s.table.entry(i)) is not None), None)
        if entry is None:
            return None
        if entry.owner_token in living:  # out of sight for a while, at most: it may release it yet
            self._released.pop(uuid, None)
        if entry.kind == PAGE:
            state: State = "writable" if entry.writable else "active"
        elif entry.owner_token in living or self._released.get(uuid, False):
            state = "draining"
        else:
            state = "orphaned"
        about = _about(entry.about)
        name, mine = entry.name, sessions[0]
        return entry.owner_token, PageInfo(
            name.namespace,
            name.variable,
            about.kind,
            about.dtype,
            about.shape or (),
            about.order,
            entry.size_bytes,
            about.unshared_bytes,
            entry.writable,
            entry.created,
            entry.owner_pid,
            state,
            tuple([_holder(kind, since, s, s is mine) for kind, since, s, _ in found]),
            uuid.hex(),
        )


_about = functools.lru_cache(maxsize=256)(unpack_about)


def _by_age(handle: tuple[int, float, Session | Reader, int]) -> tuple[int, float]:
    return handle[:2]


def _holder(kind: int, since: float, session: Session | Reader, here: bool) -> Holder:
    who = session.who
    return Holder(
        who.pid, who.label, _ROLES.get(kind, "view"), since, here, who.pid_namespace, who.session
    )


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
