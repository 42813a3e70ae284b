"""ipyparallel's ``%%px`` in a notebook: where it runs, and what other clients there are."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from IPython import get_ipython

if TYPE_CHECKING:
    from ipyparallel import Client, DirectView


def active_view() -> DirectView | None:
    """Return where ``%%px`` runs, if it can run anywhere."""
    shell = get_ipython()
    px = shell.magics_manager.magics["cell"].get("px") if shell is not None else None
    view = getattr(getattr(px, "__self__", None), "view", None)
    return view if view is not None and is_open(view.client) else None


def clients_in(values: Iterable[Any]) -> list[Client]:
    """Return the clients among the values of a notebook that are open, each once."""
    ipyparallel = sys.modules.get("ipyparallel")
    if ipyparallel is None:
        return []
    found = [v for v in values if isinstance(v, ipyparallel.Client) and is_open(v)]
    return list({id(client): client for client in found}.values())


def is_open(client: Client) -> bool:
    """Say whether a client has not been closed."""
    return not client._closed
