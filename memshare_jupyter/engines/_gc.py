"""Letting go of all that this process has, and that engines have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshare_jupyter.core.names import check_namespace, in_order, parse
from memshare_jupyter.core.registry import registry
from memshare_jupyter.engines._choose import engines_of
from memshare_jupyter.engines._messages import Messages

if TYPE_CHECKING:
    from memshare_jupyter.engines._choose import AnyCluster


def memshare_gc(
    namespace: str | None = None, cluster: AnyCluster = None, *, dry_run: bool = False
) -> dict[str, list[str]]:
    """Release all pages and detach all views of a namespace, here and on engines.

    Parameters
    ----------
    namespace : str, optional
        Name of the sharing context; by default all of them.
    cluster : Client, DirectView, Cluster, LocalCluster or None
        Do the same on its engines. None means this process only.
    dry_run : bool, default: False
        Only say what would be let go.

    Returns
    -------
    dict of str to list of str
        The pages let go, as ``namespace.variable``, by holder: ``"here"``, ``"engine 0"``, ...
        Memory that arrays still use is free when they are gone.

    Raises
    ------
    InvalidNameError
        `namespace` cannot be one.
    ClusterError
        An engine cannot run this package.

    Examples
    --------
    >>> import memshare_jupyter as ms
    >>> ms.register_variables("doc", {"y": [1, 2]})
    >>> ms.memshare_gc("doc")
    {'here': ['doc.y']}
    """
    let_go = {"here": _let_go(namespace, dry_run=dry_run)}
    if cluster is not None:
        messages = Messages()
        for engine in engines_of(cluster):
            messages.send(engine, _let_go_on_engine, namespace, dry_run, engine.number)
        messages.wait_for_all()
        let_go |= dict(sorted(messages.answers))
    return let_go


def _let_go(namespace: str | None, *, dry_run: bool) -> list[str]:
    """Release and detach what this process has of a namespace, or only tell; return the names."""
    if not dry_run:
        return registry().gc(namespace)[0]
    if namespace is not None:
        check_namespace(namespace)
    pages = {parse(name) for name in (*registry().pages(), *registry().views())}
    meant = [str(page) for page in pages if namespace in (None, page.namespace)]
    return sorted(meant, key=in_order)


def _let_go_on_engine(namespace: str | None, dry_run: bool, engine: int) -> tuple[str, list[str]]:
    """Do that on an engine; return its name too."""
    return f"engine {engine}", _let_go(namespace, dry_run=dry_run)
