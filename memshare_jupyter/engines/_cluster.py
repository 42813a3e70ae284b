"""ipyparallel: which engines a call may use, and the way of a call to them and back."""

from __future__ import annotations

import signal
import weakref
from collections.abc import Callable
from concurrent import futures
from typing import TYPE_CHECKING, Any, TypeAlias

from memshare_jupyter.core.names import check_namespace, parse
from memshare_jupyter.core.registry import registry
from memshare_jupyter.engines.local._cluster import LocalCluster, local_cluster
from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from ipyparallel import Client, Cluster, DirectView

    AnyCluster: TypeAlias = Client | DirectView | Cluster | LocalCluster | None

Engine = tuple["Client", int]

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


class Messages:
    """Messages to engines, each of which makes one run a function, and the answers.

    Attributes
    ----------
    answers : list
        What the functions returned, in the order of arrival.
    died : list of Engine
        The engines that will not answer any more.
    """

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.died: list[Engine] = []
        self._pending: dict[Any, Engine] = {}

    def send(self, engine: Engine, function: Callable[..., Any], *arguments: Any) -> None:
        """Have an engine call a module-level function of this package."""
        client, number = engine
        if number not in client.ids:
            self.died.append(engine)  # since it was listed
            return
        self._pending[client[number].apply_async(function, *arguments)] = engine

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for an answer or the time; say whether all are there.

        Raises
        ------
        ClusterError
            An engine cannot run this package.
        """
        self._collect(timeout_s, futures.FIRST_COMPLETED)
        return not self._pending

    def wait_for_all(self, timeout_s: float | None = None) -> bool:
        """Wait for all answers or the time; as `wait`."""
        self._collect(timeout_s, futures.ALL_COMPLETED)
        return not self._pending

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the functions that still run."""
        for client, number in self._pending.values():
            if number in client.ids:
                client.send_signal(signal.SIGINT, targets=number, block=False)

    def _collect(self, timeout_s: float | None, until: str) -> None:
        for answer in futures.wait(self._pending, timeout_s, until).done:
            engine = self._pending.pop(answer)
            error = answer.exception()
            if error is None:
                self.answers.append(answer.result())
            elif getattr(error, "ename", "") == "EngineError":
                self.died.append(engine)
            else:
                raise _unable(engine[1], error)


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
    """
    let_go = {"here": collect(namespace, dry_run=dry_run)}
    if cluster is not None:
        targets = engines(cluster)
        messages = Messages()
        for engine in targets:
            messages.send(engine, collect_on_engine, namespace, dry_run, engine[1])
        messages.wait_for_all()
        let_go |= dict(sorted(messages.answers))
    return let_go


def collect(namespace: str | None, *, dry_run: bool) -> list[str]:
    """Release and detach what this process has of a namespace, or only tell; return the names."""
    if not dry_run:
        return registry().gc(namespace)[0]
    if namespace is not None:
        check_namespace(namespace)
    pages = {parse(name) for name in (*registry().pages(), *registry().views())}
    return sorted(str(page) for page in pages if namespace in (None, page.namespace))


def collect_on_engine(namespace: str | None, dry_run: bool, engine: int) -> tuple[str, list[str]]:
    """Do that on an engine; return its name too."""
    return f"engine {engine}", collect(namespace, dry_run=dry_run)


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


def _unable(engine: int, error: BaseException) -> ClusterError:
    text = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
    if "ModuleNotFoundError" in text:
        advice = "install memshare_jupyter in the engines' environment, in the same version"
    else:
        advice = "see whether the engine is still there (client.ids), and try again"
    message = f"engine {engine} did not do its part ({text}); {advice}"
    return ClusterError(message, engine=engine)
