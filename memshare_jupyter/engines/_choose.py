"""Which engines a call may use."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from memshare_jupyter.engines.local import LocalCluster, local_cluster
from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from ipyparallel import Client, Cluster, DirectView

AnyCluster: TypeAlias = "Client | DirectView | Cluster | LocalCluster | None"
"""In words, for ipyparallel is not loaded before it is needed."""

_clients: weakref.WeakKeyDictionary[Any, Client] = weakref.WeakKeyDictionary()


class Engine(NamedTuple):
    """An engine: the client that reaches it, and its number there."""

    client: Client
    number: int


def engines_of(cluster: AnyCluster = None, max_cores: int | None = None) -> list[Engine]:
    """Return the engines that a call may use.

    Parameters
    ----------
    cluster : Client, DirectView, Cluster, LocalCluster or None
        ipyparallel's, or ours; None means the local cluster, which is started if need be.
    max_cores : int, optional
        Use at most so many engines; with no `cluster`, start so many. The default is all of
        them, and with no `cluster` the cores less one, at least one.

    Raises
    ------
    TypeError, ValueError
        `cluster` or `max_cores` is none of these.
    ClusterError
        The cluster has no engines.
    """
    client, ids = _client_and_ids(started(cluster, max_cores))
    if not ids:
        raise ClusterError(
            "the cluster has no engines; start some (cluster.start_engines()), or wait for them "
            "(client.wait_for_engines(n))"
        )
    return [Engine(client, number) for number in ids[:max_cores]]


def started(cluster: AnyCluster, max_cores: int | None = None, *, quiet: bool = False) -> Any:
    """Return the cluster itself, or for None the local one, started with so many engines.

    Raises
    ------
    ValueError
        `max_cores` is no number of engines.
    """
    if max_cores is not None and (not isinstance(max_cores, int) or max_cores < 1):
        raise ValueError(f"max_cores must be a whole number of at least 1, not {max_cores!r}")
    return local_cluster(max_cores, quiet=quiet) if cluster is None else cluster


def _client_and_ids(cluster: Any) -> tuple[Client, list[int]]:
    # Imported here, because it takes a quarter of a second that a mere look at pages need not.
    import ipyparallel as ipp  # noqa: PLC0415

    if isinstance(cluster, LocalCluster):
        cluster = cluster.view()
    if isinstance(cluster, ipp.Cluster):
        if cluster not in _clients:
            _clients[cluster] = cluster.connect_client_sync()
        cluster = _clients[cluster]
    if isinstance(cluster, ipp.Client):
        return cluster, list(cluster.ids)
    if isinstance(cluster, ipp.DirectView):
        targets = cluster.targets
        if targets in (None, "all"):
            return cluster.client, list(cluster.client.ids)
        return cluster.client, [targets] if isinstance(targets, int) else list(targets)
    raise TypeError(
        f"cluster must be an ipyparallel Client, DirectView or Cluster, not {cluster!r}; "
        "pass the client, or client[:]"
    )
