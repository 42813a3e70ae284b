"""Pages as HTML, by namespace, and no wider than the page they are on."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from memshare_jupyter.core.quantities import count, in_units
from memshare_jupyter.core.registry import PageInfo
from memshare_jupyter.display._style import ANYWHERE, HEAD, WIDE, WRAPPED, side

_LONG: Final = {"page", "kind", "owner", "dtype"}
_ONE_LINE: Final = {"shape", "dtype", "size", "owner", "age"}
"""Columns that ask for a width, which they get before names have a line of their own."""
_MOST: Final = 20
"""Characters for which a column asks at most."""
_WORD: Final = 12
"""Words up to this length are not broken."""
_CH: Final = 0.9
"""Width of a character, on average, in widths of a 0."""
_LEFT_OUT: Final = {"order", "handles"}


def grouped(pages: Sequence[PageInfo], rows: Sequence[Mapping[str, str]]) -> str:
    """Return a table of pages, in groups of the same namespace that follow each other.

    Parameters
    ----------
    pages : sequence of PageInfo
        What to show; one at least.
    rows : sequence of mapping of str to str
        The cells of each, by heading.
    """
    rows = [_short(row) for row in rows]
    headings = list(rows[0])
    asked = {h: min(_MOST, 1 + max(len(row[h]) for row in rows)) * _CH for h in _ONE_LINE}
    words = {h: min(_WORD, max(_longest_word(row[h]) for row in rows)) * _CH for h in headings}
    heads = "".join(
        f'<th scope="col" style="{HEAD.format(side(h))};padding-right:.5em'
        f'{f";width:{asked[h]:.1f}ch" if h in asked else ""}">{html.escape(h)}</th>'
        for h in headings
    )
    body = []
    pairs = zip(pages, rows, strict=True)
    for namespace, group in groupby(pairs, key=lambda pair: pair[0].namespace):
        found = list(group)
        body.append(_namespace(namespace, [page for page, _ in found], headings))
        body += [_page(page, row, words) for page, row in found]
    return (
        f'<table style="{WIDE}"><thead><tr>{heads}</tr></thead><tbody>{"".join(body)}</tbody>'
        "</table>"
    )


def _short(row: Mapping[str, str]) -> dict[str, str]:
    """Leave out what a page of paper has no room for: the handles are the owner and the views."""
    cells = {**row, "dtype": f"{row['dtype']} {row['order']}".strip()}
    return {heading: cells[heading] for heading in row if heading not in _LEFT_OUT}


def _namespace(name: str, pages: Sequence[PageInfo], headings: Sequence[str]) -> str:
    at = headings.index("size")
    many = count(len(pages), "page")
    style = f"{ANYWHERE.format('left', '6em')};padding-top:.7em"
    number = f"{WRAPPED.format('right')};white-space:nowrap;padding-top:.7em;font-weight:600"
    return (
        f'<tr><th scope="rowgroup" colspan="{at}" style="{style}">{html.escape(name)} '
        f'<span style="font-weight:normal">{many}</span></th>'
        f'<td style="{number}">{in_units(sum(page.size_bytes for page in pages))}</td>'
        f'<td colspan="{len(headings) - at - 1}"></td></tr>'
    )


def _page(page: PageInfo, row: Mapping[str, str], words: Mapping[str, float]) -> str:
    cells = []
    for heading, cell in row.items():
        style = (ANYWHERE if heading in _LONG else WRAPPED).format(
            side(heading), f"{words[heading]:.1f}ch"
        )
        # The namespace stands above; the whole name is told to those who want to copy it.
        text = page.variable if heading == "page" else cell
        title = f' title="{html.escape(cell)}"' if heading == "page" else ""
        cells.append(f'<td style="{style}"{title}>{_breaking(text)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


_BREAK: Final = re.compile(r"(?<=[_.\-])(?=\w)")


def _longest_word(cell: str) -> int:
    """Return the length of the longest part between two places where a line may end."""
    return max(map(len, _BREAK.sub(" ", cell).split()), default=0)


def _breaking(cell: str) -> str:
    """Write text so that a line may end behind a dot or an underscore; a copy is the same."""
    return "<wbr>".join(map(html.escape, _BREAK.split(cell)))
