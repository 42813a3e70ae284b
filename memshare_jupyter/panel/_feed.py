"""What the panel says to its page: everything once, then only what changed.

A message is a dict with a ``type``. ``all`` carries every page; ``diff`` the pages that are new or
changed and the uuids of those that are gone; ``beat`` says that nothing changed, and that somebody
is still there to say it. Each carries the kernel's clock, because ages are shown and the page's
clock may be another machine's.
"""

from __future__ import annotations

import builtins
import keyword
import os
import socket
import time
from collections import deque
from typing import Any, Final, TypeAlias

from memshare_jupyter.apply import Run, current_runs, last_run
from memshare_jupyter.core import blocks
from memshare_jupyter.core.blocks import share_bytes
from memshare_jupyter.core.registry import PageInfo, Snapshot, registry
from memshare_jupyter.engines.hosts import Seen, seen

Message: TypeAlias = dict[str, Any]

BEAT_S: Final = 2.0
"""Without a change, a message comes this often."""
_HISTORY_POINTS: Final = 600
_NAMED: Final = 50
"""So many replicas of a host are told by name."""
_HISTORY_S: Final = 600.0


class Feed:
    """The messages of one panel, made by one thread.

    Parameters
    ----------
    namespace : str, optional
        Tell of the pages of this namespace only.

    Attributes
    ----------
    opened : dict of str to frozenset of str
        Pages, by uuid, whose holders are looked at in detail, for each page that shows the panel.
    pages : dict of str to PageInfo
        The pages at the last look, by uuid. A new one when anything changed.
    """

    def __init__(self, namespace: str | None = None) -> None:
        self.namespace = namespace
        self.opened: dict[str, frozenset[str]] = {}
        self._last = Snapshot(())
        self.pages: dict[str, PageInfo] = {}
        self._runs: list[Message] = []
        self._hosts: list[Message] = []
        self._shares: Message = {}
        self._looked_for: frozenset[str] = frozenset()
        self._look_again = 0.0
        self._history: deque[tuple[float, int]] = deque(maxlen=_HISTORY_POINTS)
        self._next_beat = 0.0

    def everything(self) -> Message:
        """Return all that a page needs which knows nothing yet."""
        self._look()
        self._runs = _runs()
        self._hosts = [_host(host) for host in seen()]
        self._shares = self._resident()
        return {
            "type": "all",
            "namespace": self.namespace,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "beat_s": BEAT_S,
            "pages": [_row(page) for page in self.pages.values()],
            "history": list(self._history),
            "runs": self._runs,
            "hosts": self._hosts,
            "shares": self._shares,
            **self._beat(),
        }

    def changes(self) -> Message | None:
        """Return what is new since the last message; None when there is nothing to say yet."""
        message: Message = {}
        changed, gone = self._look()
        if changed or gone:
            message |= {"changed": [_row(page) for page in changed], "gone": gone}
        if (runs := _runs()) != self._runs:
            message["runs"] = self._runs = runs
        if (hosts := [_host(host) for host in seen()]) != self._hosts:
            message["hosts"] = self._hosts = hosts
        due = time.monotonic() >= self._next_beat
        if (shares := self._resident()) != self._shares:
            message["shares"] = self._shares = shares
        if message:
            return {"type": "diff", **message, **(self._beat() if due else {"now": time.time()})}
        return {"type": "beat", **self._beat()} if due else None

    def _look(self) -> tuple[list[PageInfo], list[str]]:
        """Look at the registry; return the pages that changed and the uuids of those gone."""
        now = registry().snapshot()
        if now is self._last:
            return [], []
        self._last = now
        before = self.pages
        pages = {p.uuid: p for p in now.pages if self.namespace in (None, p.namespace)}
        # What did not change is the same object, except where a whole session was read again.
        changed = [
            page
            for uuid, page in pages.items()
            if (old := before.get(uuid)) is not page and old != page
        ]
        gone = list(before.keys() - pages.keys())
        if changed or gone:
            self.pages = pages
            self._note(sum(page.size_bytes for page in pages.values()))
        return changed, gone

    def _note(self, total_bytes: int) -> None:
        """Note how much is shared from now on."""
        now = time.time()
        if not self._history or self._history[-1][1] != total_bytes:
            self._history.append((now, total_bytes))
        while len(self._history) > 1 and self._history[1][0] < now - _HISTORY_S:
            self._history.popleft()

    def _beat(self) -> Message:
        self._next_beat = time.monotonic() + BEAT_S
        rooms = {room.where: room for room in (blocks.machine(), blocks.room())}
        return {
            "now": time.time(),
            "memory": [
                {"where": r.where, "free": r.free_bytes, "limit": r.limit_bytes}
                for r in rooms.values()
            ],
        }

    def _resident(self) -> Message:
        """Return, for the opened pages, each holder's share of what is in memory.

        Linux adds it up map by map, which takes its time where there are thousands of them; so it
        is asked again only after two hundred times as long, unless other pages are opened.
        """
        opened = frozenset[str]().union(*list(self.opened.values()))
        now = time.monotonic()
        if opened == self._looked_for and (not opened or now < self._look_again):
            return self._shares
        pages = [self.pages[uuid] for uuid in opened if uuid in self.pages]
        holders = {h.session: h for page in pages for h in page.holders}
        shares = {key: share_bytes(h.pid, h.pid_namespace) for key, h in holders.items()}
        after = time.monotonic()
        self._looked_for, self._look_again = opened, after + max(BEAT_S, 200 * (after - now))
        return {
            page.uuid: {
                str(process): shares[h.session].get(page.uuid, 0)
                for h, process in zip(page.holders, _processes(page), strict=True)
                if shares[h.session]
            }
            for page in pages
        }


