"""List everything again, after the session file was removed, or could not be made.

1. look whether somebody has registered one of the names while nobody could see that it was taken:
   such a page is given up, as two pages of one name would be worse;
2. list the rest, and look once more: of two who do so at the same time, one at least sees the
   other, takes its list back, and begins again.

The last descriptor goes into the list, which is worth more than the second look; that is owed then,
and made up for in the first turn that has one.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from memshare_jupyter.core.ledger import NameLocks, Reader, still
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry._claims import Rival, owns, refuse_late_rivals
from memshare_jupyter.core.registry._handles import Handles
from memshare_jupyter.core.registry._tracebacks import alone
from memshare_jupyter.errors import MemshareError


def list_again(handles: Handles) -> tuple[PageName, int] | None:
    """List everything; return a name that another process has locked or lists, too, and its pid."""
    ledger = handles.ledger
    if handles.owes_look and ledger.is_listed():
        try:
            _look_once_more(handles)
        except Rival as rival:
            return rival.found
        return None
    handles.unlisted = None
    ledger.unlist()  # its descriptor may be the only one to be had
    try:
        if (directory := still(ledger.directory)) != ledger.directory:
            _move(handles, directory)
        try:
            if (locked := handles.names.try_lock(handles.pages)) is not None:
                return locked
            for session in ledger.look():
                for name in [n for n in handles.pages if owns(session, n)]:
                    _give_up(handles, name, session)
            ledger.relist()
            if handles.pages:
                _look_once_more(handles)
        finally:
            handles.names.unlock()
    except Rival as rival:
        return rival.found
    except (OSError, MemshareError) as error:
        handles.unlisted = alone(error)  # what needs no list goes on; the next turn tries again
    return None


def _look_once_more(handles: Handles) -> None:
    handles.owes_look = True
    try:
        sessions = handles.sessions()
    except (OSError, MemshareError):
        return
    handles.owes_look = False
    try:
        refuse_late_rivals(sessions, list(handles.pages))
    except Rival:
        handles.ledger.unlist()
        raise


def _move(handles: Handles, directory: Path) -> None:
    """Go on in another runtime directory: what this one lay in is gone, as after a logout."""
    handles.names.close()
    handles.names = NameLocks(directory)
    handles.ledger.move(directory)
    handles.reach = handles.reach.moved(directory)


def _give_up(handles: Handles, name: PageName, session: Reader) -> None:
    try:
        handles.drop_page(name)
    finally:  # also when the arrays on it cannot be listed
        warnings.warn(
            f"{name} is not a page of this process any more: the files in the runtime directory "
            f"were removed, and process {session.who.pid} registered that name meanwhile",
            RuntimeWarning,
            stacklevel=2,
        )
