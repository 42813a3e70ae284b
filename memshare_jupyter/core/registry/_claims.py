"""Which claims a name leads to, and what to say when it leads nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from memshare_jupyter.core.ledger import (
    PAGE,
    VIEW,
    Entry,
    Reader,
    Session,
    hint,
    lists,
    runtime_directory,
)
from memshare_jupyter.core.names import PageName, in_order
from memshare_jupyter.errors import (
    NotOwnerError,
    PageExistsError,
    PageNotFoundError,
    ReadOnlyPageError,
)

Claim = tuple[Session | Reader, Entry]
_SHOWN_NAMES: Final = 8


def claims_by_name(sessions: list[Session | Reader], name: PageName) -> list[Claim]:
    """Return the claims through which the page of that name can be attached, the owner's first.

    A page whose owner has ended can be attached through any of its viewers, the newest of them
    first; that its owner did not release it before stands in the page, which has to be opened.

    Raises
    ------
    PageNotFoundError
        Nobody has such a page; the message says what there is.
    """
    owners: list[Claim] = []
    viewers: list[Claim] = []
    living = set()
    for session in sessions:
        living.add(session.who.token)
        for entry in session.table.named(name):
            (owners if entry.kind == PAGE else viewers).append((session, entry))
    if owners:
        newest = max(owners, key=lambda claim: claim[1].created)[1].uuid
        return [claim for claim in (*owners, *viewers) if claim[1].uuid == newest]
    # What is merely kept ends when that process sees that the owner has.
    used = [claim for claim in viewers if claim[1].kind == VIEW]
    orphans = [claim for claim in used if claim[1].owner_token not in living]
    if not orphans:
        raise not_found(sessions, name, released=bool(viewers))
    return sorted(orphans, key=lambda claim: -claim[1].created)


def claims_by_uuid(sessions: list[Session | Reader], name: PageName, uuid: bytes) -> list[Claim]:
    """Return the claims through which the page with that uuid can be attached.

    Raises
    ------
    PageNotFoundError
        Nobody holds it any more.
    """
    claims = [(session, entry) for session in sessions for entry in session.table.of(uuid)]
    if not claims:
        raise gone(name, uuid)
    return claims


def gone(name: PageName, uuid: bytes) -> PageNotFoundError:
    """Return the error for a reference to a value that nobody holds any more."""
    where = _elsewhere(lambda image: uuid in image)
    return PageNotFoundError(
        f"the page of {name} that was sent here is gone: its last holder released it; "
        "keep the view until it has arrived, or attach the page by name (a pickle of a view in a "
        f"file is a reference, too, and holds no data: store np.save(file, x) or x.copy()){where}",
        name=str(name),
    )


def of_names(sessions: list[Session | Reader], names: list[PageName]) -> list[Session | Reader]:
    """Return this process's session, the first one, and the others that list one of the names."""
    mine, *others = sessions
    return [mine, *(other for other in others if other.table.has_any(names))]


def refuse_rivals(
    sessions: list[Session | Reader],
    names: Iterable[PageName],
    *,
    myself: bool = False,
    act: str = "register",
) -> None:
    """Raise `PageExistsError` when another living process (or `myself`) owns one of `names`.

    The first of the sessions is this process's own. What that lists of the name can be a page that
    it is writing anew, while another process has taken the name.
    """
    mine, *others = sessions
    for name in names:
        owner = _owner(others, name) or (_owner([mine], name) if myself else None)
        if owner is not None:
            who, where = ("this process", "first") if owner is mine else (_who(owner), "there")
            raise PageExistsError(
                f"cannot {act} {name}: {who} owns a page of that name; "
                f"release it {where}, or choose another name",
                name=str(name),
                pid=owner.who.pid,
            )


class Rival(Exception):  # noqa: N818 -- for whoever lists pages, who begins again
    """Another process lists a page of that name, too."""

    def __init__(self, name: PageName, pid: int) -> None:
        super().__init__(name, pid)
        self.found = name, pid


def refuse_late_rivals(sessions: list[Session | Reader], names: list[PageName]) -> None:
    """Raise `Rival` when another living process owns one of the names that were just listed.

    Locks on names keep processes apart, unless a cleaner removes their file, or any code of this
    process opens it and closes it again. But of two that list a name and look afterwards, one at
    least sees the other; it takes back what it has listed, and begins again.
    """
    others = of_names(sessions, names)[1:]
    for name in names:
        for session in others:
            if owns(session, name):
                raise Rival(name, session.who.pid)


def not_mine(sessions: list[Session | Reader], name: PageName) -> PageNotFoundError | NotOwnerError:
    """Return the error for releasing a page that this process does not own."""
    owner = _owner(sessions, name)
    if owner is None:
        return not_found(sessions, name)
    return NotOwnerError(
        f"cannot release {name}: {_who(owner)} owns it; release it there",
        name=str(name),
        pid=owner.who.pid,
    )


def read_only(name: PageName) -> ReadOnlyPageError:
    """Return the error for asking to write to a page that its owner did not share for that."""
    return ReadOnlyPageError(
        f"cannot write to {name}: it was registered for reading; register it with writable=True, "
        "or attach it with mode='c' to write to a private copy",
        name=str(name),
    )


def not_found(
    sessions: list[Session | Reader], name: PageName, *, released: bool = False
) -> PageNotFoundError:
    """Return the error for a name that leads nowhere; it says what there is."""
    there = _names(sessions) - {name}
    here = [n.variable for n in there if n.namespace == name.namespace]
    if released:
        found = "its owner released it, and only views taken before remain"
    elif here:
        found = f"namespace {name.namespace!r} has: {listed(here)}"
    elif there:
        others = listed({n.namespace for n in there})
        found = f"there is no namespace {name.namespace!r} either, but: {others}"
    else:
        found = "nothing is shared"
    where = _elsewhere(lambda image: lists(image, name.__eq__))
    return PageNotFoundError(f"no page {name} ({found}); register it first{where}", name=str(name))


def _names(sessions: list[Session | Reader]) -> set[PageName]:
    """Return the names that lead somewhere: of pages that are owned, or whose owner has ended."""
    living = {session.who.token for session in sessions}
    entries = [entry for session in sessions for entry in session.table.entries()]
    return {e.name for e in entries if e.kind == PAGE or e.owner_token not in living}


def _elsewhere(sought: Callable[[bytes], bool]) -> str:
    said = hint(runtime_directory(), sought)
    return f". But {said}" if said else ""


def listed(names: Iterable[str]) -> str:
    """Return the first names, separated by commas, and how many more there are."""
    names = sorted(names, key=in_order)
    if not names:
        return "none"
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f", and {more} more" if more > 0 else "")


def newest(sessions: list[Session | Reader], name: PageName) -> float:
    """Return when the newest page of that name was registered, as far as it is still listed."""
    entries = (entry for session in sessions for entry in session.table.named(name))
    return max((entry.created for entry in entries), default=0.0)


def owns(session: Session | Reader, name: PageName) -> bool:
    """Say whether a process owns a page of that name."""
    return any(entry.kind == PAGE for entry in session.table.named(name))


def _owner(sessions: list[Session | Reader], name: PageName) -> Session | Reader | None:
    for session in sessions:
        if owns(session, name):
            return session
    return None


def _who(session: Session | Reader) -> str:
    who = session.who
    return f"process {who.pid}" + (f" ({who.label})" if who.label else "")
