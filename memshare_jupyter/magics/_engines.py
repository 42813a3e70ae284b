"""The engines that the magics of a notebook use: its local cluster, or one it adopted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from IPython import get_ipython
from IPython.core.error import UsageError

from memshare_jupyter.display import count
from memshare_jupyter.engines import Messages, engines_of, started
from memshare_jupyter.engines.local import default_engines, local_cluster, running_cluster

if TYPE_CHECKING:
    from ipyparallel import Client

    from memshare_jupyter.engines import Engine
    from memshare_jupyter.magics._notebook import Notebook


class Engines:
    """Chooses engines by the options of a line.

    Parameters
    ----------
    notebook : Notebook
        Where clusters are looked up by name.
    """

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._adopted: tuple[str, Any] | None = None

    def start(self, n: int | None, *, quiet: bool) -> str:
        """Start a local cluster, or what it lacks, and use it from now on."""
        self._adopted = None
        _point_px_to(local_cluster(n, quiet=quiet).client)
        return self.status()

    def stop(self) -> str:
        """Stop the local cluster; one that was adopted is only let go."""
        if self._adopted is not None:
            name, self._adopted = self._adopted[0], None
            return f"{name} is no longer used; its engines go on"
        running = running_cluster()
        if running is None:
            return "no local cluster is running"
        n = running.n
        running.stop()
        return f"stopped the local cluster of {count(n, 'engine')}"

    def adopt(self, name: str) -> str:
        """Use a cluster of the notebook from now on."""
        found = self._notebook.value(name)
        try:
            client = engines_of(found)[0].client
        except TypeError as error:
            raise UsageError(
                f"{name} is a {type(found).__name__}; %memshare cluster takes start, status, stop, "
                "or a variable with an ipyparallel Client, DirectView or Cluster"
            ) from error
        self._adopted = name, found
        _point_px_to(client)
        return self.status()

    def status(self) -> str:
        """Say which engines the magics use."""
        if self._adopted is not None:
            name, found = self._adopted
            return f"the magics use {name}: {_listed(engines_of(found))}"
        if (running := running_cluster()) is None:
            return (
                "no cluster yet: the first %memapply starts a local one, as does %memshare cluster "
                "start; %memshare cluster NAME uses one that you have"
            )
        return f"the magics use the local cluster: {_listed(engines_of(running))}"

    def count(self) -> int:
        """Return how many engines there are, or would be; starts none."""
        if self._adopted is not None:
            return len(engines_of(self._adopted[1]))
        running = running_cluster()
        return running.n if running is not None else default_engines()

    def present(self) -> Any:
        """Return the cluster in use, or None; starts none."""
        return running_cluster() if self._adopted is None else self._adopted[1]

    def cluster(
        self, name: str | None, targets: str | None, max_cores: int | None, *, quiet: bool
    ) -> Any:
        """Return what `memapply` takes as its cluster; None lets it start the local one."""
        if name is not None:
            found = self._notebook.value(name)
        elif self._adopted is not None:
            found = self._adopted[1]
        elif targets is not None or quiet:
            found = started(None, max_cores, quiet=quiet)
        else:
            return None
        if targets is None:
            return found
        engines = engines_of(found)
        ids = chosen_ids(targets, [engine.number for engine in engines])
        client: Any = engines[0].client
        return client.direct_view(ids)

    def on_each(
        self, targets: str, act: Callable[..., str], *arguments: Any, every: bool, quiet: bool
    ) -> str:
        """Call a function of this package on engines; return which they were, for a message.

        It is called with the engine's number and `arguments`, and returns what went wrong. That is
        raised as a `UsageError`: of any engine if it has to work on `every` one, else if it worked
        on none.
        """
        chosen = engines_of(self.cluster(None, targets, None, quiet=quiet))
        _point_px_to(chosen[0].client)
        messages = Messages()
        for engine in chosen:
            messages.send(engine, act, engine.number, *arguments)
        messages.wait_for_all()
        wrong = sorted(filter(None, messages.answers))
        if wrong and (every or len(wrong) == len(messages.answers)):
            raise UsageError("\n".join(wrong))
        ids = [engine.number for engine in chosen if engine not in messages.died]
        return f"{'engine' if len(ids) == 1 else 'engines'} {_numbers(ids)}"


def chosen_ids(targets: str, ids: Sequence[int]) -> list[int]:
    """Read which engines are meant: ``all``, ``0,2``, or a slice of them such as ``1:3``.

    >>> chosen_ids("all", [0, 1, 2]), chosen_ids("0,2", [0, 1, 2]), chosen_ids("::2", [4, 5, 6])
    ([0, 1, 2], [0, 2], [4, 6])
    """
    if targets == "all":
        return list(ids)
    numbers = targets.strip("[]")
    with contextlib.suppress(ValueError):
        if ":" in numbers:
            wanted = list(ids[slice(*(int(n) if n else None for n in numbers.split(":")))])
            if not wanted:
                raise UsageError(f"no engine is in {targets}; there are {_numbers(ids)}")
            return wanted
        wanted = [int(n) for n in numbers.split(",")]
        if missing := [n for n in wanted if n not in ids]:
            raise UsageError(f"there is no engine {missing[0]}; there are {_numbers(ids)}")
        return wanted
    raise UsageError(f"engines are written all, 0,2 or 1:3, not {targets!r}")


def _point_px_to(client: Client) -> None:
    """Let ``%%px`` run where the magics do, as ipyparallel lets it for the first client."""
    shell = get_ipython()
    px = shell.magics_manager.magics["cell"].get("px") if shell is not None else None
    view = getattr(getattr(px, "__self__", None), "view", None)
    if view is None or view.client is not client:
        client.activate()


def _listed(engines: Sequence[Engine]) -> str:
    return f"{count(len(engines), 'engine')} ({_numbers([engine.number for engine in engines])})"


def _numbers(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))