def _row(page: PageInfo) -> Message:
    row: Message = {
        "uuid": page.uuid,
        "namespace": page.namespace,
        "variable": page.variable,
        "kind": page.kind,
        "dtype": page.dtype,
        "shape": page.shape,
        "order": page.order,
        "size": page.size_bytes,
        "mode": "r+" if page.writable else "r",
        "created": page.created,
        "owner": page.owner_pid,
        "state": page.state,
        # The process is told if it is not the pid.
        "holders": [
            (h.pid, h.label, h.role, h.since, h.here, *({process} - {h.pid}))
            for h, process in zip(page.holders, _processes(page), strict=True)
        ],
    }
    if not _can_be_assigned(page.variable):
        row["view"] = "view"
    return row


def _processes(page: PageInfo) -> list[int | str]:
    """Return what tells the processes that hold a page from each other, by holder.

    That is their pids, unless some are of other pid namespaces, as in containers: two may be alike.
    """
    if len({h.pid_namespace for h in page.holders}) == 1:
        return [h.pid for h in page.holders]
    return [f"{h.pid} in {h.pid_namespace}" for h in page.holders]


def _host(host: Seen) -> Message:
    told = host.told
    said: Message = {"name": host.name, "engines": host.engines, "letters": host.why_letters}
    if told is None:
        return said
    return said | {
        "pages": told.pages,
        "size": told.size_bytes,
        "free": told.free_bytes,
        "replicas": len(told.replicas),
        "replicas_size": sum(size for _, size in told.replicas),
        "named": told.replicas[:_NAMED],
        "transfers": told.transfers,
    }


def _can_be_assigned(name: str) -> bool:
    """Say whether a snippet may give this name to a view: it is Python's, and hides nothing."""
    hides = name in vars(builtins) or name in ("retrieve_views", "memshare_jupyter")
    return name.isidentifier() and not keyword.iskeyword(name) and not hides


def _runs() -> list[Message]:
    """Tell of the runs that go on, or else of the one that ended last."""
    if current := current_runs():
        return [_run(run) for run in current]
    last = last_run()
    if last is None:
        return []
    return [{**last._asdict(), "stopping": False, "stream": last.stream.told()}]


def _run(run: Run) -> Message:
    ahead = run.ahead()
    return {
        "id": run.id,
        "title": run.title,
        "total": run.total,
        "engines": list(run.engines),
        "done": run.done_by_engine(),
        "began": run.began,
        "started": run.started,
        "ahead": None if ahead is None else ahead.title,
        "stopping": run.stopping.is_set(),
        "stream": run.stream.told(),
    }
