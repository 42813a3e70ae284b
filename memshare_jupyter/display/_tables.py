"""Tables of pages, as text and as HTML: what `%memshare` shows of a snapshot."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from memshare_jupyter.core.blocks import share_bytes
from memshare_jupyter.core.quantities import age, count, in_units
from memshare_jupyter.core.registry import Holder, PageInfo, Snapshot
from memshare_jupyter.display._grouped import grouped
from memshare_jupyter.display._style import CELL, HEAD, NOTE, TABLE, side

_MOST_ROWS: Final = 200
"""Of more, HTML shows these: a browser takes its time, and nobody reads to the end."""
_MOST_NAMES: Final = 5
"""A sentence lists so many."""
_LINE: Final = 120
"""Characters that a line of text may have, as far as that can be had."""
_TIGHT: Final = {"kind": 10, "dtype": 9}
"""Characters that these columns are cut to then; the others hold names, or are short."""
_UNSHARED_BYTES: Final = 1_000_000
_UNSHARED_PART: Final = 0.1


class Table:
    """Rows of text under headings, with a note below; rich where the front end is.

    Parameters
    ----------
    rows : sequence of mapping of str to str
        The cells of each row by heading; every row has the same headings.
    note : str, optional
        What stands below the rows, or for them when there are none.
    """

    def __init__(self, rows: Sequence[Mapping[str, str]], note: str = "") -> None:
        self.rows = rows
        self.note = note

    def __repr__(self) -> str:
        if not self.rows:
            return self.note
        for gap, most in ((2, {}), (2, _TIGHT), (1, _TIGHT)):
            lines = _aligned(self.rows, gap, most)
            if max(map(len, lines)) <= _LINE:
                break
        return "\n".join([*lines, *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        note = f'<div style="{NOTE}">{html.escape(self.note)}</div>' if self.note else ""
        if not self.rows:
            return note
        heads = "".join(
            f'<th scope="col" style="{HEAD.format(side(h))}">{html.escape(h)}</th>'
            for h in self.rows[0]
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="{CELL.format(side(h))}">{html.escape(cell)}</td>'
                for h, cell in row.items()
            )
            + "</tr>"
            for row in self.rows[:_MOST_ROWS]
        )
        table = (
            f'<table style="{TABLE}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        )
        return f"{table}{self._rest}{note}"

    @property
    def _rest(self) -> str:
        more = len(self.rows) - _MOST_ROWS
        return f'<div style="{NOTE}">and {count(more, "line")} more</div>' if more > 0 else ""


class PageTable(Table):
    """Pages of any namespace, one a line, and who has them; as HTML they stand in groups.

    Parameters
    ----------
    pages : iterable of PageInfo
        What to show, in this order.
    note : str, optional
        A line below the table, by default the sum.
    """

    def __init__(self, pages: Iterable[PageInfo], note: str = "") -> None:
        self.pages = tuple(pages)
        super().__init__([_row(page) for page in self.pages], note or _sum(self.pages))

    def __len__(self) -> int:
        return len(self.pages)

    def _repr_html_(self) -> str:
        if not self.pages:
            return super()._repr_html_()
        table = grouped(self.pages[:_MOST_ROWS], self.rows[:_MOST_ROWS])
        note = f'<div style="{NOTE}">{html.escape(self.note)}</div>' if self.note else ""
        return f"{table}{self._rest}{note}"


def registered(pages: Sequence[PageInfo], processes: int, note: str) -> Table:
    """Return a table of pages just registered, and what a copy in each process would take."""
    copies = f"{processes} copies"
    rows = [{**_value(page), copies: in_units(page.size_bytes * processes)} for page in pages]
    notes = [f"{page.name}: {text}" for page in pages if (text := unshared(page))]
    return Table(rows, "\n".join([note, *notes]))


def unshared(page: PageInfo) -> str:
    """Say how much of a page is not shared, if that is worth a word; else return ""."""
    if page.unshared_bytes < max(_UNSHARED_BYTES, page.size_bytes * _UNSHARED_PART):
        return ""
    return (
        f"{in_units(min(page.unshared_bytes, page.size_bytes))} of it not shared (Python objects, "
        "or what its class copies): each process makes its own"
    )


def details(pages: Sequence[PageInfo]) -> Table:
    """Return a table of the holders of pages, with what there is to know of each page below."""
    now = time.time()
    holders = (holder for page in pages for holder in page.holders)
    shares = {h.session: share_bytes(h.pid, h.pid_namespace) for h in holders}
    rows = [
        {
            "page": page.name,
            "holder": _process(holder),
            "pid": str(holder.pid),
            "role": holder.role,
            "since": age(now - holder.since),
            "resident": in_units(shares[holder.session].get(page.uuid, 0)),
        }
        for page in pages
        for holder in page.holders
    ]
    return Table(rows, "\n".join(_sentence(page, now) for page in pages))


def some(names: Iterable[str]) -> str:
    """List the first names and how many more there are.

    >>> some(["a", "b"]), some("abcdef")
    ('a, b', 'a, b, c, d and 2 more')
    """
    names = list(names)
    shown = names if len(names) <= _MOST_NAMES else names[: _MOST_NAMES - 1]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def shape(dimensions: tuple[int, ...]) -> str:
    """Write a shape as ``3 × 4``; a single value as ``scalar``."""
    return " × ".join(f"{n:,}" for n in dimensions) or "scalar"


def _value(page: PageInfo) -> dict[str, str]:
    return {
        "page": page.name,
        "kind": page.kind,
        "shape": shape(page.shape) if page.shape or page.kind == "array" else "",
        "dtype": page.dtype,
        "order": page.order,
        "size": in_units(page.size_bytes),
    }


def _sentence(page: PageInfo, now: float) -> str:
    _, *value = filter(None, _value(page).values())
    mode = "writable for viewers (r+)" if page.writable else "read-only for viewers"
    text = (
        f"{page.name}: {' '.join(value)}, {mode}, {_state(page)}, "
        f"registered {age(now - page.created)} ago by process {page.owner_pid}"
    )
    return f"{text}; {part}" if (part := unshared(page)) else text


def _row(page: PageInfo) -> dict[str, str]:
    return {
        **_value(page),
        "owner": _owner(page),
        "views": str(page.views),
        "handles": str(page.handles),
        "mode": "r+" if page.writable else "r",
        "age": age(time.time() - page.created),
        "state": _state(page),
    }


def _owner(page: PageInfo) -> str:
    for holder in page.holders:
        if holder.role == "owner":
            return _process(holder, with_pid=True)
    return "gone" if page.state == "orphaned" else "let it go"


def _process(holder: Holder, *, with_pid: bool = False) -> str:
    """Say which process it is: ``this notebook``, ``rna.ipynb (4711)`` or ``engine 0 (4711)``."""
    label = holder.label or "process"
    if holder.here:
        return "this notebook" if label.endswith(".ipynb") else f"this {label}"
    return f"{label} ({holder.pid})" if with_pid else label


def _state(page: PageInfo) -> str:
    return "active" if page.state == "writable" else page.state


def _sum(pages: Sequence[PageInfo]) -> str:
    if not pages:
        return "nothing is shared; to share the arrays that a cell makes: %%memshare register NAME"
    now = Snapshot(tuple(pages))
    spaces = count(len({page.namespace for page in pages}), "namespace")
    text = f"{count(len(pages), 'page')} in {spaces}, {in_units(now.shared_bytes)} shared"
    if now.copies_bytes > now.shared_bytes:
        text += f"; with a copy for each holder it would be {in_units(now.copies_bytes)}"
    return text


def _aligned(rows: Sequence[Mapping[str, str]], gap: int, most: Mapping[str, int]) -> list[str]:
    """Return headings and rows as lines of text; columns in `most` are cut to so many characters.

    Of a class its name is kept, not its package.
    """
    columns = []
    for heading in rows[0]:
        cells = [heading, *(row[heading] for row in rows)]
        limit = most.get(heading, _LINE)
        if heading == "kind":
            cells = [cell if len(cell) <= limit else f"…{cell[1 - limit :]}" for cell in cells]
        elif heading in most:
            cells = [cell if len(cell) <= limit else f"{cell[: limit - 1]}…" for cell in cells]
        width = max(map(len, cells))
        align = str.rjust if side(heading) == "right" else str.ljust
        columns.append([align(cell, width) for cell in cells])
    return [(" " * gap).join(line).rstrip() for line in zip(*columns, strict=True)]
