"""What there is at one moment: every page, who holds it, and in what state it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.quantities import in_units

Role = Literal["owner", "view", "kept"]
State = Literal["active", "writable", "draining", "orphaned"]


class Holder(NamedTuple):
    """One process's claim on a page.

    Attributes
    ----------
    pid : int
        The process, as its own pid namespace numbers it.
    label : str
        What the process calls itself, such as ``"kernel"`` or ``"engine 0"``; may be empty.
    role : {"owner", "view", "kept"}
        Whether it registered the page or attached it; ``"kept"`` of an engine that does not use
        it now, and has it mapped for its next call. It lets go when the owner does.
    since : float
        When the claim began, in seconds since 1970.
    here : bool
        Whether it is the process that took the snapshot.
    pid_namespace : int
        Where its pid has its meaning; 0 where there are no such namespaces.
    session : str
        Tells the process from any other, also from one of that pid in another pid namespace.
    """

    pid: int
    label: str
    role: Role
    since: float
    here: bool
    pid_namespace: int = 0
    session: str = ""


class PageInfo(NamedTuple):
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
    unshared_bytes : int
        How many of them are not shared but made anew by every process that attaches the page:
        Python objects, and what an object's class copies when it is rebuilt.
    writable : bool
        Whether viewers may ask for write access.
    created : float
        When it was registered, in seconds since 1970.
    owner_pid : int
        The process that registered it.
    state : {"active", "writable", "draining", "orphaned"}
        ``draining``: released by its owner, still viewed. ``orphaned``: its owner ended, and it
        can still be attached by its name.
    holders : tuple of Holder
        The owner first, then the viewers by age, then those that only keep it.
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
    unshared_bytes: int
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
        """Number of claims on it: the owner's, the views, and those that are kept."""
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
        return sum(page.size_bytes * len({h.session for h in page.holders}) for page in self.pages)

    @property
    def held(self) -> str:
        """What takes the most memory, in words."""
        largest = sorted(self.pages, key=lambda page: -page.size_bytes)[:3]
        names = ", ".join(f"{page.name} {in_units(page.size_bytes)}" for page in largest)
        return f"shared pages hold {in_units(self.shared_bytes)}{f' ({names})' if names else ''}"
