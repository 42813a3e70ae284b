"""Recovery: what is left to do after workers died, and which items it was they died at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from memshare_jupyter.errors import MemApplyError
from memshare_jupyter.worker import killed, layout

_ATTEMPTS: Final = 2
_MANY: Final = 4
_FEW: Final = 10
"""More deaths in a call, and fewer results for each in its last round, are no accident."""


class Recovery:
    """The items of a call whose results are still to come.

    A worker that dies takes with it the results it had not written down, and the blame falls on
    the item it was at: that one is handed out again last and alone, so that if it kills another
    worker nothing else suffers; then it is given up. Of items that take microseconds it is not
    known which one it was, so each of some is a suspect.

    When hardly anything but deaths comes of it, suspects are handed out first: a function that
    kills every worker is known for that after a few, and not after one for each item.

    Parameters
    ----------
    items : int
        How many the call has.
    batch : int
        How many the function gets at once; 0 for one at a time.

    Attributes
    ----------
    given_up : dict of range to list of int
        Items at which too many workers died, and who these were.
    unit : int
        How many items are blamed together, because the function gets them together.
    """

    def __init__(self, items: int, batch: int) -> None:
        self.given_up: dict[range, list[int]] = {}
        self._items = items
        self.unit = max(1, batch)
        self._died_at: dict[range, list[int]] = {}
        self._deaths = 0
        self._before = 0, 0  # deaths and results, when ranges were last asked for

    def died(self, who: int, claimed: Iterable[range], done: int, step: int = 1) -> None:
        """Note the death of a worker that had done so many of the items it had claimed.

        It was at one of the next `step` ones; or, of batches, in the next one.
        """
        self._deaths += 1
        for chunk in claimed:
            if done < len(chunk):
                first = chunk.start + done
                for start in range(first, min(first + step, chunk.stop)):
                    unit = range(start, min(start + self.unit, chunk.stop))
                    tried = self._died_at.setdefault(unit, [])
                    tried.append(who)
                    if len(tried) == _ATTEMPTS:
                        self.given_up[unit] = self._died_at.pop(unit)
                return
            done -= len(chunk)

    def errors(
        self, title: str, label_of: Callable[[int], str | None]
    ) -> dict[range, MemApplyError]:
        """Return errors for the items of a call that were given up."""
        return {
            items: killed(title, items, engines, label_of(items.start))
            for items, engines in self.given_up.items()
        }

    def left(self, recorded: Iterable[range]) -> list[range]:
        """Return the items that have no result and were not given up."""
        return _gaps([*recorded, *self.given_up], self._items)

    @property
    def suspects(self) -> list[range]:
        """The items at which a worker may have died; to be handed out last, each alone."""
        return list(self._died_at)

    def ranges(self, recorded: Sequence[range], workers: int) -> list[tuple[int, int]]:
        """Return what to hand out in the round that comes now, suspects alone."""
        innocent = _gaps([*recorded, *self.given_up, *self._died_at], self._items)
        ranges = [
            (gap.start + start, gap.start + stop)
            for gap in innocent
            for start, stop in layout.chunks(len(gap), workers)
        ]
        gaps = [r for unit in self._died_at for r in _gaps(recorded, unit.stop, unit.start)]
        suspects = [(r.start, r.stop) for r in gaps]
        now = self._deaths, sum(map(len, recorded))
        deaths, results = now[0] - self._before[0], now[1] - self._before[1]
        self._before = now
        return (
            suspects + ranges
            if self._deaths > _MANY and results < _FEW * deaths
            else ranges + suspects
        )


def died_text(engines: Sequence[int]) -> str:
    """Return a sentence's beginning.

    >>> died_text([1]), died_text([0, 1])
    ('engine 1 died', 'engines 0 and 1 died')
    """
    if len(engines) == 1:
        return f"engine {engines[0]} died"
    return f"engines {', '.join(map(str, engines[:-1]))} and {engines[-1]} died"


def _gaps(done: Iterable[range], stop: int, start: int = 0) -> list[range]:
    """Return what of the range from `start` to `stop` is not in `done`.

    >>> _gaps([range(4, 6), range(0, 2)], 10)
    [range(2, 4), range(6, 10)]
    """
    gaps = []
    for one in sorted(done, key=lambda one: one.start):
        if start < min(one.start, stop):
            gaps.append(range(start, min(one.start, stop)))
        start = max(start, one.stop)
    if start < stop:
        gaps.append(range(start, stop))
    return gaps
