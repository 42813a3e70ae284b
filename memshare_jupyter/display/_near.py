"""Names that are nearly what somebody typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, names: Iterable[str]) -> str:
    """Return ``; did you mean ...?`` if there is a name like this one.

    >>> near("expresion", ["expression", "labels"]), near("z", ["expression"])
    ('; did you mean expression?', '')
    """
    names = list(dict.fromkeys(names))
    alike = [n for n in names if n.casefold() == name.casefold()]
    # Every short name is like some other one.
    alike = alike or difflib.get_close_matches(name, [n for n in names if len(n) > 2], n=1)
    return f"; did you mean {alike[0]}?" if alike else ""
