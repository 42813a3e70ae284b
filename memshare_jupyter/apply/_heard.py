"""What the function said on the engines, said again here: prints, logging and warnings."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Iterable
from typing import Any, Final

from memshare_jupyter.core.quantities import count as number_of
from memshare_jupyter.worker import Said

_MOST_LINES: Final = 100


def outputs(said: Iterable[Said]) -> tuple[tuple[int, int, str, str], ...]:
    """Return (engine, item, stream, text) for all that was written, in the order of items."""
    found = [(one.engine, *text) for one in said for text in one.texts]
    return tuple(sorted(found, key=lambda text: text[1]))


def show(said: list[Said]) -> None:
    """Write it where it would have gone, each line with its engine and item, unless it is much."""
    lines = [
        (stream, f"[engine {engine}, item {item}] " if item >= 0 else f"[engine {engine}] ", line)
        for engine, item, stream, text in outputs(said)
        for line in text.splitlines()
    ]
    for stream, place, line in lines[:_MOST_LINES]:
        print(place + line, file=getattr(sys, stream))
    more = max(0, len(lines) - _MOST_LINES) + sum(one.left_out for one in said)
    if more:
        print(f"[engines] ... {number_of(more, 'line')} more")  # noqa: T201


def display(said: Iterable[Said]) -> None:
    """Show figures and other displays, each under a line with its engine and item."""
    found = [(one.engine, *shown) for one in said for shown in one.shown]
    for engine, item, data, metadata in sorted(found, key=lambda shown: shown[1]):
        module: Any = sys.modules.get("IPython")
        print(f"[engine {engine}, item {item}]", end=" ")  # noqa: T201
        if getattr(module, "get_ipython", lambda: None)() is None:
            print(data.get("text/plain", ""))  # noqa: T201
        else:
            print()  # noqa: T201
            module.display.display(data, metadata=metadata, raw=True)


def warn_again(said: Iterable[Said]) -> None:
    """Warn of what the function warned of: once for each place, and how many items it was."""
    found: dict[tuple[bytes, str, str, int], list[int]] = {}
    where: dict[tuple[bytes, str, str, int], int] = {}
    for one in said:
        for what, (count, first) in one.warned.items():
            total = found.setdefault(what, [0, first])
            total[0] += count
            if first <= total[1]:
                total[1], where[what] = first, one.engine
    for (category, text, file, line), (count, first) in found.items():
        times = f"{count:,} times, first at " if count > 1 else ""
        item = f"item {first}, " if first >= 0 else ""
        place = f" ({times}{item}engine {where[category, text, file, line]})"
        warnings.warn_explicit(text + place, _class(category), file, line)


def _class(category: bytes) -> type[Warning]:
    try:
        found = pickle.loads(category)  # noqa: S301 -- our engines'
    except Exception:  # noqa: BLE001 -- a class of a module that is not here
        return UserWarning
    return found if isinstance(found, type) and issubclass(found, Warning) else UserWarning
