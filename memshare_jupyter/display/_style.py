"""How tables look as HTML: only colours of the host, each with one that suits any background."""

from __future__ import annotations

from typing import Final

_NUMERIC: Final = {"shape", "size", "views", "handles", "age", "pid", "since", "resident"}

TABLE: Final = "border-collapse:collapse;font-variant-numeric:tabular-nums;margin:0"
CELL: Final = "text-align:{};padding:.25em .9em .25em 0;white-space:nowrap;background:none"
HEAD: Final = (
    f"{CELL};font-weight:600;color:var(--jp-ui-font-color2,inherit);"
    "border-bottom:1px solid var(--jp-border-color1,currentColor)"
)
NOTE: Final = (
    "margin-top:.4em;white-space:pre-line;color:var(--jp-ui-font-color2,inherit);"
    "font-size:var(--jp-ui-font-size1,inherit)"
)
WIDE: Final = f"{TABLE};width:100%;table-layout:auto"
"""A table that takes the page's width, and no more: what is long goes on in the next line."""
WRAPPED: Final = "text-align:{};padding:.25em .5em .25em 0;background:none;vertical-align:top"
ANYWHERE: Final = f"{WRAPPED};overflow-wrap:anywhere;white-space:normal;min-width:{{}}"
"""A cell whose words break, but not before the column is as narrow as that."""


def side(heading: str) -> str:
    """Return the side at which a column's cells stand."""
    return "right" if heading in _NUMERIC or heading.endswith("copies") else "left"
