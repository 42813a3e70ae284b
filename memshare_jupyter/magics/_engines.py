"""The engines that the magics of a notebook use: its local cluster, or one it adopted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from memshare_jupyter.core.quantities import count
from memshare_jupyter.engines import Messages, engines_of, started, use
from memshare_jupyter.engines.local import default_engines, local_cluster, running_cluster
from memshare_jupyter.magics._px import active_view, clients_in, is_open

if TYPE_CHECKING:
    from ipyparallel import Client, DirectView

    from memshare_jupyter.core.names import PageName
    from memshare_jupyter.engines import Engine
    from memshare_jupyter.engines.hosts import Host, Path
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
        self._local = False  # the user asked for the local cluster
        self._started = False  # a line of this extension has started it
        self._px_before: DirectView | None = None
        self._told: Any = None

    def start(self, n: int | None, *, quiet: bool) -> str:
        """Start a local cluster, or what it lacks, and use it from now on."""
        self._adopted, self._local = None, True
        use(None)
        self._about_to_start()
        cluster = local_cluster(n, quiet=quiet)
        pointed = self._point_px_to(cluster.client)
        return self.status() + pointed

    def stop(self) -> str:
        """Stop the local cluster; one that was adopted is only let go. ``%%px`` is given back."""
        self._local = False
        if self._adopted is not None:
            name, self._adopted = self._adopted[0], None
            use(None)
            return f"{name} is no longer used; its engines go on{self._give_px_back()}"
        running = running_cluster()
        if running is None:
            return "no local cluster is running"
        n = running.n
        running.stop()
        self._started = False
        return f"stopped the local cluster of {count(n, 'engine')}{self._give_px_back()}"

    def end(self) -> None:
        """End the local cluster, if a line of this extension has started it; use no other."""
        use(None)
        running = running_cluster()
        if self._started and running is not None:
            running.stop()
        self._give_px_back()

    def adopt(self, name: str) -> str:
        """Use a cluster of the notebook from now on, for the functions' calls, too."""
        found = self._notebook.value(name)
        try:
            client: Any = engines_of(found)[0].client
        except TypeError as error:
            raise UsageError(
                f"{name} is a {type(found).__name__}; %memshare cluster takes start, status, stop, "
                "or a variable with an ipyparallel Client, DirectView or Cluster"
            ) from error
        self._adopted = name, found
        use(found)
        pointed = self._point_px_to(client)
        return self.status() + pointed

    def status(self) -> str:
        """Say which engines the magics use."""
        if (chosen := self._chosen()) is not None:
            name, found = chosen
            return f"the magics use {name}: {_listed(engines_of(found))}"
        if (running := running_cluster()) is None:
            return (
                "no cluster yet: the first %memapply starts a local one, as does %memshare cluster "
                "start; %memshare cluster NAME uses one that you have"
            )
        return f"the magics use the local cluster: {_listed(engines_of(running))}"

    def _chosen(self) -> tuple[str, Any] | None:
        """Return what is used instead of the local cluster, and what people call it.

        That is what was adopted, else where ``%%px`` runs, else the only client of the notebook.
        """
        if self._adopted is not None or self._local:
            return self._adopted
        running = running_cluster()
        own = None if running is None else running.client
        view = active_view()
        if view is not None:
            return None if view.client is own else ("the view of %%px", view)
        others = clients_in(self._notebook.variables.values())
        if len(others) != 1 or others[0] is own:
            return None
        names = [n for n in self._notebook.names() if self._notebook.variables[n] is others[0]]
        return (names or ["the client"])[0], others[0]

    def _about_to_start(self) -> None:
        self._started = self._started or running_cluster() is None

    def _tell(self, found: Any, *, quiet: bool) -> None:
        """Say once which cluster is used that nobody has named."""
        if self._adopted is None and found is not self._told and not quiet:
            self._told = found
            print(  # noqa: T201 -- good news is ordinary output
                f"{self.status()}; %memshare cluster start uses a local cluster instead"
            )

    def count(self) -> int:
        """Return how many engines there are, or would be; starts none."""
        if (chosen := self._chosen()) is not None:
            return len(engines_of(chosen[1]))
        running = running_cluster()
        return running.n if running is not None else default_engines()

    def present(self) -> Any:
        """Return the cluster in use, or None; starts none."""
        chosen = self._chosen()
        return running_cluster() if chosen is None else chosen[1]

    def cluster(
        self, name: str | None, targets: str | None, max_cores: int | None, *, quiet: bool
    ) -> Any:
        """Return what `memapply` takes as its cluster; None lets it start the local one."""
        if name is not None:
            found = self._notebook.value(name)
        elif (chosen := self._chosen()) is not None:
            self._tell(chosen[1], quiet=quiet)
            found = chosen[1]
        else:
            self._about_to_start()
            found = started(None, max_cores, quiet=quiet)
            if targets is None:
                return None
        if targets is None:
            return found
        engines = engines_of(found)
        ids = chosen_ids(targets, [engine.number for engine in engines])
        client: Any = engines[0].client
        return client.direct_view(ids)

    def bring(self, targets: str, pages: Iterable[PageName], *, quiet: bool) -> None:
        """See to it that pages can be attached on engines, of whatever hosts.

        Raises
        ------
        UsageError
            They cannot on some.
        """
        # Imported here, as below, because it brings what only clusters of several hosts need.
        from memshare_jupyter.engines.hosts import reach  # noqa: PLC0415

        if wrong := reach(pages, engines_of(self.cluster(None, targets, None, quiet=quiet))):
            raise UsageError("\n".join(wrong))

    def hosts(self) -> list[Host]:
        """Return what is on the hosts of the engines in use; nothing if they are all here."""
        from memshare_jupyter.engines.hosts import look  # noqa: PLC0415

        present = self.present()
        return [] if present is None else look(engines_of(present))

    def paths(self) -> list[Path]:
        """Return which hosts of the engines in use reach which; nothing if they are all here."""
        from memshare_jupyter.engines.hosts import examine  # noqa: PLC0415

        present = self.present()
        return [] if present is None else examine(engines_of(present))

    def on_each(
        self, targets: str, act: Callable[..., str], *arguments: Any, every: bool, quiet: bool
    ) -> str:
        """Call a function of this package on engines; return which they were, for a message.

        It is called with the engine's number and `arguments`, and returns what went wrong. That is
        raised as a `UsageError`: of any engine if it has to work on `every` one, else if it worked
        on none.
        """
        chosen = engines_of(self.cluster(None, targets, None, quiet=quiet))
        client: Any = chosen[0].client
        view = active_view()
        elsewhere = view is not None and view.client is not client
        if view is None:
            self._point_px_to(client)
        messages = Messages()
        for engine in chosen:
            messages.send(engine, _numbered, act, engine.number, *arguments)
        messages.wait_for_all()
        wrong = {number: said for number, said in messages.answers if said}
        if wrong and (every or len(wrong) == len(messages.answers)):
            raise UsageError("\n".join(wrong[number] for number in sorted(wrong)))
        ids = [number for number, said in sorted(messages.answers) if not said]
        note = " (%%px runs on another cluster)" if elsewhere else ""
        return f"{'engine' if len(ids) == 1 else 'engines'} {_numbers(ids)}{note}"

    def _point_px_to(self, client: Client) -> str:
        """Let ``%%px`` run where the magics do; say so if it ran elsewhere."""
        view = active_view()
        if view is not None and view.client is client:
            return ""
        if view is not None and self._px_before is None:
            self._px_before = view
        client.activate()
        return "" if view is None else "; %%px runs there, too, until %memshare cluster stop"

    def _give_px_back(self) -> str:
        """Let ``%%px`` run again where it ran before."""
        before, self._px_before = self._px_before, None
        if before is None or not is_open(before.client):
            return ""
        before.activate()
        return "; %%px runs where it ran before"


def _numbered(act: Callable[..., str], number: int, *arguments: Any) -> tuple[int, str]:
    """Call a function on an engine; return the engine's number, too."""
    return number, act(number, *arguments)


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


def _listed(engines: Sequence[Engine]) -> str:
    return f"{count(len(engines), 'engine')} ({_numbers([engine.number for engine in engines])})"


def _numbers(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))
