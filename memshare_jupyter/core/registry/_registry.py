"""Registry: what a process shares, and sight of everybody else's. The one door to shared memory.

The protocols stand where they are followed: to register and release in `_register`, to attach
and detach in `_attach`, and how a claim ends in `_handles`. A crash between any two steps ends the
process's session, and with it all its entries; the kernel takes back the memory that nobody
else has mapped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from memshare_jupyter.core import _proc, blocks
from memshare_jupyter.core.names import PageName, check_namespace, in_order, page_name
from memshare_jupyter.core.registry import _claims as claims
from memshare_jupyter.core.registry import _format
from memshare_jupyter.core.registry._adopt import Adopter
from memshare_jupyter.core.registry._attach import Viewer
from memshare_jupyter.core.registry._fork import begin_in_child
from memshare_jupyter.core.registry._handle import Handle
from memshare_jupyter.core.registry._handles import Handles
from memshare_jupyter.core.registry._keeping import Keeper
from memshare_jupyter.core.registry._listing import list_again
from memshare_jupyter.core.registry._look import Claim, Looks
from memshare_jupyter.core.registry._register import Owner
from memshare_jupyter.core.registry._replicas import Replicas
from memshare_jupyter.core.registry._snapshot import PageInfo, Snapshot
from memshare_jupyter.core.registry._turn import Turn, in_turn, in_turn_or_later
from memshare_jupyter.errors import PageNotFoundError


class Registry:
    """The pages and views of this process, and sight of everybody else's.

    A process has one, see `_process.registry`. All methods may be called from any thread, from
    signal handlers and from finalizers. Those that take a mapping or several names do all or
    nothing.

    Parameters
    ----------
    directory : Path
        The runtime directory.
    rebuild : callable
        Module-level function that a pickled view names; it calls `attach_reference` of the registry
        of the process that unpickles.

    Attributes
    ----------
    ended : bool
        Whether it was closed: the process has another one by now, or needs another.
    """

    def __init__(self, directory: Path, rebuild: Callable[..., Any]) -> None:
        self._handles = Handles(directory, rebuild, list_again)
        self._looks = Looks()
        self.ended = False
        owner, viewer = Owner(self._handles, self.snapshot), Viewer(self._handles)
        self.register, self.register_file = owner.register, owner.register_file
        self.empty, self.adopt_block, self.release = owner.empty, owner.adopt_block, owner.release
        self.attach, self.attach_all, self.refer = viewer.attach, viewer.attach_all, viewer.refer
        self.attach_reference, self.refer_to = viewer.attach_reference, viewer.refer_to
        self.detach = viewer.detach
        self.adopt = Adopter(self._handles, viewer).adopt
        self.replicas = Replicas(self._handles, viewer, self.snapshot)
        keeper = Keeper(self._handles)
        self.keep, self.rest = keeper.keep, keeper.rest

    @property
    def turn(self) -> Turn:
        """What the methods take."""
        return self._handles.turn

    @in_turn
    def pages(self) -> list[str]:
        """Return the pages this process owns, as ``namespace.variable``."""
        refilled = {h.entry.name for h, _ in self._handles.refilling.values()}
        return sorted(map(str, self._handles.pages.keys() | refilled), key=in_order)

    @in_turn
    def views(self) -> list[str]:
        """Return the pages this process has views of, as ``namespace.variable``."""
        used = [h for h in self._handles.views.values() if h.page.in_use]
        return sorted({str(handle.entry.name) for handle in used}, key=in_order)

    @property
    def used_views(self) -> int:
        """How many views this process uses at this moment; takes no turn."""
        return sum(handle.page.in_use for handle in list(self._handles.views.values()))

    @in_turn
    def mapped(self, names: Collection[str]) -> list[range]:
        """Return the addresses at which this process has views of pages mapped."""
        handles = [h for h in self._handles.views.values() if str(h.entry.name) in names]
        pages = [handle.page for handle in handles]
        return [range(p.address, p.address + p.block.size_bytes) for p in pages]

    def snapshot(self) -> Snapshot:
        """Return every page of this user on this host, and who holds it.

        Takes no handle, and needs no file. Dead processes' entries are gone at this look.
        """
        found, unclear = self._take()
        doubtful = []
        while unclear:  # again and again: owners may end meanwhile
            for of_one in unclear:
                entry = of_one[0][1]
                if _may_live(entry.owner_pid):  # asked first: what a dead owner said is final
                    doubtful.append(entry.uuid)
                self._looks.learn(entry.uuid, released=self._was_released(of_one))
            found, unclear = self._take()
        for uuid in doubtful:
            self._looks.doubt(uuid)
        return found

    @in_turn
    def _take(self) -> tuple[Snapshot, list[list[Claim]]]:
        sessions = self._handles.sessions()
        self._handles.sweep(sessions)
        return self._looks.take(sessions)

    def _was_released(self, of_one: list[Claim]) -> bool:
        """Say whether a page whose owner has ended had been released before, or has no value."""
        for session, entry in of_one:
            handle = self._handles.views.get((entry.uuid, "r"))
            if handle is not None and handle.page.mapped:
                return handle.page.state != _format.ACTIVE
            with contextlib.suppress(blocks.SegmentGone, OSError):
                block = blocks.attach(self._handles.address(session, entry), wait=False)
                try:
                    return _format.state_in(block) != _format.ACTIVE
                finally:
                    block.close()
        return True

    def metadata(self, namespace: str, variable: str) -> PageInfo:
        """Return what is known of the page that `attach` would give; takes no handle."""
        name = page_name(namespace, variable)
        page = self._listed(name)
        if page.state not in {"orphaned", "draining"}:
            return page
        # Which of the two stands in the page, and a snapshot opens it to see.
        named = [p for p in self.snapshot().pages if (p.namespace, p.variable) == name]
        there = [p for p in named if p.state != "draining"]
        if not there:
            raise self._not_found(name)
        return max(there, key=lambda p: p.created)

    @in_turn
    def _not_found(self, name: PageName) -> PageNotFoundError:
        return claims.not_found(self._handles.sessions(), name, released=True)

    @in_turn
    def _listed(self, name: PageName) -> PageInfo:
        sessions = self._handles.sessions()
        found = claims.claims_by_name(sessions, name)
        page = self._looks.page(sessions, found[0][1].uuid)
        assert page is not None  # noqa: S101 -- it was found in these sessions
        return page

    @property
    def serving(self) -> bool:
        """Whether other processes can reach this one's blocks over a socket, too."""
        return self._handles.reach.serving

    @property
    def directory(self) -> Path:
        """The runtime directory that this process uses now."""
        return self._handles.ledger.directory

    @property
    def token(self) -> bytes:
        """What tells this process's session from any other."""
        return self._handles.ledger.mine.who.token

    @property
    def session_file(self) -> Path | None:
        """The file in which this process lists its handles; None while it has none."""
        return self._handles.ledger.path

    def address(self, block: blocks.Segment) -> blocks.Address:
        """Return where other processes reach a block of this one that is no page."""
        who = self._handles.ledger.mine.who
        place = block.place or str(self._handles.ledger.directory)
        return blocks.Address(
            block.uuid, who.pid, who.pid_namespace, block.fd, who.token, block.backend, place
        )

    @in_turn
    def be_listed(self) -> bool:
        """Have a session file, for who puts something beside it; say whether there is one."""
        return self._handles.be_listed()

    def label(self, label: str) -> None:
        """Set what lists call this process, such as ``"kernel"`` or ``"engine 0"``."""
        if label != self._handles.ledger.mine.who.label:
            self._relabel(label)

    @in_turn
    def _relabel(self, label: str) -> None:
        self._handles.ledger.relabel(label)

    @in_turn_or_later(lambda: ([], []))
    def gc(self, namespace: str | None = None) -> tuple[list[str], list[str]]:
        """Release all pages and detach all views of this process, or those of one namespace.

        Returns
        -------
        released, in_use : list of str
            Pages whose ownership or view ended; those of them that arrays here still use.
        """
        if namespace is None:
            return self._end(lambda handle: True, released=True)  # noqa: ARG005
        check_namespace(namespace)
        return self._end(lambda handle: handle.entry.name.namespace == namespace, released=True)

    @in_turn
    def let_go(
        self, pages: Collection[PageInfo], *, release: bool, detach: bool
    ) -> tuple[list[str], list[str]]:
        """End this process's ownership or views of pages that a `Snapshot` shows, and of no others.

        A page that was registered anew since then is another one.

        Returns
        -------
        ended, in_use : list of str
            As `gc`.
        """
        meant = {(page.uuid, page.created) for page in pages}
        return self._end(
            lambda handle: (handle.page.uuid.hex(), handle.entry.created) in meant,
            released=True,
            owned=release,
            viewed=detach,
        )

    @in_turn_or_later(lambda: None)
    def close(self) -> None:
        """End all handles, as the process is about to end: what others hold becomes orphaned.

        Arrays stay valid, but are no longer counted. What is called later begins anew.
        """
        handles = self._handles
        self._end(lambda handle: True, released=False)  # noqa: ARG005
        for handle in list(handles.views.values()):
            handle.page.drop()
        handles.views.clear()
        handles.reach.end()
        handles.ledger.end()
        handles.names.remove_if_last()
        self.ended = handles.ended = True

    def _end(
        self,
        meant: Callable[[Handle], bool],
        *,
        released: bool,
        owned: bool = True,
        viewed: bool = True,
    ) -> tuple[list[str], list[str]]:
        handles = self._handles
        names = [name for name, h in handles.pages.items() if owned and meant(h)]
        views = [h for h in handles.views.values() if viewed and meant(h) and h.page.in_use]
        for handle in handles.views.values():
            if viewed and meant(handle):
                handles.endings.append(handle.page.uuid)
        uuids = {handle.page.uuid for handle in (*(handles.pages[name] for name in names), *views)}
        for name in names:
            handles.drop_page(name, released=released)
        for handle, _ in list(handles.refilling.values()):
            if owned and meant(handle):
                handles.ledger.withdraw(handle.slot, handle.entry)
        for handle in views:
            handle.held = False
            handle.page.drop()
        ended = {*names, *(handle.entry.name for handle in views)}
        # All views: arrays on a page that was owned go on as one.
        left = [h for h in handles.views.values() if h.page.in_use and h.page.uuid in uuids]
        going_on = {str(handle.entry.name) for handle in left}
        return sorted(map(str, ended), key=in_order), sorted(going_on, key=in_order)

    def before_fork(self) -> None:
        """Let no thread of ours run while this process forks; its pages are the child's, too."""
        for handle in self._handles.pages.values():
            handle.forked = True
        self._handles.reach.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._handles.reach.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Begin a session of the child's own: what it inherited, it holds as views.

        What other threads of the parent were making or writing is nothing to the child, and
        nobody would ever let it go here.
        """
        begin_in_child(self._handles, whole=self.turn.begin_in_child())


def _may_live(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return _proc.start_time(pid) is not None
    return True
