"""Registry: what a process shares, and sight of everybody else's. The one door to shared memory.

The protocols stand where they are followed: to register and release in `owning`, to attach and
detach in `viewing`, and how a claim ends in `holdings`. A crash between any two steps ends the
process's session, and with it all its entries; the kernel takes back the memory that nobody
else has mapped.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from memshare_jupyter.core.blocks import _block as segment
from memshare_jupyter.core.ledger._ledger import Ledger
from memshare_jupyter.core.ledger._session import SessionFile
from memshare_jupyter.core.names import check_namespace, page_name
from memshare_jupyter.core.registry import _claims as lookup
from memshare_jupyter.core.registry import _snapshot as snapshots
from memshare_jupyter.core.registry._attach import Viewer
from memshare_jupyter.core.registry._handles import exclusive
from memshare_jupyter.core.registry._register import Owner


class Registry(Owner, Viewer):
    """The pages and views of this process, and sight of everybody else's.

    A process has one, see `process.registry`. All methods may be called from any thread. Those
    that take a mapping or several names do all or nothing.

    Parameters
    ----------
    rebuild : callable
        Module-level function that a pickled view names; it calls `attach_reference` of the registry
        of the process that unpickles.
    """

    @exclusive
    def pages(self) -> list[str]:
        """Return the pages this process owns, as ``namespace.variable``."""
        return sorted(map(str, self._pages))

    @exclusive
    def views(self) -> list[str]:
        """Return the pages this process has views of, as ``namespace.variable``."""
        return sorted({str(handle.entry.name) for handle in self._views.values()})

    @exclusive
    def metadata(self, namespace: str, variable: str) -> snapshots.PageInfo:
        """Return what is known of the page that `attach` would give; takes no handle."""
        name = page_name(namespace, variable)
        claims = lookup.claims_by_name(self._ledger, name, self._was_released)
        sessions, mine = self._ledger.sessions(), self._ledger.mine
        page = self._snapshots.page(sessions, mine, claims[0][1].uuid)
        if page is None:  # its last holder ended between the two looks
            raise lookup.not_found(self._ledger, name)
        return page

    @property
    def serving(self) -> bool:
        """Whether other processes can reach this one's blocks over a socket, too."""
        return self._ledger.reach.serving

    @property
    def session_file(self) -> Path:
        """The file in which this process lists its handles."""
        return self._ledger.file.path

    def address(self, block: segment.Segment) -> segment.Address:
        """Return where other processes reach a block of this one that is no page."""
        mine = self._ledger.mine
        who = (mine.pid, mine.pid_namespace, block.fd, mine.token)
        return segment.Address(block.uuid, *who, block.backend, block.place)

    @exclusive
    def label(self, label: str) -> None:
        """Set what lists call this process, such as ``"kernel"`` or ``"engine 0"``."""
        self._ledger.file.relabel(label)

    @exclusive
    def gc(self, namespace: str | None = None) -> tuple[list[str], list[str]]:
        """Release all pages and detach all views of this process, or those of one namespace.

        Returns
        -------
        released, in_use : list of str
            Pages whose ownership or view ended; those of them that arrays here still use.
        """
        if namespace is not None:
            check_namespace(namespace)
        owned = [n for n in self._pages if namespace in (None, n.namespace)]
        views = [h for h in self._views.values() if namespace in (None, h.entry.name.namespace)]
        for name in owned:
            self._drop_page(name)
        for handle in views:
            handle.kept = False
            handle.page.drop()
        ended = {*owned, *(handle.entry.name for handle in views)}
        # All views: arrays on a page that was owned go on as one.
        left = {h.entry.name for h in self._views.values() if h.page.mapped}
        self._withdraw_unmapped()  # a look needs descriptors, and there may be none before this
        self._sweep(self._ledger.sessions())
        return sorted(map(str, ended)), sorted(map(str, ended & left))

    def close(self) -> None:
        """End all handles and the session, as the process is about to end.

        Arrays stay valid, but are no longer counted.
        """
        self.gc()
        self._end()

    @exclusive
    def _end(self) -> None:
        self._closed = True
        self._ledger.look()  # which removes the files of the dead
        self._ledger.close()
        self._ledger.file.end()
        self._names.remove_if_last()

    def before_fork(self) -> None:
        """Let no change be half done in the child's copy of this registry."""
        self._lock.acquire()
        self._ledger.reach.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._ledger.reach.after_fork_in_parent()
        self._lock.release()
        self._settle()

    def after_fork_in_child(self) -> None:
        """Begin a session of the child's own: what it inherited, it holds as views."""
        self._lock = threading.Lock()
        parent, foreign = self._ledger.file, self._ledger.reach.foreign
        self._ledger.abandon()
        parent.abandon()
        self._names.close()
        self._ledger = Ledger(
            SessionFile(parent.directory, f"fork of {parent.pid}"), foreign=foreign
        )
        owned, self._pages = self._pages, {}
        views, self._views = self._views, {}
        with self._lock:
            for handle in views.values():
                if handle.page.mapped:
                    self._publish_view(handle.page, handle.entry).kept = handle.kept
            for handle in owned.values():
                if (handle.page.uuid, "r") not in self._views:
                    # The inherited mapping can be written through; the child's view must not.
                    # Without a descriptor left for it, the child goes without this page.
                    with contextlib.suppress(OSError, segment.SegmentGone):
                        self._attach(self._ledger.mine, handle.entry).kept = True
                if handle.kept:  # the child has the arrays on it, too: it counts until they end
                    handle.page.mode = "lent"
                    self._publish_view(handle.page, handle.entry)
                handle.page.drop()
                self._withdraw_unmapped()  # now, so that the next one can have its descriptors
