"""Views under names of a notebook or an engine: what ``%memshare attach`` and ``detach`` do there.

Engines import this module and call its functions, so it needs nothing of IPython to be imported.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from typing import Any, Final

from memshare_jupyter.core.api import retrieve_metadata
from memshare_jupyter.core.blocks import Mode
from memshare_jupyter.core.names import PageName, parse
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import View
from memshare_jupyter.core.views import release_views, retrieve_views, view_list
from memshare_jupyter.errors import MemshareError

_bound: Final[dict[str, tuple[PageName, int]]] = {}
"""By name: the page that was attached under it, and the id of the value.

A list or frame does not tell on which page it is, and cannot all be referred to weakly.
"""


def attach(names: Mapping[str, PageName], user_ns: dict[str, Any], mode: Mode = "r") -> None:
    """Put views of pages into a notebook's namespace: all, or none and an error.

    Parameters
    ----------
    names : mapping of str to PageName
        The page for each name.
    user_ns : dict
        Where the names go.
    mode : {"r", "r+", "c"}
        As in `retrieve_views`, whose errors are raised.
    """
    for page in names.values():
        retrieve_metadata(*page)  # so that nothing is attached when one is missing
    views = {name: retrieve_views(*page, mode)[page.variable] for name, page in names.items()}
    for name, view in views.items():
        bind(name, names[name], view, user_ns)


def bind(name: str, page: PageName, view: Any, user_ns: dict[str, Any]) -> None:
    """Put one view into a notebook's namespace."""
    user_ns[name] = view
    _bound[name] = page, id(view)


def detach(pages: Iterable[PageName], user_ns: dict[str, Any]) -> list[str]:
    """End this process's views of pages, and remove the names that stand for them.

    Returns
    -------
    list of str
        The pages that arrays of this process still use; their handles end with the arrays.

    Raises
    ------
    PageNotFoundError
        This process has no view of one of them. Nothing was detached.
    """
    value = None
    pages = list(pages)
    if missing := [page for page in pages if str(page) not in view_list()]:
        release_views(missing[0].namespace, missing[0].variable)  # which says what there is
    for name, value in list(user_ns.items()):
        page = page_of(name, value)
        # What the user made of a view, such as a slice, stays.
        if page in pages and (name in _bound or name == page.variable):
            del user_ns[name]
            _bound.pop(name, None)
    del value
    in_use = [str(page) for page in pages if release_views(*page)]
    if in_use:
        gc.collect()  # the parts of a frame refer to each other, and to the memory
    return [name for name in in_use if name in view_list()]


def page_of(name: str, value: Any) -> PageName | None:
    """Return the page that a notebook's variable is a view of; None if it is an ordinary value."""
    page, identity = _bound.get(name, (None, 0))
    if page is not None and identity == id(value):
        return page
    return parse(value.page) if isinstance(value, View) and value.page else None


def attach_on_engine(engine: int, names: Mapping[str, PageName], mode: Mode) -> str:
    """Do `attach` in the namespace of an engine; return what was wrong, or nothing."""
    return _on_engine(engine, lambda user_ns: attach(names, user_ns, mode))


def detach_on_engine(engine: int, pages: Iterable[PageName]) -> str:
    """Do `detach` in the namespace of an engine; return what was wrong, or nothing."""
    return _on_engine(engine, lambda user_ns: detach(pages, user_ns))


def _on_engine(engine: int, act: Any) -> str:
    # Imported here, because only engines have a shell for sure.
    from IPython import get_ipython  # noqa: PLC0415

    registry().label(f"engine {engine}")
    try:
        act(get_ipython().user_ns)
    except MemshareError as error:
        return f"engine {engine}: {error}"
    return ""
