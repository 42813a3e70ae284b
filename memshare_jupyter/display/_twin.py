"""The panel's table as HTML that needs no script: what a notebook without a kernel shows."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from typing import Final

from memshare_jupyter.core.quantities import count, in_units
from memshare_jupyter.core.registry import PageInfo
from memshare_jupyter.display._tables import PageTable

_ROWS: Final = 200
"""More would make the notebook's file large, for a table that nobody reads to its end."""


def twin(pages: Sequence[PageInfo], namespace: str | None, css_class: str) -> dict[str, str]:
    """Return the table as a bundle of text and HTML.

    Parameters
    ----------
    pages : sequence of PageInfo
        What to show.
    namespace : str or None
        The namespace of the panel, if it has one.
    css_class : str
        Class of the outermost element, by which the live view hides it.
    """
    shown = PageTable(pages[:_ROWS])
    what = "Shared memory" if namespace is None else f"Shared memory of {namespace}"
    total = f"{count(len(pages), 'page')}, {in_units(sum(p.size_bytes for p in pages))}"
    at = time.strftime("%Y-%m-%d %H:%M:%S")
    more = len(pages) - len(shown)
    rest = f"<div>and {count(more, 'page')} more</div>" if more else ""
    body = (shown._repr_html_() if pages else "") + rest
    title = f"{what}, as of {at}: {total}"
    return {
        "text/plain": f"{title}\n{shown!r}" if pages else title,
        "text/html": f'<div class="{css_class}"><div>{html.escape(title)}</div>{body}</div>',
    }
