"""A hand: what each engine does in a call on several hosts, that of the lead included.

Where there is one engine for a whole host, it has hands of its own: the engines of a local cluster,
of which the caller's cluster knows nothing.
"""

from __future__ import annotations

import contextlib
import gc
import pickle
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from memshare_jupyter.apply._foreman import Lost, close_at_end, lost
from memshare_jupyter.core import blocks
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import Reference
from memshare_jupyter.engines import Messages, engines_of
from memshare_jupyter.engines.hosts import Lead
from memshare_jupyter.engines.local import local_cluster, running_cluster
from memshare_jupyter.errors import ClusterError, MemshareError
from memshare_jupyter.worker import Arena, Place, run_in

_KEEP_S: Final = 10.0

Answer = tuple[bytes, Lost | None]
"""What `work` returns."""


def work(task: bytes, pickled_place: bytes, pages: Iterable[Reference]) -> Answer:
    """Work as `worker.run` does.

    Returns
    -------
    bytes
        As that does.
    Lost or None
        What is known of the lead, if that has died. What this process views of the call's pages it
        views a little longer then, so that they stay on this host.
    """
    place: Place = pickle.loads(pickled_place)  # noqa: S301 -- from the caller
    arena = Arena()
    if close_at_end(place.address, arena):  # this process is the lead
        return run_in(arena, task, pickled_place), None
    views: list[Any] = []
    had = registry().used_views
    with contextlib.ExitStack() as stack:
        stack.callback(_collect_if_more_than, had)
        stack.callback(arena.close)
        for page in pages:
            with contextlib.suppress(MemshareError):  # the task will say what is missing
                views.append(registry().replicas.view(page))
        answer = run_in(arena, task, pickled_place)
        try:
            block, control = arena.queue(place.address)
            posts = arena.posts(place.address)
        except blocks.SegmentGone:  # the lead ended before this one began
            views.clear()
            return answer, None
        if blocks.is_locked(block.fd):
            views.clear()
            return answer, None
        keep = threading.Timer(_KEEP_S, views.clear)
        keep.daemon = True
        keep.start()
        return answer, lost(0, control, place.address.workers, block.fd, posts.fd)


def work_in_thread(
    lead: Lead,  # noqa: ARG001 -- as all that leads are told
    task: bytes,
    pickled_place: bytes,
    pages: Iterable[Reference],
) -> Answer:
    """Do so on a lead that has to hear messages meanwhile; its items are not interrupted."""
    return work(task, pickled_place, pages)


_with_hands: Final[set[Lead]] = set()
"""For which callers this process has hands."""


def have_hands(lead: Lead, n: int) -> None:
    """Have so many hands of one's own, as long as the caller's link lasts.

    Raises
    ------
    ClusterError
        They do not start.
    """
    _with_hands.add(lead)
    try:
        local_cluster(n, quiet=True)
    finally:  # not before: if the link has ended by now, they end at once
        lead.at_end(have_hands, partial(_need_no_hands, lead))


def _need_no_hands(lead: Lead) -> None:
    _with_hands.discard(lead)
    cluster = running_cluster()
    if cluster is not None and not _with_hands:
        cluster.stop()


def work_by_hands(
    lead: Lead,  # noqa: ARG001 -- as all that leads are told
    task: bytes,
    places: Sequence[bytes],
    pages: Sequence[Reference],
) -> list[Answer | None]:
    """Have one's hands `work`, one at each place; return what they do, None of one that died.

    What it had to do is the foreman's matter.

    Raises
    ------
    ClusterError
        They have ended.
    """
    cluster = running_cluster()
    if cluster is None:
        raise ClusterError("its hands have ended")
    each = [Messages() for _ in places]
    for messages, engine, place in zip(each, engines_of(cluster), places, strict=False):
        messages.send(engine, work, task, place, pages)
    for messages in each:
        messages.wait_for_all()
    return [next(iter(messages.take()), None) for messages in each]


def _collect_if_more_than(views: int) -> None:
    """Let go of what refers to itself and to the call's pages: see `worker.run_in`."""
    if registry().used_views > views:
        gc.collect()
