"""What there is at one moment: every page, who holds it, and in what state it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from memshare_jupyter.core.blocks import in_units
from memshare_jupyter.core.ledger._ledger import Session, Table
from memshare_jupyter.core.ledger._slot import PAGE, Entry
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.values import _summary as summaries

State = Literal["active", "writable", "draining", "orphaned"]


@dataclass(frozen=True, slots=True)
class Holder:
    """One process's claim on a page.

    Attributes
    ----------
    pid : int
        The process, as its own pid namespace numbers it.
    label : str
        What the process calls itself, such as ``"kernel"`` or ``"engine 0"``; may be empty.
    role : {"owner", "view"}
        Whether it registered the page or attached it.
    since : float
        When the claim began, in seconds since 1970.
    here : bool
        Whether it is the process that took the snapshot.
    """

    pid: int
    label: str
    role: Literal["owner", "view"]
    since: float
    here: bool


@dataclass(frozen=True, slots=True)
class PageInfo:
    """One page.

    Attributes
    ----------
    namespace, variable : str
        Its name.
    kind : str
        What it holds: ``"array"``, ``"list"``, ``"tuple"``, ``"dict"``, or the package and class
        of the object, such as ``"pandas.DataFrame"``.
    dtype : str
        numpy's name of the dtype; empty for what has none.
    shape : tuple of int
        Shape of the array, frame or matrix; length of the list, tuple or dict.
    order : {"C", "F", "other", ""}
        Memory layout of the array.
    size_bytes : int
        Bytes of data.
    writable : bool
        Whether viewers may ask for write access.
    created : float
        When it was registered, in seconds since 1970.
    owner_pid : int
        The process that registered it.
    state : {"active", "writable", "draining", "orphaned"}
        ``draining``: released by its owner, still viewed. ``orphaned``: its owner died.
    holders : tuple of Holder
        The owner first, then the viewers by age.
    uuid : str
        Tells it from earlier pages of the same name.
    """

    namespace: str
    variable: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    order: str
    size_bytes: int
    writable: bool
    created: float
    owner_pid: int
    state: State
    holders: tuple[Holder, ...]
    uuid: str

    @property
    def name(self) -> str:
        """The page's name as ``namespace.variable``."""
        return str(PageName(self.namespace, self.variable))

    @property
    def views(self) -> int:
        """Number of processes that have attached it."""
        return sum(holder.role == "view" for holder in self.holders)

    @property
    def handles(self) -> int:
        """Number of claims on it: the owner's and the views."""
        return len(self.holders)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All pages of this user on this host, by namespace and variable."""

    pages: tuple[PageInfo, ...]

    @property
    def shared_bytes(self) -> int:
        """Bytes of data in shared memory: each page counts once."""
        return sum(page.size_bytes for page in self.pages)

    @property
    def copies_bytes(self) -> int:
        """Bytes that the same holders would need with a copy each."""
        return sum(page.size_bytes * len({h.pid for h in page.holders}) for page in self.pages)

    @property
    def held(self) -> str:
        """What takes the most memory, in words."""
        largest = sorted(self.pages, key=lambda page: -page.size_bytes)[:3]
        names = ", ".join(f"{page.name} {in_units(page.size_bytes)}" for page in largest)
        return f"shared pages hold {in_units(self.shared_bytes)}{f' ({names})' if names else ''}"


class Snapshots:
    """Takes snapshots; what did not change since the last one is not put together again.

    Parameters
    ----------
    released : callable
        Says whether a page whose owner is dead had been released before.
    """

    def __init__(self, released: Callable[[Session, Entry], bool]) -> None:
        self._released = released
        self._seen: dict[bytes, tuple[Table, str]] = {}
        self._known: dict[bytes, tuple[bytes, PageInfo]] = {}
        self._last = Snapshot(())

    def take(self, sessions: Iterable[Session], mine: Session) -> Snapshot:
        """Put the entries of living sessions together, page by page.

        Parameters
        ----------
        sessions : iterable of Session
            The living sessions, or those of interest.
        mine : Session
            This process's.
        """
        sessions = list(sessions)
        # Until the end nothing counts as seen, so that an interrupt makes the next look a full one.
        seen, self._seen = self._seen, {}
        if not seen:
            self._known.clear()
        now = {session.token: (session.table, session.label) for session in sessions}
        others = {token for token in now.keys() | seen.keys() if now.get(token) != seen.get(token)}
        stale = {uuid for uuid, (owner, _) in self._known.items() if owner in others}
        for token in others:
            for table, _ in (side[token] for side in (seen, now) if token in side):
                stale.update(table.uuids(), table.changed)
        for table, _ in now.values():
            stale |= table.changed
            table.changed.clear()
        for uuid in stale:
            claims = [(session, entry) for session in sessions for entry in session.table.of(uuid)]
            if claims:
                owner = claims[0][1].owner_token
                self._known[uuid] = (owner, self._page(claims, mine, owner_lives=owner in now))
            else:
                self._known.pop(uuid, None)
        if stale:
            pages = (page for _, page in self._known.values())
            by_name = sorted(pages, key=lambda p: (p.namespace, p.variable, p.created))
            self._last = Snapshot(tuple(by_name))
        self._seen = now
        return self._last

    def page(self, sessions: Iterable[Session], mine: Session, uuid: bytes) -> PageInfo | None:
        """Put the entries of one page together; None when nobody has it any more."""
        living = set()
        claims = []
        for session in sessions:
            living.add(session.token)
            claims += [(session, entry) for entry in session.table.of(uuid)]
        if not claims:
            return None
        return self._page(claims, mine, owner_lives=claims[0][1].owner_token in living)

    def _page(
        self, claims: list[tuple[Session, Entry]], mine: Session, *, owner_lives: bool
    ) -> PageInfo:
        if len(claims) > 1:
            claims = sorted(claims, key=lambda claim: (claim[1].kind, claim[1].since))
        session, entry = claims[0]
        if entry.kind == PAGE:
            state: State = "writable" if entry.writable else "active"
        elif owner_lives or self._released(session, entry):
            state = "draining"
        else:
            state = "orphaned"
        about = summaries.unpack(entry.summary)
        return PageInfo(
            namespace=entry.name.namespace,
            variable=entry.name.variable,
            kind=about.kind,
            dtype=about.dtype,
            shape=about.shape or (),
            order=about.order,
            size_bytes=entry.size_bytes,
            writable=entry.writable,
            created=entry.created,
            owner_pid=entry.owner_pid,
            state=state,
            holders=tuple(
                Holder(s.pid, s.label, "owner" if e.kind == PAGE else "view", e.since, s is mine)
                for s, e in claims
            ),
            uuid=entry.uuid.hex(),
        )
