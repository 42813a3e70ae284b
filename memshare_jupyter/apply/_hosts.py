"""A call on the engines of several hosts, until every item has a result or the call has an error.

On each host the lead has the queue and the results of that host's engines (`_foreman`); here it is
decided which host does what, and all results come together. A host that is lost gives back what it
had; what takes much too long is given to another one as well, and whoever is first counts.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from itertools import chain
from typing import Any, Final

from memshare_jupyter.apply import _foreman as foreman
from memshare_jupyter.apply._collect import Results
from memshare_jupyter.apply._foreman import Left, Lost
from memshare_jupyter.apply._hands import have_hands
from memshare_jupyter.apply._recorder import Recorder
from memshare_jupyter.apply._recovery import Recovery
from memshare_jupyter.apply._rounds import first_of
from memshare_jupyter.apply._run import Run
from memshare_jupyter.apply._shares import Shares
from memshare_jupyter.apply._stopping import GRACE_S
from memshare_jupyter.apply._team import Team
from memshare_jupyter.core.quantities import count
from memshare_jupyter.core.values import Reference
from memshare_jupyter.engines import Engine, Messages
from memshare_jupyter.engines.hosts import GONE, Group, Link, bring, gather, linked
from memshare_jupyter.errors import ClusterError, MemApplyError
from memshare_jupyter.worker import Failure, Said

_TICK_S: Final = 0.02
_OPEN_S: Final = 15.0
_HANDS_S: Final = 60.0
"""How long a host may take to start its hands."""
_LAST_WORDS_S: Final = 1.0
"""So long the engines of hosts that are there have to say what the function printed."""


class HostRounds:
    """A call on engines of several hosts; it is used as `Rounds` is.

    Parameters
    ----------
    run, task, results, batch, keep_going, label_of, watch
        As those of `Rounds`.
    groups : sequence of Group
        The engines, by host.
    silent : sequence of Engine
        Those that do not say where they are, and take no part.
    pages : iterable of Reference
        What the task refers to.
    hands : int or None
        How many processes one engine of each host starts there, to do its work.

    Attributes
    ----------
    lost : list of int
        The engines that died.
    left_out : list of str
        Which hosts took no part, or not to the end, and why.
    said : list of Said
        What the function printed and warned of, by engine.
    """

    def __init__(
        self,
        run: Run,
        task: bytes,
        results: Results,
        groups: Sequence[Group],
        silent: Sequence[Engine],
        pages: Iterable[Reference],
        hands: int | None,
        *,
        batch: int,
        keep_going: bool,
        label_of: Callable[[int], str | None],
        watch: Callable[[], None],
    ) -> None:
        self._run = run
        self._groups = groups
        self._task = task
        self._pages = sorted(pages)
        self._hands = hands
        self._results = results
        self._keep_going = keep_going
        self._label_of = label_of
        self._watch = watch
        self._recovery = Recovery(run.total, batch)
        self._recorder = Recorder(results)
        self._shares = Shares(self._recorder.states, self._recovery)
        self._teams: list[Team] = []
        self._every: list[Team] = []
        self._broken: list[tuple[Team, list[Engine]]] = []  # without a lead; and who is left
        self._inbox: queue.SimpleQueue[tuple[Link, Any]] = queue.SimpleQueue()
        self._failures: list[Failure] = []
        self._done_by: Counter[int] = Counter()
        self._worked: list[int] = []
        self.lost: list[int] = []
        self.left_out = [f"engine {e.number} took no part: it does not answer" for e in silent]
        self.said: list[Said] = []

    @property
    def regions(self) -> int:
        """How many regions of the results were given out."""
        return len(self._worked)

    def engine_of(self, region: int) -> int:
        """Return which engine left the results of a region."""
        return self._worked[region]

    def given_up(self) -> dict[range, MemApplyError]:
        """Return errors for the items at which one engine after another died."""
        return self._recovery.errors(self._run.title, self._label_of)

    def work(self) -> None:
        """Work until all results are there; raises as `Rounds.work` does."""
        done, everybody = self._done_by, self._run.engines
        self._run.watch(lambda: [done[number] for number in everybody])
        try:
            self._join(self._groups)
            while not self._is_complete():
                self._refuse_if_hopeless()
                for team, ranges in self._shares.give(self._teams):
                    team.link.tell(foreman.post, team.call, ranges)
                self._hear()
                self._mend()
                self._watch()
                self._note()
                if self._run.stopping.is_set():
                    done_now, total = self._run.progress, self._run.total
                    raise CancelledError(f"cancelled after {done_now:,} of {count(total, 'item')}")
                if self._failures:
                    raise _Failed
            self._end(_LAST_WORDS_S)
        except BaseException as error:
            self._stop()
            if self._failures and isinstance(error, _Failed):
                raise first_of(self._failures).as_error(self._label_of) from None
            raise
        finally:
            for team in self._every:
                team.link.tell(foreman.end, team.call)
                team.link.unlisten(team.call)
                self._run.idle &= not team.messages.pending
                team.messages.give_up()
            for team, _ in self._broken:
                self.left_out.append(f"{team.link.name} was lost: its link ended")

    def _note(self) -> None:
        """Note for the run's stream who does what."""
        working = {e.number for team in self._teams if team.given for e in team.engines}
        done = {number: self._done_by[number] for number in self._run.engines}
        self._run.stream.note(time.time(), done, {}, working)

    def _is_complete(self) -> bool:
        if not self._keep_going:
            for error in self.given_up().values():
                raise error
        return not self._shares.left

    def _refuse_if_hopeless(self) -> None:
        if self._teams or self._broken:
            return
        items = count(self._run.total, "item")
        raise ClusterError(
            f"no engine is left: {self._shares.left:,} of {items} were not done"
            f"{''.join(f'; {why}' for why in self.left_out)}; see to these hosts, start engines "
            "again, or use engines of others"
        )

    # Who takes part.

    def _join(self, groups: Sequence[Group]) -> None:
        """Have hosts take part: link them, bring them the pages, and send their engines to work."""
        by_link = {}
        links, without = linked(groups)
        for group in groups:
            if group.identity in links:
                by_link[links[group.identity]] = group
            else:
                self.left_out.append(f"{group.name} took no part: {without[group.identity]}")
        failed = self._make_ready(list(by_link))
        teams: list[Team] = []
        for link, group in by_link.items():
            if link in failed:
                continue
            engines = sorted(group.engines, key=lambda engine: engine != link.engine)
            if self._hands is not None:
                engines = [link.engine] * self._hands
            where = (len(self._every) + len(teams), self.regions)
            teams.append(Team(link, engines, *where, has_hands=self._hands is not None))
            self._worked += [engine.number for engine in engines]
        self._every += teams
        asked = {team.link: team for team in teams}
        array = self._results.area is not None
        addresses = gather(
            asked,
            foreman.open_call,
            lambda link: (
                *(asked[link].call, self._run.total, len(asked[link].engines)),
                *(asked[link].lead, array),
            ),
            _OPEN_S,
        )
        for team in teams:
            address = addresses.get(team.link, GONE)
            if isinstance(address, Exception):
                failed[team.link] = address
                continue
            team.link.listen(team.call, self._inbox)
            self._teams.append(team)
            team.send_to_work(self._task, address, self._pages)
        self._go_on_without(failed, by_link)

    def _go_on_without(self, failed: dict[Link, Any], groups: dict[Link, Group]) -> None:
        """Say which hosts take no part; of those whose leads have just died, take another one."""
        again = []
        for link, why in failed.items():
            others = [engine for engine in groups[link].engines if engine != link.engine]
            if link.gone.is_set() and others:  # its lead died just now
                self._lose(link.engine.number)
                again.append(Group(link.identity, link.name, others))
            else:
                self.left_out.append(f"{link.name} took no part: {why}")
        if again:
            self._join(again)

    def _make_ready(self, links: list[Link]) -> dict[Link, Any]:
        """Bring hosts the pages, and have them start their hands; return why some cannot."""
        failed: dict[Link, Any] = bring(self._pages, links)
        if self._hands is not None:
            ready = [link for link in links if link not in failed]
            started = gather(ready, have_hands, lambda _: (self._hands,), _HANDS_S)
            failed |= {link: why for link in ready if (why := started.get(link, GONE)) is not None}
        return failed

    def _mend(self) -> None:
        """Take note of who is lost; have a host whose lead died go on with another one."""
        for team in list(self._teams):
            self._listen(team)
            if team.link.gone.is_set() or team.is_deserted:
                self._dismiss(team)
        for team, engines in list(self._broken):
            self._listen(team)
            if not team.messages.pending:  # they have seen that their lead is gone
                self._broken.remove((team, engines))
                left = [engine for engine in engines if engine not in team.messages.died]
                if team.lead is not None:
                    self._lose(team.link.engine.number)
                if left:
                    self._join([Group(team.link.identity, team.link.name, left)])

    def _dismiss(self, team: Team) -> None:
        self._teams.remove(team)
        others = [e for e in team.engines if e not in (team.link.engine, *team.messages.died)]
        # Of hands that died their lead says at what.
        self._shares.take_back(team, seen=bool(others) or team.is_deserted)
        self._broken.append((team, others))

    def _lose(self, engine: int) -> None:
        if engine not in self.lost:
            self.lost.append(engine)

    # What they say.

    def _hear(self) -> None:
        """Take in what leads say: wait for a moment, then as long as there is something."""
        with contextlib.suppress(queue.Empty):
            link, found = self._inbox.get(timeout=_TICK_S)
            while True:
                team = next((team for team in self._every if team.link is link), None)
                if team is not None and found is not GONE:
                    for one in found:
                        self._take(team, one)
                link, found = self._inbox.get_nowait()

    def _take(self, team: Team, said: Any) -> None:
        if isinstance(said, Exception):
            raise ClusterError(f"{team.link.name} cannot go on: {said}") from said
        if isinstance(said, Lost):
            self._bury(team, said)
            return
        assert isinstance(said, Left)  # noqa: S101 -- there is nothing else
        engine = team.engines[said.worker].number
        for items in self._recorder.write(team.first + said.worker, said):
            self._done_by[engine] += len(items)
            team.note(len(items))
            self._shares.done(items, self._every)

    def _bury(self, team: Team, died: Lost) -> None:
        """Take back what a worker had that died."""
        if team.has_hands:
            self.left_out += team.miss(died.worker)
        else:
            self._lose(team.engines[died.worker].number)
        self._shares.bury(team, died)

    def _listen(self, team: Team) -> None:
        """Take in what engines have answered."""
        messages: Messages = team.messages
        messages.wait(0.0)
        for engine in messages.died:
            self._lose(engine.number)
        answers = list(chain(*messages.take())) if team.has_hands else messages.take()
        for worker, answer in enumerate(answers):
            if answer is None:  # of a hand, which nobody may have seen: others did its work, too
                self.left_out += team.miss(worker)
                continue
            pickled, witnessed = answer
            failure, said = pickle.loads(pickled)  # noqa: S301 -- our engines'
            self.said.append(said)
            broken = team not in self._teams or team.link.gone.is_set()
            if failure is not None and not (broken or witnessed):
                self._failures.append(failure)
            if witnessed is not None and team.lead == 0 and 0 not in team.mourned and broken:
                self._bury(team, witnessed)

    # The end.

    def _end(self, patience_s: float) -> None:
        """Let the engines stop, and hear what they have to say at last."""
        for team in self._teams:
            team.link.tell(foreman.stop, team.call, False)
        deadline = time.monotonic() + patience_s
        while any(team.messages.pending for team in self._teams) and time.monotonic() < deadline:
            for team in self._teams:
                team.messages.wait(_TICK_S / len(self._teams))
                self._listen(team)

    def _stop(self) -> None:
        with contextlib.suppress(KeyboardInterrupt, ClusterError):
            self._end(GRACE_S)
        for team in self._teams:
            team.link.tell(foreman.stop, team.call, True)
        with contextlib.suppress(KeyboardInterrupt, ClusterError):
            self._end(GRACE_S)


class _Failed(Exception):  # noqa: N818 -- on its way to where it becomes an error
    """The function failed."""
