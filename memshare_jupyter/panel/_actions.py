"""What a click in the panel does, and what it then says.

A question shows pages, and an answer is about these and no others: each is named by its uuid and
by when it was registered. What has been replaced since then is left alone, and so is what came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memshare_jupyter.apply import current_runs
from memshare_jupyter.core.quantities import in_units
from memshare_jupyter.core.registry import PageInfo, registry
from memshare_jupyter.display import some
from memshare_jupyter.errors import MemshareError, NotOwnerError, PageNotFoundError


def perform(asked: dict[str, Any]) -> dict[str, Any]:
    """Do what was asked for; return whether it was done, and a sentence about it.

    Parameters
    ----------
    asked : dict
        ``action``: ``"release"`` or ``"detach"`` with a ``page``, ``"gc"`` with a ``namespace``
        and the ``pages`` of it that the question showed, or ``"cancel"`` with the id of a ``run``.
        A page is its uuid and when it was registered.
    """
    try:
        return {"ok": True, "text": _ACTIONS[asked["action"]](asked)}
    except MemshareError as error:
        return {"ok": False, "text": str(error)}
    except Exception as error:  # noqa: BLE001 -- who clicked sees no traceback
        return {"ok": False, "text": f"{type(error).__name__}: {error}"}


def _release(asked: dict[str, Any]) -> str:
    page = _page(*asked["page"])
    if not _owned(page):
        raise NotOwnerError(_why_not_owned(page))
    ended, _ = registry().let_go([page], release=True, detach=False)
    left = _pages().get(page.uuid)
    if not ended:
        raise _anew(page)
    if left is None or not left.views:
        return f"released {page.name}; its memory is free"
    if left.views == 1:
        return f"released {page.name}; 1 view keeps its memory until it ends"
    return f"released {page.name}; {left.views} views keep its memory until they end"


def _detach(asked: dict[str, Any]) -> str:
    page = _page(*asked["page"])
    if not _viewed(page):
        raise PageNotFoundError(f"this kernel has no view of {page.name}", uuid=page.uuid)
    ended, in_use = registry().let_go([page], release=False, detach=True)
    if not ended:
        raise _anew(page)
    if in_use:
        return f"detached {page.name}; the view ends with the arrays here that still use it"
    return f"detached {page.name}"


def _gc(asked: dict[str, Any]) -> str:
    namespace, shown = str(asked["namespace"]), {tuple(page) for page in asked["pages"]}
    mine = {
        uuid: page
        for uuid, page in _pages().items()
        if page.namespace == namespace and (_owned(page) or _viewed(page))
    }
    meant = {u: page for u, page in mine.items() if (page.uuid, page.created) in shown}
    ended, in_use = registry().let_go(meant.values(), release=True, detach=True)
    # What came since is not what was asked about, nor is what replaced it.
    kept = [page for uuid, page in mine.items() if uuid not in meant]
    done = [page for page in meant.values() if page.name in ended]
    parts = [f"let go of {_listed(done) if done else f'nothing in {namespace}'}"]
    if kept:
        parts.append(f"kept {_listed(kept)}, not asked about")
    if in_use:
        parts.append(f"arrays here still use {some(in_use)}")
    return "; ".join(parts)


def _cancel(asked: dict[str, Any]) -> str:
    for run in current_runs():
        if run.id == asked["run"]:
            run.cancel()
            return f"cancelled {run.title}"
    return "the run has ended already"


def _pages() -> dict[str, PageInfo]:
    return {page.uuid: page for page in registry().snapshot().pages}


def _page(uuid: str, created: float) -> PageInfo:
    page = _pages().get(uuid)
    if page is None:
        raise PageNotFoundError("that page is gone already; its last holder ended", uuid=uuid)
    if page.created != created:
        raise _anew(page)
    return page


def _anew(page: PageInfo) -> PageNotFoundError:
    text = f"{page.name} was registered anew since you were asked, and is kept"
    return PageNotFoundError(text, uuid=page.uuid)


def _owned(page: PageInfo) -> bool:
    return any(holder.here and holder.role == "owner" for holder in page.holders)


def _viewed(page: PageInfo) -> bool:
    return any(holder.here and holder.role == "view" for holder in page.holders)


def _why_not_owned(page: PageInfo) -> str:
    owner = next((holder.pid for holder in page.holders if holder.role == "owner"), None)
    if owner is not None:
        return f"{page.name} is owned by process {owner}; release it there"
    if any(other.name == page.name and _owned(other) for other in _pages().values()):
        return f"{page.name} was replaced meanwhile: the new page is kept, the old one is draining"
    return f"{page.name} was let go by its owner already; it ends with its last view"


def _listed(pages: Iterable[PageInfo]) -> str:
    pages = list(pages)
    return f"{some([page.name for page in pages])} ({in_units(sum(p.size_bytes for p in pages))})"


_ACTIONS = {"release": _release, "detach": _detach, "gc": _gc, "cancel": _cancel}
