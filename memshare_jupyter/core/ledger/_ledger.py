"""The ledger: the union of all living sessions.

There is no shared table. Every process publishes its handles in its own session file (the
protocol of one change stands in `_session`); the ledger is the union of the files whose process
lives (`_reader`). Readers take no lock, and need no file of their own: a process that holds
nothing is in no list, and can look when no file can be made.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from memshare_jupyter.core import _descriptors
from memshare_jupyter.core._opened import Opened
from memshare_jupyter.core.ledger._create import HIDDEN_SUFFIX, sweep_hidden
from memshare_jupyter.core.ledger._reader import OnDead, Reader
from memshare_jupyter.core.ledger._runtime import check_directory
from memshare_jupyter.core.ledger._session import SUFFIX, SessionFile, Who
from memshare_jupyter.core.ledger._slot import EMPTY, Entry
from memshare_jupyter.core.ledger._table import Table
from memshare_jupyter.errors import MemshareError

_MOST_OPEN: Final = 200
"""Sessions of others that are kept open between two looks."""
_COARSE_NS: Final = 50_000_000
"""A directory that changed longer ago than this changes its time when it changes again."""


class Session:
    """A living process, and what it lists.

    Attributes
    ----------
    who : Who
        The process.
    table : Table
        Its entries.
    """

    def __init__(self, who: Who) -> None:
        self.who = who
        self.table = Table()


class Ledger:
    """This process's entries, and the union of all.

    Parameters
    ----------
    directory : Path
        The runtime directory.
    on_dead : callable
        Told of dead sessions, see `_reader`.
    label : str
        What lists call this process.

    Attributes
    ----------
    mine : Session
        What this process lists, or will list when it is listed again.
    """

    def __init__(self, directory: Path, on_dead: OnDead, label: str = "") -> None:
        self.directory = directory
        self.mine = Session(Who.me(label))
        self._on_dead = on_dead
        self._file: SessionFile | None = None
        self._files = 0
        self._others: dict[str, Reader] = {}
        self._opening = Opened()  # of a reader that is not among them yet
        self._most_open = _MOST_OPEN
        self._ignored: set[str] = set()
        self._names: set[str] = set()
        self._listed_ns = 0

    @property
    def path(self) -> Path | None:
        """The session file; None when there is none."""
        return self._file.path if self._file is not None else None

    def is_listed(self) -> bool:
        """Say whether others can see what this process lists."""
        if self._file is None:
            return not self.mine.table.slots
        return self._file.is_there()

    def unlist(self) -> None:
        """Let go of the file, of which a removed one leaves just the descriptor."""
        if self._file is not None:
            self._file.end()
            self._file = None

    def relist(self) -> None:
        """List everything of this process in a file of another name.

        Raises
        ------
        OSError, RegistryCorruptError
            It cannot be made; what there was before is gone, and this can be tried again.
        """
        self.unlist()
        slots = self.mine.table.slots
        image = [slots.get(index, EMPTY) for index in range(max(slots, default=-1) + 1)]
        self.mine.who = self.mine.who.told_apart()
        self._files += 1  # first, so that no interrupt gives two files one name
        # Known before it is there, or an interrupt could leave a file that lists us for ever.
        self._file = SessionFile(self.directory, self.mine.who, image, self._files)
        try:
            self._file.begin()
        except BaseException:
            self._file.end()
            self._file = None
            raise

    def move(self, directory: Path) -> None:
        """Go on in another directory; `relist` lists there what this process has."""
        if self._file is not None:
            self._file.abandon()
            self._file = None
        self._close_others()
        self._others.clear()
        self._listed_ns = 0
        self.directory = directory

    def publish(self, entries: list[Entry]) -> list[int]:
        """List handles of this process, by one change; returns their slots.

        A crash before leaves no trace.
        """
        if self._file is None:
            self.relist()
        assert self._file is not None  # noqa: S101 -- made just now
        slots = [entry.pack() for entry in entries]
        indexes = self._file.put(slots)
        for index, slot, entry in zip(indexes, slots, entries, strict=True):
            self.mine.table.put(index, slot, entry)
        return indexes

    def replace(self, index: int, entry: Entry) -> None:
        """Say something else of a handle of this process."""
        slot = entry.pack()
        if self._file is not None:
            self._file.replace(index, slot)
        self.mine.table.put(index, slot, entry)

    def note(self, entry: Entry) -> int:
        """Remember a handle of this process that cannot be listed now; its slot."""
        if self._file is not None:
            self._file.end()  # it would say less than there is; `relist` makes another
            self._file = None
        index = max(self.mine.table.slots, default=-1) + 1
        self.mine.table.put(index, entry.pack(), entry)
        return index

    def withdraw(self, index: int, entry: Entry) -> None:
        """Take a handle of this process off the list, unless its slot is another's by now."""
        if self.mine.table.entry(index) is entry:
            if self._file is not None:
                self._file.clear(index)
            self.mine.table.put(index, None)

    def rewrite(self, entries: dict[int, Entry]) -> None:
        """List exactly these handles, by slot, and read everybody else's anew.

        An interrupt or a failure may have left file and tables in any state.
        """
        self.mine.table = Table()
        for index, entry in entries.items():
            self.mine.table.put(index, entry.pack(), entry)
        for other in self._others.values():
            other.forget()
        self._listed_ns = 0
        if self._file is not None and not self._file.is_open:
            self._file = None
        self._remove_strays()
        if self._file is not None:
            slots = self.mine.table.slots
            image = [slots.get(index, EMPTY) for index in range(max(slots, default=-1) + 1)]
            try:
                self._file.rewrite(image)
            except OSError:
                self._file.end()  # rather no list than a wrong one; the next turn makes another
                self._file = None

    def _remove_strays(self) -> None:
        """Remove files of this session of which it knows nothing: made at an interrupt."""
        who, mine = self.mine.who, self._file.path.name if self._file is not None else ""
        with contextlib.suppress(OSError):
            for name in os.listdir(self.directory):
                if name.startswith(f"{who.pid}-{who.token.hex()}-") and name != mine:
                    (self.directory / name).unlink()

    def relabel(self, label: str) -> None:
        """Change what lists call this process."""
        who = self.mine.who._replace(label=label)
        if self._file is not None:
            self._file.relabel(who)
        self.mine.who = who  # last: what an interrupt broke off is not said to be done

    def sessions(self) -> Iterator[Session | Reader]:
        """Yield every living session, this process's first, up to date."""
        yield self.mine
        yield from self.look()

    def known(self) -> Iterator[Session | Reader]:
        """Yield the sessions that were there at the last look, this process's first."""
        yield self.mine
        yield from self._others.values()

    def look(self) -> list[Reader]:
        """Bring what is known of the others up to date, and remove what the dead left."""
        try:
            return self._look(self._most_open)
        except OSError as error:
            if error.errno not in _descriptors.RUN_OUT:
                raise
            self._close_others()  # what was kept open may be what is missing
            _descriptors.make_room()
            return self._look(most_open=0)

    def _look(self, most_open: int) -> list[Reader]:
        mine = self._file.path.name if self._file is not None else ""
        names = self._list()
        for gone in self._others.keys() - names:
            self._others.pop(gone).close()
        for name, other in list(self._others.items()):
            self._refresh(name, other, most_open)
        self._opening.close()  # an interrupt's traceback may keep its reader
        for name in names - self._others.keys() - self._ignored - {mine}:
            reader = Reader.open(self.directory / name, self._on_dead, self._opening)
            if reader is None:
                self._ignored.add(name)  # dead and gone, or no session that this version knows
            else:
                self._refresh(name, reader, most_open)
            self._opening = Opened()
        for other in list(self._others.values())[most_open:]:
            other.close()
        return list(self._others.values())

    def _refresh(self, name: str, other: Reader, most_open: int) -> None:
        if other.refresh(self._on_dead):
            self._others[name] = other
            if most_open:
                return
        else:
            self._others.pop(name, None)
        other.close()

    def _list(self) -> set[str]:
        """Return the names of the session files; sweep hidden ones."""
        asked_ns = time.time_ns()  # first: this thread may stand still at any point from here on
        try:
            changed_ns = os.stat(self.directory).st_ctime_ns  # also when it was opened to others
        except OSError:
            changed_ns = 0
        if changed_ns and changed_ns == self._listed_ns:
            return self._names
        check_directory(self.directory)
        try:
            everything = set(os.listdir(self.directory))
        except (FileNotFoundError, NotADirectoryError):
            everything = set()
        names = {name for name in everything if name.endswith(SUFFIX) and name[0] != "."}
        for name in everything - names:
            if name.endswith(HIDDEN_SUFFIX):
                sweep_hidden(self.directory / name)
        self._ignored &= names
        self._names = names
        settled = asked_ns - changed_ns > _COARSE_NS
        self._listed_ns = changed_ns if settled else 0
        return names

    def end(self) -> None:
        """Take everything off the list and remove the file."""
        self.mine.table = Table()
        if self._file is not None:
            self._file.end()
            self._file = None
        self._most_open = 0  # a thread that still uses this one will be the last to look
        with contextlib.suppress(OSError, MemshareError):
            self.look()  # which removes the files of the dead
        self._close_others()
        self._others.clear()
        self._listed_ns = 0

    def abandon(self) -> Table:
        """Begin anew in a forked child: close the parent's files; what the parent listed."""
        listed = self.mine.table
        if self._file is not None:
            self._file.abandon()
            self._file = None
        self._close_others()
        self._others.clear()
        self._listed_ns = 0
        self.mine = Session(Who.me(f"fork of {self.mine.who.pid}"))
        self._files = 0
        return listed

    def _close_others(self) -> None:
        self._opening.close()
        for other in self._others.values():
            other.close()
