"""A local ipyparallel cluster that starts in under a second and ends with its owner.

`local_cluster` is the door. The processes are started, watched and ended by the tether
(`_tether.py`), a child of this process that outlives it just long enough to clean up.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING

from memshare_jupyter.core.quantities import count
from memshare_jupyter.engines.local._cores import (
    default_engines,
    number_of_processes,
    usable_cores,
)
from memshare_jupyter.engines.local._link import TetherLink
from memshare_jupyter.engines.local._starting import starting
from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipyparallel import Client, DirectView


class _State:
    """What this process knows; a forked child starts with a new one."""

    def __init__(self, inherited: LocalCluster | None = None) -> None:
        self.lock = threading.Lock()
        self.cluster: LocalCluster | None = None
        self.inherited = inherited  # kept, since collecting a client touches shared sockets


_state = _State()


def local_cluster(n: int | None = None, *, quiet: bool = False) -> LocalCluster:
    """Return this process's local cluster, starting it or what it lacks.

    The first call starts a controller and `n` engines on this host; later calls return the
    same cluster. It ends with this process, however that ends: a normal exit, a kernel
    restart, SIGTERM or SIGKILL. A forked child does not inherit it and may start its own.

    Parameters
    ----------
    n : int, optional
        How many engines are needed at least. By default as many as the cluster has, or one
        less than this process may use cores, but two where there are two; a control group's
        quota and its memory count. If more engines are running they stay: take ``.view(n)``.
    quiet : bool, default False
        Do not show the line of progress: ordinary output of a notebook, else on standard error.

    Returns
    -------
    LocalCluster
        Kept until this process ends; need not be stopped.

    Raises
    ------
    ValueError
        If `n` is no whole number of at least 1.
    ClusterError
        If the cluster, or an engine that was missing, did not start; the end of the log is
        in the message. Nothing of what failed is left running. Also on any system but Linux.

    Notes
    -----
    Engines that have died since the last call are replaced, by engines with new numbers;
    if the controller has died, everything is started afresh and the earlier `LocalCluster`
    remains stopped. The line of progress says so. Engines start in the current directory,
    with the environment and ``sys.path`` of the first call, in a session of their own:
    Ctrl-C in a terminal does not reach them. Their files live in a private temporary
    directory, and configuration in IPython profiles does not apply to them. Connections are
    authenticated and restricted to the loopback interface.

    Examples
    --------
    >>> from memshare_jupyter import local_cluster
    >>> cluster = local_cluster(1, quiet=True)
    >>> cluster.view(1).apply_sync(abs, -3)
    [3]
    """
    n = number_of_processes("n", n)
    cluster = _running(n, quiet=quiet)
    cluster.usual = max(cluster.usual, n or cluster.n)
    return cluster


def cluster_for_call(max_cores: int | None, *, quiet: bool = False) -> LocalCluster:
    """Return the local cluster, with as many engines as a call needs that has no other.

    Parameters
    ----------
    max_cores : int, optional
        At most so many: no more than there are cores, or `local_cluster` was asked for. By default
        as many as that was asked for, if it was.
    quiet : bool, default False
        As there.
    """
    current = running_cluster()
    usual = current.usual if current is not None else 0
    most = max_cores and min(max_cores, max(usual, usable_cores()))
    return _running(most or usual or default_engines(), quiet=quiet)


def _running(n: int | None, *, quiet: bool) -> LocalCluster:
    with _state.lock:
        cluster, lost = _state.cluster, ""
        if cluster is not None:
            lost = cluster.take_losses()
            if cluster.running:
                cluster.grow(n or 0, lost, quiet=quiet)
                return cluster
            if lost:  # rather than stopped by the user
                n = max(n or 0, cluster.target)
        usual = cluster.usual if cluster is not None and lost else 0
        _state.cluster = None
        _state.cluster = LocalCluster(n or default_engines(), lost, quiet=quiet)
        _state.cluster.usual = usual
        return _state.cluster


def running_cluster() -> LocalCluster | None:
    """Return this process's local cluster if one is running; starts none."""
    cluster = _state.cluster
    return cluster if cluster is not None and cluster.running else None


