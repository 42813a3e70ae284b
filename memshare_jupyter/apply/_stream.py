"""The stream of a call: which engine did how many items when, for people to see who idles.

It is made of what the call's wait sees anyway every twentieth of a second: the counters of the
queue. A call that is over before it waits has none.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any, Final

IDLE: Final = -1
_lock: Final = threading.Lock()  # one for all streams: each call makes one, and few are told of
_FIRST_S: Final = 0.05
_MOST_SLOTS: Final = 120
_MOST_NUMBERS: Final = 2400
"""Of many engines each has fewer slots, so that a page can be told all of it twice a second."""


class Stream:
    """Time in slots of equal length; when there are too many, two become one.

    Examples
    --------
    >>> stream = Stream()
    >>> stream.note(10.0, {0: 0, 1: 0}, {}, working={0})
    >>> stream.note(10.12, {0: 3, 1: 0}, {}, working={0, 1})
    >>> stream.told()["lanes"]
    {0: [0, 0, 3], 1: [-1, -1, 0]}
    """

    __slots__ = ("_before", "_begin", "_failed", "_lanes", "_slot_s", "_slots")

    def __init__(self) -> None:
        self._begin: float | None = None
        self._slot_s = _FIRST_S
        self._slots = 0
        self._lanes: dict[int, list[int]] = {}
        self._failed: dict[int, list[int]] = {}
        self._before: dict[int, tuple[int, int]] = {}

    @property
    def begun(self) -> bool:
        """Whether an engine was seen at work."""
        return self._begin is not None

    def note(
        self,
        now: float,
        done: Mapping[int, int],
        failed: Mapping[int, int],
        working: Collection[int],
    ) -> None:
        """Note how many items each engine has done by now, how many failed, and who is at work."""
        with _lock:
            if self._begin is None:
                if not working and not any(done.values()):
                    return  # they have something else to do first
                self._begin = now
            slot = max(int((now - self._begin) / self._slot_s), self._slots - 1)
            while slot >= max(24, min(_MOST_SLOTS, _MOST_NUMBERS // max(1, len(done)))):
                self._halve()
                slot //= 2
            self._slots = slot + 1
            for engine, count in done.items():
                lane = self._lanes.setdefault(engine, [])
                wrong = self._failed.setdefault(engine, [])
                before, failed_before = self._before.get(engine, (0, 0))
                busy = engine in working or count > before
                lane += [0 if busy else IDLE] * (self._slots - len(lane))
                wrong += [0] * (self._slots - len(wrong))
                if busy:
                    lane[slot] = max(0, lane[slot]) + count - before
                wrong[slot] += failed.get(engine, 0) - failed_before
                self._before[engine] = count, failed.get(engine, 0)

    def again(self) -> None:
        """Note that from now on it is counted from zero."""
        if self._before:
            self._before = {}

    def fail(self, engine: int) -> None:
        """Note that the call ended because of the item that an engine was at."""
        with _lock:
            if wrong := self._failed.get(engine):
                wrong[-1] += 1
                self._lanes[engine][-1] = max(0, self._lanes[engine][-1])

    def told(self) -> dict[str, Any]:
        """Return it for a page: seconds a slot, and by engine the items done and failed in each."""
        with _lock:
            return {
                "slot_s": self._slot_s,
                "lanes": {engine: list(lane) for engine, lane in self._lanes.items()},
                "failed": {e: list(wrong) for e, wrong in self._failed.items() if any(wrong)},
            }

    def _halve(self) -> None:
        self._slot_s *= 2
        self._slots = -(-self._slots // 2)
        self._lanes = {engine: _merged(lane) for engine, lane in self._lanes.items()}
        self._failed = {
            engine: [sum(wrong[i : i + 2]) for i in range(0, len(wrong), 2)]
            for engine, wrong in self._failed.items()
        }


def _merged(lane: list[int]) -> list[int]:
    pairs = (lane[i : i + 2] for i in range(0, len(lane), 2))
    return [sum(n for n in pair if n > 0) if max(pair) >= 0 else IDLE for pair in pairs]
