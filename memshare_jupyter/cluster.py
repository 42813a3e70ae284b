"""ipyparallel: which engines a call may use, and the way of a call to them and back."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from memshare_jupyter._local import LocalCluster, local_cluster
from memshare_jupyter.core.names import check_namespace, parse
from memshare_jupyter.core.process import registry
from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from ipyparallel import AsyncResult, Client, Cluster, DirectView

    AnyCluster: TypeAlias = Client | DirectView | Cluster | LocalCluster | None

Engine = tuple["Client", int]

_POLL_S: Final = 0.05
_CANCEL_S: Final = 0.5

_clients: weakref.WeakKeyDictionary[Any, Client] = weakref.WeakKeyDictionary()


def engines(cluster: AnyCluster = None, max_cores: int | None = None) -> list[Engine]:
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
    if max_cores is not None and (not isinstance(max_cores, int) or max_cores < 1):
        raise ValueError(f"max_cores must be a whole number of at least 1, not {max_cores!r}")
    if cluster is None:
        cluster = local_cluster(max_cores).view(max_cores)
    if isinstance(cluster, LocalCluster):
        cluster = cluster.view()
    client, ids = _client_and_ids(cluster)
    if not ids:
        raise ClusterError(
            "the cluster has no engines; start some (cluster.start_engines()), or wait for them "
            "(client.wait_for_engines(n))"
        )
    return [(client, engine) for engine in ids[:max_cores]]


def call(
    targets: Sequence[Engine],
    function: Callable[..., Any],
    arguments: Sequence[Any],
    stop: Callable[[], None],
    watch: Callable[[], None] = lambda: None,
) -> list[Any]:
    """Send each engine one message and wait for all answers.

    Parameters
    ----------
    targets : sequence of Engine
        The engines.
    function : callable
        Module-level function of this package.
    arguments : sequence
        The function's argument for each engine.
    stop : callable
        Tells the engines to stop early; called when waiting is interrupted or an engine fails.
    watch : callable, optional
        Called every twentieth of a second while waiting.

    Returns
    -------
    list
        What the function returned on each engine.

    Raises
    ------
    ClusterError
        An engine died, or cannot run this package.
    """
    pending: list[AsyncResult] = []
    try:
        for (client, engine), argument in zip(targets, arguments, strict=True):
            pending.append(client[engine].apply_async(function, argument))
        for (_, engine), answer in zip(targets, pending, strict=True):
            while not answer.wait(_POLL_S):
                watch()
            if not answer.successful():
                raise _lost(engine, answer)
    except BaseException:
        stop()
        for answer in pending:
            answer.wait(_CANCEL_S)
        raise
    return [answer.get() for answer in pending]


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
        An engine died, or cannot run this package.
    """
    let_go = {"here": collect((namespace, dry_run))}
    if cluster is not None:
        targets = engines(cluster)
        answers = call(targets, collect, [(namespace, dry_run)] * len(targets), lambda: None)
        let_go |= {f"engine {engine}": a for (_, engine), a in zip(targets, answers, strict=True)}
    return let_go


def collect(what: tuple[str | None, bool]) -> list[str]:
    """Release and detach what this process has of a namespace, or only tell; return the names."""
    namespace, dry_run = what
    if not dry_run:
        return registry().gc(namespace)[0]
    if namespace is not None:
        check_namespace(namespace)
    pages = {parse(name) for name in (*registry().pages(), *registry().views())}
    return sorted(str(page) for page in pages if namespace in (None, page.namespace))


def _client_and_ids(cluster: Any) -> tuple[Client, list[int]]:
    # Imported here, because it takes a quarter of a second that a mere look at pages need not.
    import ipyparallel as ipp  # noqa: PLC0415

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


def _lost(engine: int, answer: AsyncResult) -> ClusterError:
    error = answer.exception()
    text = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
    if "ModuleNotFoundError" in text:
        advice = "install memshare_jupyter in the engines' environment, in the same version"
    else:
        advice = "the engine may have been killed; start another and try again"
    message = f"engine {engine} did not finish the call ({text}); {advice}"
    return ClusterError(message, engine=engine)
