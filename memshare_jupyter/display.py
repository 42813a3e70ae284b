"""Tables of pages, as text and as HTML: what `%memshare` shows of a snapshot."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Sequence
from typing import Final

from memshare_jupyter.core.memory import in_units
from memshare_jupyter.core.snapshot import PageInfo

_HEADINGS: Final = (
    *("page", "kind", "dtype", "shape", "order", "size", "owner"),
    *("views", "handles", "age", "state"),
)
_NUMERIC: Final = {"shape", "size", "views", "handles", "age"}
_STYLE: Final = "text-align:{};padding:0 .8em 0 0;white-space:nowrap"


class PageTable:
    """Pages of any namespace, one a line.

    Parameters
    ----------
    pages : iterable of PageInfo
        What to show, in this order.
    note : str, optional
        A line below the table.
    """

    def __init__(self, pages: Iterable[PageInfo], note: str = "") -> None:
        self.pages = tuple(pages)
        self.note = note

    def __len__(self) -> int:
        return len(self.pages)

    def _rows(self) -> list[Sequence[str]]:
        return [_row(page) for page in self.pages]

    def _summary(self) -> str:
        if not self.pages:
            return self.note or (
                "nothing is shared; to share the arrays that a cell makes: %%memshare register NAME"
            )
        total = sum(page.size_bytes for page in self.pages)
        return self.note or f"{count(len(self.pages), 'page')}, {in_units(total)} shared"

    def __repr__(self) -> str:
        if not self.pages:
            return self._summary()
        rows = [_HEADINGS, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
        lines = [
            "  ".join(
                cell.rjust(width) if heading in _NUMERIC else cell.ljust(width)
                for cell, width, heading in zip(row, widths, _HEADINGS, strict=True)
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, self._summary()])

    def _repr_html_(self) -> str:
        summary = f"<div>{html.escape(self._summary())}</div>"
        if not self.pages:
            return summary
        heads = "".join(f'<th scope="col" style="{_style(h)}">{h}</th>' for h in _HEADINGS)
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="{_style(h)}">{html.escape(cell)}</td>'
                for h, cell in zip(_HEADINGS, row, strict=True)
            )
            + "</tr>"
            for row in self._rows()
        )
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        return table + summary


def count(number: int, noun: str) -> str:
    """Write a number of things.

    >>> count(1, "engine"), count(2000, "engine")
    ('1 engine', '2,000 engines')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def age(seconds: float) -> str:
    """Write a time span with one unit.

    >>> age(5), age(300), age(90000)
    ('5 s', '5 min', '25 h')
    """
    for unit, length_s, until in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < until:
            return f"{max(0, seconds) / length_s:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def shape(dimensions: tuple[int, ...]) -> str:
    """Write a shape as ``3 × 4``; a single value as ``scalar``."""
    return " × ".join(f"{n:,}" for n in dimensions) or "scalar"


def _row(page: PageInfo) -> Sequence[str]:
    owner = next((h for h in page.holders if h.role == "owner"), None)
    who = (
        "gone" if owner is None else "here" if owner.here else f"{owner.label} {owner.pid}".strip()
    )
    return (
        *(page.name, page.kind, page.dtype, shape(page.shape), page.order),
        *(in_units(page.size_bytes), who, str(page.views), str(page.handles)),
        *(age(time.time() - page.created), page.state),
    )


def _style(heading: str) -> str:
    return _STYLE.format("right" if heading in _NUMERIC else "left")
