"""One call, from its arguments to its results: prepare, choose engines, work in rounds, collect."""

from __future__ import annotations

import contextlib
import pickle
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from memshare_jupyter.apply._collect import Results
from memshare_jupyter.apply._heard import display, outputs, show, warn_again
from memshare_jupyter.apply._interrupts import close, uninterrupted
from memshare_jupyter.apply._prepare import Prepared, prepare
from memshare_jupyter.apply._progress import Progress
from memshare_jupyter.apply._recovery import died_text
from memshare_jupyter.apply._rounds import Rounds
from memshare_jupyter.apply._run import Run
from memshare_jupyter.apply._users_line import UsersLine, users_line
from memshare_jupyter.core.values import references
from memshare_jupyter.engines import (
    are_replaced,
    engines_of,
    in_use,
    kept_for,
    number_of_processes,
    replacements,
)
from memshare_jupyter.engines.hosts import by_host
from memshare_jupyter.errors.frames import clear_our_frames
from memshare_jupyter.worker import unreadable

if TYPE_CHECKING:
    from memshare_jupyter.apply._hosts import HostRounds
    from memshare_jupyter.core.values import Reference
    from memshare_jupyter.engines import AnyCluster, Engine
    from memshare_jupyter.engines.hosts import Group
    from memshare_jupyter.errors import MemApplyError

    Spread = tuple[Sequence[Group], Sequence[Engine], Iterable[Reference], int | None]

_NO_HANDS: Final = (
    "hands= is for a cluster with one engine on each host, which starts them there; for more "
    "engines on this host, call local_cluster(n)"
)


def apply(*arguments: Any, block: bool, **options: Any) -> Any:
    """Do what `memapply` says, or `memlapply`; the arguments are those of `_begun`."""
    try:
        call = _begun(*arguments, watched=block, **options)
        if block:
            result = call.finish()
            call.warn_of_losses(users_line)
            return result
        line = users_line()
    except BaseException as error:
        # A notebook keeps the last traceback, whose frames would keep this call's views alive.
        # What this frame has stays, so it has none.
        clear_our_frames(error)
        raise
    work = partial(call.finish_in_thread, line)
    threading.Thread(target=work, name=repr(call.run), daemon=True).start()
    return call.run


def _begun(
    X: Any,
    margin: int | None,
    fun: Callable[..., Any],
    namespace: str | None,
    cluster: AnyCluster,
    variables: Mapping[str, Any] | Sequence[str] | None,
    max_cores: int | None,
    *,
    watched: bool,
    progress_after: float | None,
    hands: int | None = None,
    quiet: bool = False,
    **options: Any,
) -> _Call:
    """Do all of a call that comes before the work; nothing of it is left if that fails."""
    most = number_of_processes("max_cores", max_cores)
    hands = number_of_processes("hands", hands)
    cluster = in_use(cluster)
    with contextlib.ExitStack() as stack:
        try:
            with references() as pages:
                prepared = prepare(X, margin, fun, namespace, variables, **options, call=stack)
                task = pickle.dumps(prepared.task)
            count = prepared.count
            engines = engines_of(cluster, most)[:count] if count else []
            groups, silent = by_host(engines, also_here=hands is not None)
            if hands is not None and engines and not groups:
                raise ValueError(_NO_HANDS)
            replace = partial(replacements, cluster) if are_replaced(cluster) else None
            after = progress_after if watched else None
            if groups:
                engines = [engine for group in groups for engine in group.engines]
            hands = hands and min(hands, count)
            spread = (groups, silent, pages, hands) if groups else None
            return _Call(prepared, task, engines, spread, replace, after, stack, quiet=quiet)
        except BaseException:
            close(stack)
            raise


