"""Which engines a call may use."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from memshare_jupyter.engines._alive import why_gone
from memshare_jupyter.engines._dask import is_dask, workers_of
from memshare_jupyter.engines.local import (
    LocalCluster,
    cluster_for_call,
    default_engines,
    number_of_processes,
    running_cluster,
)
from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from ipyparallel import Client, Cluster, DirectView

AnyCluster: TypeAlias = "Client | DirectView | Cluster | LocalCluster | None"
"""In words, for ipyparallel is not loaded before it is needed."""

_OURS: Final = "_memshare_client"

_in_use: tuple[int, AnyCluster] = (0, None)
"""The process that chose a cluster, and which: a client is of no use to a forked child."""


class Engine(NamedTuple):
    """An engine: the client that reaches it, and its number there.

    Without a client it is this process itself, which works for an engine and is in a call of its
    own.
    """

    client: Client | None
    number: int

    @property
    def follows(self) -> bool:
        """Whether it goes where this process goes: those of the local cluster do."""
        running = running_cluster()
        return running is not None and running.client is self.client


def use(cluster: AnyCluster) -> None:
    """Let calls of this process that name no cluster use this one; None for the local cluster."""
    global _in_use  # noqa: PLW0603 -- a process, as a notebook, has one
    _in_use = os.getpid(), cluster


def in_use(cluster: AnyCluster) -> AnyCluster:
    """Return the cluster that a call names; for None what `use` said in this process, or None."""
    process, chosen = _in_use
    return chosen if cluster is None and process == os.getpid() else cluster


def engines_of(cluster: AnyCluster = None, max_cores: int | None = None) -> list[Engine]:
    """Return the engines that a call may use.

    Parameters
    ----------
    cluster : Client, DirectView, Cluster, LocalCluster or None
        ipyparallel's, or ours; a dask Client; None means the local cluster, which is started if
        need be.
    max_cores : int, optional
        Use at most so many engines. The default is all of them, and with no `cluster` as many as
        `local_cluster` starts.

    Raises
    ------
    TypeError, ValueError
        `cluster` or `max_cores` is none of these.
    ClusterError
        The cluster has no engines.
    """
    # Imported here, because it brings cloudpickle, which those who detach views need not load.
    from memshare_jupyter.worker import engine_of_this_call  # noqa: PLC0415

    if cluster is None and (own := engine_of_this_call()) is not None:
        return [Engine(None, own)]
    max_cores = number_of_processes("max_cores", max_cores)
    client, ids = _client_and_ids(found := started(cluster, max_cores))
    if cluster is None and max_cores is None:
        max_cores = found.usual or default_engines()  # more were started for a call that said so
    if why := why_gone(client):
        raise ClusterError(
            f"the cluster cannot be used: {why}; connect a new client, or use a local cluster "
            "(cluster=local_cluster(); in a notebook %memshare cluster start)"
        )
    if not ids:
        raise ClusterError(
            "the cluster has no engines; start some (cluster.start_engines()), or wait for them "
            "(client.wait_for_engines(n))"
        )
    return [Engine(client, number) for number in ids[:max_cores]]


def are_replaced(cluster: AnyCluster) -> bool:
    """Say whether engines that die are replaced: those of the local cluster.

    Not if the user named a client or a view: its engines were chosen.
    """
    return cluster is None or isinstance(cluster, LocalCluster)


def replacements(cluster: AnyCluster, used: Iterable[int]) -> list[Engine]:
    """Start engines of the local cluster for those that died; return the new ones.

    Parameters
    ----------
    cluster : LocalCluster or None
        What the user named.
    used : iterable of int
        The engines that the call had so far.

    Raises
    ------
    ClusterError
        None could be started.
    """
    if cluster is None:
        cluster = running_cluster()
    if not isinstance(cluster, LocalCluster) or not cluster.running:
        return []
    cluster.grow(0, quiet=True)
    return [Engine(cluster.client, n) for n in sorted({*cluster.client.ids} - {*used})]


def started(cluster: AnyCluster, max_cores: int | None = None, *, quiet: bool = False) -> Any:
    """Return the cluster itself, or for None the local one, started with so many engines.

    Raises
    ------
    ValueError
        `max_cores` is no number of engines.
    """
    max_cores = number_of_processes("max_cores", max_cores)
    return cluster_for_call(max_cores, quiet=quiet) if cluster is None else cluster


def _client_and_ids(cluster: Any) -> tuple[Client, list[int]]:
    if isinstance(cluster, LocalCluster):
        return cluster.client, cluster._numbers()
    if is_dask(cluster):
        workers: Any = workers_of(cluster)
        return workers, workers.ids
    # Imported here, because it takes a quarter of a second that a mere look at pages need not.
    import ipyparallel as ipp  # noqa: PLC0415

    if isinstance(cluster, ipp.Cluster):
        cluster = _client_of(cluster)
    if isinstance(cluster, ipp.Client):
        return cluster, list(cluster.ids)
    if isinstance(cluster, ipp.DirectView):
        targets = cluster.targets
        if targets in (None, "all"):
            return cluster.client, list(cluster.client.ids)
        return cluster.client, [targets] if isinstance(targets, int) else list(targets)
    raise TypeError(
        f"cluster must be an ipyparallel Client, DirectView or Cluster, or a dask Client, not "
        f"{cluster!r}; pass the client, or client[:]"
    )


def _client_of(cluster: Cluster) -> Client:
    """Return our client of a cluster, which lives as long as that, or until it is restarted."""
    # Kept there and not here: the client knows its cluster, and a dictionary would keep both.
    client = getattr(cluster, _OURS, None)
    if client is not None and why_gone(client):
        client.close(linger=0)
        client = None
    if client is None:
        try:
            client = cluster.connect_client_sync()
        except Exception as error:
            raise ClusterError(
                f"the cluster cannot be reached ({error}); start it (cluster.start_cluster_sync())"
            ) from error
        setattr(cluster, _OURS, client)
    return client
