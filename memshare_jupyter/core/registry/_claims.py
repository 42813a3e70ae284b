"""Which claims a name leads to, and what to say when it leads nowhere."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from memshare_jupyter.core.ledger._ledger import Ledger, Session
from memshare_jupyter.core.ledger._runtime import hint
from memshare_jupyter.core.ledger._session import HEADER_BYTES, SLOT_BYTES
from memshare_jupyter.core.ledger._slot import PAGE, Entry, TornSlot, unpack
from memshare_jupyter.core.names import PageName
from memshare_jupyter.errors import (
    NotOwnerError,
    PageExistsError,
    PageNotFoundError,
    ReadOnlyPageError,
)

Claim = tuple[Session, Entry]
_SHOWN_NAMES: Final = 8


def claims_by_name(
    ledger: Ledger, name: PageName, released: Callable[[Session, Entry], bool]
) -> list[Claim]:
    """Return the claims through which the page of that name can be attached, the owner's first.

    A page whose owner died can be attached through any of its viewers; one that its owner
    released cannot.

    Parameters
    ----------
    ledger : Ledger
        Where to look.
    name : PageName
        What to look for.
    released : callable
        Says whether a page whose owner is dead had been released before.

    Raises
    ------
    PageNotFoundError
        Nobody has such a page; the message says what there is.
    """
    owners: list[Claim] = []
    viewers: list[Claim] = []
    living = set()
    for session in ledger.sessions():
        living.add(session.token)
        for entry in session.table.named(name):
            (owners if entry.kind == PAGE else viewers).append((session, entry))
    if not owners:
        owners = [c for c in viewers if c[1].owner_token not in living and not released(*c)]
    if not owners:
        raise not_found(ledger, name, released=bool(viewers))
    newest = max(owners, key=lambda claim: claim[1].created)[1].uuid
    return [claim for claim in (*owners, *viewers) if claim[1].uuid == newest]


def claims_by_uuid(ledger: Ledger, name: PageName, uuid: bytes) -> list[Claim]:
    """Return the claims through which the page with that uuid can be attached.

    Raises
    ------
    PageNotFoundError
        Nobody holds it any more.
    """
    claims = [(s, entry) for s in ledger.sessions() for entry in s.table.of(uuid)]
    if not claims:
        raise gone(ledger, name, uuid)
    return claims


def gone(ledger: Ledger, name: PageName, uuid: bytes) -> PageNotFoundError:
    """Return the error for a reference to a value that nobody holds any more."""
    where = _elsewhere(ledger, lambda image: uuid in image)
    return PageNotFoundError(
        f"the page of {name} that was sent here is gone: its last holder released it; keep the "
        f"view until it has arrived, or attach the page by name{where}",
        name=str(name),
    )


def refuse_rivals(ledger: Ledger, names: Iterable[PageName], *, myself: bool = False) -> None:
    """Raise `PageExistsError` when another living process (or `myself`) owns one of `names`."""
    for name in names:
        owner = _owner(ledger, name)
        if owner is not None and (myself or owner is not ledger.mine):
            who = "this process" if owner is ledger.mine else _who(owner)
            raise PageExistsError(
                f"cannot register {name}: {who} owns a page of that name; "
                "release it there, or choose another name",
                name=str(name),
                pid=owner.pid,
            )


def not_mine(ledger: Ledger, name: PageName) -> PageNotFoundError | NotOwnerError:
    """Return the error for releasing a page that this process does not own."""
    owner = _owner(ledger, name)
    if owner is None:
        return not_found(ledger, name)
    return NotOwnerError(
        f"cannot release {name}: {_who(owner)} owns it; release it there",
        name=str(name),
        pid=owner.pid,
    )


def read_only(name: PageName) -> ReadOnlyPageError:
    """Return the error for asking to write to a page that its owner did not share for that."""
    return ReadOnlyPageError(
        f"cannot write to {name}: it was registered for reading; register it with writable=True, "
        "or attach it with mode='c' to write to a private copy",
        name=str(name),
    )


def not_found(ledger: Ledger, name: PageName, *, released: bool = False) -> PageNotFoundError:
    """Return the error for a name that leads nowhere; it says what there is."""
    owned = {
        entry.name
        for session in ledger.sessions()
        for entry in session.table.slots.values()
        if entry.kind == PAGE
    }
    here = sorted(n.variable for n in owned if n.namespace == name.namespace)
    if released:
        found = "its owner released it, and only views taken before remain"
    elif here:
        found = f"namespace {name.namespace!r} has: {listed(here)}"
    else:
        others = listed(sorted({n.namespace for n in owned}))
        found = f"there is no namespace {name.namespace!r} either, but: {others}"
    where = _elsewhere(ledger, lambda image: name in _named_in(image))
    return PageNotFoundError(f"no page {name} ({found}); register it first{where}", name=str(name))


def _elsewhere(ledger: Ledger, sought: Callable[[bytes], bool]) -> str:
    said = hint(ledger.file.directory, sought)
    return f". But {said}" if said else ""


def _named_in(image: bytes) -> Iterator[PageName]:
    """Yield the names that a session file lists."""
    for at in range(HEADER_BYTES, len(image), SLOT_BYTES):
        with contextlib.suppress(TornSlot, struct.error):
            if (entry := unpack(image[at : at + SLOT_BYTES])) is not None:
                yield entry.name


def listed(names: list[str]) -> str:
    """Return the first names, separated by commas, and how many more there are."""
    if not names:
        return "none"
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f", and {more} more" if more > 0 else "")


def _owner(ledger: Ledger, name: PageName) -> Session | None:
    for session in ledger.sessions():
        if any(entry.kind == PAGE for entry in session.table.named(name)):
            return session
    return None


def _who(session: Session) -> str:
    return f"process {session.pid}" + (f" ({session.label})" if session.label else "")
