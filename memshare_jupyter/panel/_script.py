"""The panel's script: twelve files, which together are one ES module.

It has no address in a page, so that it could not import a part of itself: the parts share one
scope instead, and `make lint` looks at what they make together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).parent / "static"
PARTS: Final = (
    *("words", "elements", "store", "summary", "stream"),
    *("runs", "hosts", "questions", "rows", "columns", "table", "panel"),
)


def joined() -> str:
    """Return the module, its parts in the order in which they need each other."""
    return "\n".join((STATIC / f"{name}.js").read_text() for name in PARTS)