class _Call:
    """A call that goes on.

    Parameters
    ----------
    prepared : Prepared
        What to do.
    task : bytes
        The same, pickled.
    engines : sequence of Engine
        Who shall do it.
    spread : tuple or None
        If they are not all on this host, or have hands: them by host, those that do not say where
        they are, the pages that the task refers to, and how many hands.
    replace : callable or None
        Starts engines for those that died.
    progress_after : float or None
        Show a bar after so many seconds; None for never.
    stack : ExitStack
        What has to be undone at the end, which the call takes over.
    quiet : bool
        Show nothing of what the function says.

    Attributes
    ----------
    run : Run
        It, as others see it.
    """

    def __init__(
        self,
        prepared: Prepared,
        task: bytes,
        engines: Sequence[Engine],
        spread: Spread | None,
        replace: Callable[[Sequence[int]], list[Engine]] | None,
        progress_after: float | None,
        stack: contextlib.ExitStack,
        *,
        quiet: bool,
    ) -> None:
        self._prepared = prepared
        self._quiet = quiet
        self._out = prepared.out
        self._attached = prepared.attached
        self.run = Run(prepared.title, prepared.count, [engine.number for engine in engines])
        with uninterrupted():
            self.run.begin()
            stack.callback(self.run.end)
            self._results = Results(prepared.count, self._out.area(), kept_for(engines))
            stack.callback(self._results.close)
        progress = Progress(self.run, progress_after)
        stack.callback(progress.close)
        how: dict[str, Any] = {
            "batch": prepared.task.batch,
            "keep_going": prepared.task.keep_going,
            "label_of": prepared.label_of,
            "watch": progress.update,
        }
        self._rounds: Rounds | HostRounds
        if spread is None:
            self._rounds = Rounds(
                *(self.run, engines, task, self._results),
                pages=prepared.pages,
                replace=replace,
                **how,
            )
        else:
            # Imported here, because calls on one host need nothing of it.
            from memshare_jupyter.apply._hosts import HostRounds  # noqa: PLC0415

            self._rounds = HostRounds(self.run, task, self._results, *spread, **how)
        self._stack = stack.pop_all()

    def finish(self) -> Any:
        """Work, clean up and return the results."""
        try:
            try:
                with self._stack:
                    try:
                        if self.run.total:
                            self._rounds.work()
                        result = self._out.made_of(
                            *(self._results, self._rounds.regions, self._rounds.given_up()),
                            *(self._unreadable, self._prepared.labels, self._prepared.task.margin),
                            keep_going=self._prepared.task.keep_going,
                        )
                    finally:
                        close(self._stack)
            finally:
                self.run.output = outputs(self._rounds.said)
                if not self._quiet:
                    show(self._rounds.said)
                    display(self._rounds.said)
            self._attached.clear()
        except BaseException as error:
            self._attached.clear()
            clear_our_frames(error)
            self.run.set_exception(error)
            with contextlib.suppress(Warning):  # where it would be raised, this error is the better
                self._warn_again()
            raise
        self.run.set_result(result)
        return result

    def _unreadable(self, region: int, index: int, error: Exception) -> MemApplyError:
        engine, prepared = self._rounds.engine_of(region), self._prepared
        return unreadable(prepared.title, index, prepared.label_of(index), engine, error)

    def finish_in_thread(self, line: UsersLine) -> None:
        """Do the same where nobody waits; it was asked for at `line`."""
        with contextlib.suppress(BaseException):  # it is the run's
            self.finish()
            self.warn_of_losses(lambda: line)

    def _warn_again(self) -> None:
        if not self._quiet:
            warn_again(self._rounds.said)

    def warn_of_losses(self, where: Callable[[], UsersLine]) -> None:
        """Say which engines died, if any did; warn of what the function warned of."""
        self._warn_again()
        for why in self._rounds.left_out:
            text = f"{why}; the results are complete"
            warnings.warn_explicit(text, RuntimeWarning, *where())
        if lost := self._rounds.lost:
            warnings.warn_explicit(
                f"{died_text(lost)} during the call, perhaps for lack of memory; the others did "
                "what was not finished, and the results are complete",
                RuntimeWarning,
                *where(),
            )
