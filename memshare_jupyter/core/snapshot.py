"""What there is at one moment: every page, who holds it, and in what state it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from memshare_jupyter.core.ledger import PAGE, Entry, Session
from memshare_jupyter.core.names import PageName

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
    kind : {"array", "list"}
        What it holds.
    dtype : str
        numpy's name of the dtype; empty for lists.
    shape : tuple of int
        Shape of the array; length of the list.
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


def take(
    sessions: Iterable[Session],
    mine: Session,
    released: Callable[[Session, Entry], bool],
    uuid: bytes | None = None,
) -> Snapshot:
    """Put the entries of all sessions together, page by page.

    Parameters
    ----------
    sessions : iterable of Session
        The living sessions.
    mine : Session
        This process's.
    released : callable
        Says whether a page whose owner is dead had been released before.
    uuid : bytes, optional
        Only this page.
    """
    living: set[bytes] = set()
    by_uuid: dict[bytes, list[tuple[Session, Entry]]] = {}
    for session in sessions:
        living.add(session.token)
        table = session.table
        for entry in table.slots.values() if uuid is None else table.of(uuid):
            by_uuid.setdefault(entry.uuid, []).append((session, entry))
    pages = []
    for claims in by_uuid.values():
        claims.sort(key=lambda claim: (claim[1].kind, claim[1].since))
        session, entry = claims[0]
        if entry.kind == PAGE:
            state: State = "writable" if entry.writable else "active"
        elif entry.owner_token in living or released(session, entry):
            state = "draining"
        else:
            state = "orphaned"
        pages.append(_page(claims, mine, state))
    return Snapshot(tuple(sorted(pages, key=lambda p: (p.namespace, p.variable, p.created))))


def _page(claims: list[tuple[Session, Entry]], mine: Session, state: State) -> PageInfo:
    entry = claims[0][1]
    about = summary(entry)
    holders = tuple(
        Holder(s.pid, s.label, "owner" if e.kind == PAGE else "view", e.since, s is mine)
        for s, e in claims
    )
    return PageInfo(
        namespace=entry.name.namespace,
        variable=entry.name.variable,
        kind=str(about.get("kind", "?")),
        dtype=str(about.get("dtype", "")),
        shape=tuple(about.get("shape", ())),
        order=str(about.get("order", "")),
        size_bytes=entry.size_bytes,
        writable=entry.writable,
        created=entry.created,
        owner_pid=entry.owner_pid,
        state=state,
        holders=holders,
        uuid=entry.uuid.hex(),
    )


def pack_summary(about: dict[str, object], limit_bytes: int) -> bytes:
    """Return what lists show of a value as JSON of at most `limit_bytes`.

    The one part that can be long is the dtype of a structured array; it is cut.
    """
    text = json.dumps(about, separators=(",", ":")).encode()
    if len(text) > limit_bytes and "dtype" in about:
        about = {**about, "dtype": f"{str(about['dtype'])[:40]}..."}
        text = json.dumps(about, separators=(",", ":")).encode()
    if len(text) > limit_bytes:
        text = json.dumps({"kind": about["kind"]}).encode()
    return text


def summary(entry: Entry) -> dict[str, Any]:
    """Read what `pack_summary` wrote; empty when it is damaged."""
    try:
        about = json.loads(entry.summary)
    except ValueError:
        return {}
    sound = isinstance(about, dict) and isinstance(about.get("shape", []), list)
    return about if sound else {}
