"""Have the contenders take turns, check what they return, and collect their figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tests.benchmarks.contenders import SERIAL, Entry
from tests.benchmarks.machine import facts
from tests.benchmarks.session import ContenderError, Session
from tests.benchmarks.workloads import Matrix, Workload, workloads

WORKERS = 2


class WrongResultError(Exception):
    """A contender did not return what the serial loop returns."""


@dataclass(frozen=True)
class Size:
    """How much is computed: the matrix of the workloads, the side of the large one, and rounds."""

    rows: int = 10_446
    cols: int = 5_000
    large: int = 10_000
    rounds: int = 5
    limit_s: float = 600.0


@dataclass
class Figures:
    """What was measured of one contender, in seconds and bytes: a value for each round.

    Of `startup_s` there is one for each process that was timed. `memory` is that of all processes:
    ``idle`` after the first result, and for a matrix, ``before`` it is shared, at the ``peak``
    while it is shared and `numpy.std` is applied to its columns, and of the ``data``.
    """

    startup_s: list[float] = field(default_factory=list)
    share_s: dict[str, list[float]] = field(default_factory=dict)
    first_s: dict[str, list[float]] = field(default_factory=dict)
    apply_s: dict[str, list[float]] = field(default_factory=dict)
    large_s: list[float] = field(default_factory=list)
    processes: int = 0
    memory: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Race:
    """One run of the benchmark.

    Every matrix is given to a fresh process: some contenders keep the memory of the one before.
    """

    def __init__(self, size: Size, say: Callable[[str], None]) -> None:
        self._size = size
        self._say = say
        self._workloads = workloads(size.rows)
        self._C = Matrix(size.rows, size.cols, "C")
        self._F = Matrix(size.rows, size.cols, "F")
        self._large = Matrix(size.large, size.large, "C")
        self._expected: dict[str, list[float]] = {}
        self._serial = Figures()

    def run(self, contenders: Mapping[str, Entry]) -> dict[str, Any]:
        """Measure those that are installed; the serial loop must be the first of them."""
        if next(iter(contenders), None) != SERIAL:
            raise ValueError(f"the first contender must be the {SERIAL}, whose results are right")
        present = {name: entry for name, entry in contenders.items() if entry.installed}
        machine = facts()  # the load before we add to it
        figures = {name: Figures() for name in present}
        self._serial = figures[SERIAL]
        timed = {
            "C order": partial(self._time, self._C),
            "F order": partial(self._time, self._F),
            "large": self._time_large,
        }
        watched = {"matrix": self._watch_matrix, "large": self._watch_large}
        for turn in range(self._size.rounds):
            # Another one begins each time, so that nobody always comes after the same.
            first = turn % len(present)
            order = [*present.items()][first:] + [*present.items()][:first]
            for what, measure in timed.items():
                for name, entry in order:
                    self._say(f"round {turn + 1} of {self._size.rounds}, {what}: {name}")
                    self._session(entry.module, figures[name], measure)
        for what, measure in watched.items():
            for name, entry in present.items():
                self._say(f"memory, {what}: {name}")
                self._session(entry.module, figures[name], measure)
        return {
            "machine": machine,
            "workers": WORKERS,
            "size": asdict(self._size),
            "workloads": {
                w.key: self._size.rows if w.margin == "rows" else self._size.cols
                for w in self._workloads
            },
            "not_installed": [name for name in contenders if name not in present],
            "contenders": {name: asdict(found) for name, found in figures.items()},
        }

    def _session(
        self, module: str, figures: Figures, measure: Callable[[Session, Figures], None]
    ) -> None:
        session = Session(module, self._size.limit_s)
        try:
            with session:
                measure(session, figures)
                session.ask("close")
        except ContenderError as error:
            self._failed(figures, str(error))
        figures.left += session.left

    def _time(self, matrix: Matrix, session: Session, figures: Figures) -> None:
        figures.startup_s.append(session.ask("start", WORKERS))
        session.ask("make", matrix)
        order = matrix.order
        figures.share_s.setdefault(order, []).append(session.ask("share"))
        # The workers touch the memory for the first time: a cost of sharing, and not of a workload.
        first = Workload("first", order, "cols", np.std)
        self._apply(session, first, figures, figures.first_s.setdefault(order, []))
        for workload in self._workloads:
            if workload.order == order:
                times = figures.apply_s.setdefault(workload.key, [])
                self._apply(session, workload, figures, times)
        session.ask("unshare")

    def _apply(
        self, session: Session, workload: Workload, figures: Figures, times: list[float]
    ) -> None:
        seconds, results = session.ask("apply", workload.margin, workload.fun)
        self._take(workload.key, seconds, results, figures, times)

    def _time_large(self, session: Session, figures: Figures) -> None:
        figures.startup_s.append(session.ask("start", WORKERS))
        session.ask("make", self._large)
        seconds, results = session.ask("share_and_apply", "cols", np.std)
        seconds += session.ask("unshare")
        self._take("large", seconds, results, figures, figures.large_s)

    def _watch_matrix(self, session: Session, figures: Figures) -> None:
        session.ask("start", WORKERS)
        figures.memory["idle"] = session.family.memory_bytes()
        figures.processes = len(session.family.look())
        figures.memory["matrix"] = self._watch(session, self._C)

    def _watch_large(self, session: Session, figures: Figures) -> None:
        session.ask("start", WORKERS)
        figures.memory["large"] = self._watch(session, self._large)

    @staticmethod
    def _watch(session: Session, matrix: Matrix) -> dict[str, int]:
        """Take memory, in a process in which nothing is timed: to look at it takes time."""
        session.ask("make", matrix)
        before = session.family.memory_bytes()
        session.ask("share_and_apply", "cols", np.std, watch=True)
        session.ask("unshare")
        return {"before": before, "peak": session.peak_bytes, "data": 8 * matrix.rows * matrix.cols}

    def _take(
        self, key: str, seconds: float, results: Any, figures: Figures, times: list[float]
    ) -> None:
        """Take the time of a call whose results are those of the serial loop."""
        if figures is self._serial:
            self._expected.setdefault(key, results)
        try:
            if key not in self._expected:
                raise WrongResultError(f"the {SERIAL} gave no results to compare with")
            check(results, self._expected[key])
        except WrongResultError as error:
            self._failed(figures, f"{key}: {error}")
        else:
            times.append(seconds)

    def _failed(self, figures: Figures, what: str) -> None:
        # Where files lie would say whose machine it was.
        what = re.sub(r"(?:/[^\s/'\":]+)+/", "", what)
        figures.errors.append(what)
        self._say(f"  failed: {what}")


def check(results: Any, expected: list[float]) -> None:
    """Raise unless these are the serial loop's results, in its order.

    To 9 digits: those who gather a strided column may add it up in another order.
    """
    if not isinstance(results, list) or len(results) != len(expected):
        found = f"{len(results)} results" if isinstance(results, list) else type(results).__name__
        raise WrongResultError(f"{found} instead of a list of {len(expected)}")
    wrong = np.flatnonzero(~np.isclose(results, expected, rtol=1e-9, atol=0.0))
    if len(wrong):
        item = wrong[0]
        raise WrongResultError(
            f"wrong results for {len(wrong)} of {len(expected)} items, the first of them item "
            f"{item}: {results[item]!r} instead of {expected[item]!r}"
        )
