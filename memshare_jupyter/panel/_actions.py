"""What a click in the panel does, and what it then says."""

from __future__ import annotations

from typing import Any

from memshare_jupyter.apply import current_runs
from memshare_jupyter.core.api import release_variables, release_views
from memshare_jupyter.core.registry import PageInfo, registry
from memshare_jupyter.errors import MemshareError, PageNotFoundError


def perform(asked: dict[str, Any]) -> dict[str, Any]:
    """Do what was asked for; return whether it was done, and a sentence about it.

    Parameters
    ----------
    asked : dict
        ``action``: ``"release"`` or ``"detach"`` with the ``uuid`` of a page, ``"gc"`` with a
        ``namespace``, or ``"cancel"`` with the id of a ``run``.
    """
    try:
        return {"ok": True, "text": _ACTIONS[asked["action"]](asked)}
    except MemshareError as error:
        return {"ok": False, "text": str(error)}
    except Exception as error:  # noqa: BLE001 -- who clicked sees no traceback
        return {"ok": False, "text": f"{type(error).__name__}: {error}"}


def _release(asked: dict[str, Any]) -> str:
    page = _page(asked["uuid"])
    release_variables(page.namespace, page.variable)
    views = page.views
    if not views:
        return f"released {page.name}; its memory is free"
    viewers = "1 view keeps" if views == 1 else f"{views} views keep"
    return f"released {page.name}; {viewers} its memory until they end"


def _detach(asked: dict[str, Any]) -> str:
    page = _page(asked["uuid"])
    if release_views(page.namespace, page.variable):
        return f"detached {page.name}; the view ends with the arrays here that still use it"
    return f"detached {page.name}"


def _gc(asked: dict[str, Any]) -> str:
    let_go, in_use = registry().gc(asked["namespace"])
    if not let_go:
        return f"this kernel holds nothing of {asked['namespace']}"
    still = f"; arrays here still use {', '.join(in_use)}" if in_use else ""
    return f"let go: {', '.join(let_go)}{still}"


def _cancel(asked: dict[str, Any]) -> str:
    for run in current_runs():
        if run.id == asked["run"]:
            run.cancel()
            return f"cancelled {run.title}"
    return "the run has ended already"


def _page(uuid: str) -> PageInfo:
    for page in registry().snapshot().pages:
        if page.uuid == uuid:
            return page
    raise PageNotFoundError("that page is gone already; its last holder ended", uuid=uuid)


_ACTIONS = {"release": _release, "detach": _detach, "gc": _gc, "cancel": _cancel}
