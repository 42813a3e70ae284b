"""Opening a page of another process: through which holder, and how long to wait for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from memshare_jupyter.core import _proc, blocks
from memshare_jupyter.core.ledger import PAGE, Entry, Reader, Session
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import _claims as claims
from memshare_jupyter.core.registry import _format
from memshare_jupyter.core.registry._turn import PATIENCE_S
from memshare_jupyter.errors import LockTimeoutError

_PATIENCE_S: Final = 0.1
"""How long a page may be listed and not there: its holders let go between a look and a grasp."""
_FOREIGN_PATIENCE_S: Final = 1.0
"""The same, if its holder has to see first that somebody of another namespace has come."""


class Wanted(NamedTuple):
    """A page by its name, or by its uuid and then whether it was released or not."""

    name: PageName
    uuid: bytes | None = None

    def seen(self, sessions: Iterable[Session | Reader]) -> claims.Claim | None:
        """Return its owner's claim, or of a uuid any, as far as it was seen before."""
        for session in sessions:
            if self.uuid is not None:
                for entry in session.table.of(self.uuid):
                    return session, entry
            else:
                for entry in session.table.named(self.name):
                    if entry.kind == PAGE:
                        return session, entry
        return None

    def find(self, sessions: list[Session | Reader]) -> list[claims.Claim]:
        """Return the claims through which it can be attached; raise if there is none."""
        if self.uuid is None:
            return claims.claims_by_name(sessions, self.name)
        return claims.claims_by_uuid(sessions, self.name, self.uuid)

    def admits(self, state: int) -> bool:
        """Say whether a page in that state is meant: a name leads to none that was released."""
        return state == _format.ACTIVE or (state == _format.RELEASED and self.uuid is not None)


class Way(NamedTuple):
    """A holder through which a page may be opened, and whether its owner is in sight."""

    address: blocks.Address
    entry: Entry
    owned: bool


class Opening(NamedTuple):
    """What came of opening a page: its block, or why there is none.

    `busy`: its owner is writing another value into it. `gone`: what the last holder's system said;
    None when there was one after another that its owner had released.
    """

    block: blocks.Segment | None
    entry: Entry
    busy: bool = False
    gone: str | None = None
    patience_s: float = _PATIENCE_S


def open_page(found: list[Way], mode: blocks.Mode, wanted: Wanted) -> Opening:
    """Open a page through the first holder that lets us (step 2).

    Raises
    ------
    ReadOnlyPageError
        There is one, and it may not be written to as `mode` asks.
    """
    patience_s = _PATIENCE_S
    gone = None  # a text: the error itself would keep all frames up to the user's
    for address, entry, owned in found:
        if address.pid_namespace != _proc.pid_namespace():
            patience_s = _FOREIGN_PATIENCE_S
        try:
            block = blocks.attach(address, writable=mode == "r+" and entry.writable)
        except blocks.BlockBusy as error:
            if owned:
                return Opening(None, entry, busy=True)
            gone = str(error)  # its owner died over it, and a forked child inherited the lock
            continue
        except blocks.SegmentGone as error:
            gone = str(error)
            continue
        admitted = wanted.admits(_format.state_in(block))
        if admitted and (mode != "r+" or entry.writable):
            return Opening(block, entry)
        block.close()
        if admitted:
            raise claims.read_only(wanted.name)
    return Opening(None, found[0].entry, gone=gone, patience_s=patience_s)


def refuse_stopped(name: PageName, entry: Entry, waited_s: float) -> None:
    """Raise when the owner of a page that is being written stands still for too long."""
    if waited_s > PATIENCE_S and _proc.is_stopped(entry.owner_pid):
        raise LockTimeoutError(
            f"cannot attach {name}: its owner, process {entry.owner_pid}, was stopped while it "
            "writes another value into it; resume or end that process",
            name=str(name),
            pid=entry.owner_pid,
        )
