"""The ledger: which process says that it holds what. Imports errors and names."""

from memshare_jupyter.core.ledger._host import host_identity
from memshare_jupyter.core.ledger._ledger import Ledger, Session
from memshare_jupyter.core.ledger._names import NameLocks
from memshare_jupyter.core.ledger._reader import Reader, lists, sessions_in
from memshare_jupyter.core.ledger._runtime import (
    LOGIN_VARIABLE,
    elsewhere,
    hint,
    is_of_login,
    make_directory,
    raise_if_unusable,
    runtime_directory,
    still,
    why_not_used,
)
from memshare_jupyter.core.ledger._runtime import VARIABLE as RUNTIME_VARIABLE
from memshare_jupyter.core.ledger._session import Who
from memshare_jupyter.core.ledger._slot import (
    KEPT,
    PAGE,
    SLOT_BYTES,
    VIEW,
    Entry,
    TornSlot,
    about_room,
    as_view,
    handle_in,
    unpack,
)
from memshare_jupyter.core.ledger._table import Table

__all__ = [
    "KEPT",
    "LOGIN_VARIABLE",
    "PAGE",
    "RUNTIME_VARIABLE",
    "SLOT_BYTES",
    "VIEW",
    "Entry",
    "Ledger",
    "NameLocks",
    "Reader",
    "Session",
    "Table",
    "TornSlot",
    "Who",
    "about_room",
    "as_view",
    "elsewhere",
    "handle_in",
    "hint",
    "host_identity",
    "is_of_login",
    "lists",
    "make_directory",
    "raise_if_unusable",
    "runtime_directory",
    "sessions_in",
    "still",
    "unpack",
    "why_not_used",
]