class LocalCluster:
    """A controller and engines on this host. Made by `local_cluster`, not directly.

    Attributes
    ----------
    client : ipyparallel.Client
        Connected to the cluster; closed when the cluster stops.
    target : int
        How many engines there are when none has died.
    usual : int
        How many of them a call uses that does not say; 0 if that was not said either.

    Examples
    --------
    >>> from memshare_jupyter import local_cluster
    >>> cluster = local_cluster(1, quiet=True)
    >>> cluster.running, cluster.n >= 1
    (True, True)
    """

    client: Client

    def __init__(self, n: int, lost: str = "", *, quiet: bool = False) -> None:
        if sys.platform != "linux":
            message = "local_cluster() needs Linux; start an ipyparallel.Cluster and use its client"
            raise ClusterError(message)
        self._owner = os.getpid()
        self._numbered = 0  # engines are numbered from 0 and no number is used twice
        self.target = self.usual = 0
        self._stopped = False
        self._ends: list[Callable[[], None]] = []
        with starting(f"{lost}starting a local cluster of {count(n, 'engine')}", quiet=quiet):
            self._link = TetherLink()
            atexit.register(self.stop)
            try:
                from ipyparallel import Client  # noqa: PLC0415  (while the tether does the same)

                self._link.wait(lambda: bool(self._link.connection))
                directory = self._link.directory  # else it would make ~/.ipython
                self.client = Client(
                    self._link.connection, profile_dir=directory, ipython_dir=directory
                )
                self._start(n)
            except BaseException:  # an interrupt too: nothing is to be left running
                self.stop()
                raise

    def __repr__(self) -> str:
        return f"<LocalCluster: {count(self.n, 'engine') if self.running else 'stopped'}>"

    @property
    def running(self) -> bool:
        """Whether it is this process's own, and its controller alive."""
        self._link.listen()
        return not self._link.end and self._owner == os.getpid()

    @property
    def n(self) -> int:
        """How many engines are alive."""
        return len(self._link.engines) if self.running else 0

    def view(self, n: int | None = None) -> DirectView:
        """Return a ``DirectView`` of the first `n` engines, by default of all.

        Raises
        ------
        ClusterError
            If fewer than `n` engines are alive, the cluster has stopped, or it belongs to the
            parent of this process.
        """
        engines = self._numbers()
        if n is not None and not 1 <= n <= len(engines):
            message = f"no view of {count(n, 'engine')} in a cluster of {len(engines)}"
            raise ClusterError(message)
        return self.client.direct_view(targets=engines[:n])

    def _numbers(self) -> list[int]:
        """Return the numbers of the engines that are alive; raise if it has stopped, as `view`."""
        if not self.running:
            why = self._link.end or f"it belongs to process {self._owner}"
            message = f"this local cluster cannot be used: {why}; call local_cluster() again"
            raise ClusterError(message)
        return sorted(self._link.engines)

    def stop(self) -> None:
        """End controller and engines; return when they and their files are gone.

        Takes 0.1 s if the engines are idle; one that does not react is killed after a
        second. May be called again. In a forked child it does nothing.
        """
        if self._owner != os.getpid():
            return
        self._stopped = True
        atexit.unregister(self.stop)
        while self._ends:
            self._ends.pop()()
        if "client" in self.__dict__:
            self.client.close(linger=0)
        self._link.close()

    def _at_end(self, act: Callable[[], None]) -> None:
        """Have something done when the cluster is stopped."""
        self._ends.append(act)

    def take_losses(self) -> str:
        """Say once, as the start of a message, what has died; stop what is left of a ruin."""
        if self._stopped:
            return ""
        if not self.running:
            self._link.losses.append(self._link.end)
            self.stop()
        losses = " and ".join(self._link.losses)
        self._link.losses.clear()
        return losses and f"{losses}: "

    def grow(self, n: int, lost: str = "", *, quiet: bool = False) -> None:
        """Start what is missing from `n` engines and from as many as there once were."""
        while True:
            missing = max(n, self.target) - self.n
            if missing > 0:
                with starting(f"{lost}starting {count(missing, 'engine')}", quiet=quiet):
                    self._start(missing)
            else:
                self._start(0)  # an interrupt may have ended the wait of an earlier call
            lost = self.take_losses()  # others may have died meanwhile
            if not lost:
                return

    def detach(self) -> None:
        """Let go of the owner's resources in a forked child."""
        self._link.detach()

    def _start(self, n: int) -> None:
        """Start `n` more engines and wait until all of them can be used."""
        new = range(self._numbered, self._numbered + n)
        if n:
            self._link.start(new)
            self._numbered += n
            self.target = max(self.target, len(self._link.engines))
        self._link.wait(lambda: self._link.engines <= {*self.client.ids}, new)


def _after_fork() -> None:
    cluster = _state.cluster
    if cluster is not None:
        cluster.detach()
    _state.__init__(cluster)  # type: ignore[misc]  # everything anew, the lock above all


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
