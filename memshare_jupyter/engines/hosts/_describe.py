"""Which host each engine is on: asked once of each engine, and remembered."""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memshare_jupyter.core.ledger import host_identity, runtime_directory
from memshare_jupyter.engines import Messages
from memshare_jupyter.engines.local import running_cluster
from memshare_jupyter.errors import ClusterError

if TYPE_CHECKING:
    from ipyparallel import Client

    from memshare_jupyter.engines import Engine

SILENCE_S: Final = 2.0
"""An engine that has not said by then where it is takes no part."""
FIRST_S: Final = 10.0
"""So long the first answer of all may take: engines that have just begun load this package."""


class Description(NamedTuple):
    """What an engine says of where it is.

    Attributes
    ----------
    identity : str
        Its host's.
    name : str
        What people call that.
    files, directory : str
        Its mount namespace, and its runtime directory there.
    """

    identity: str
    name: str
    files: str
    directory: str


class Group(NamedTuple):
    """The engines of one host."""

    identity: str
    name: str
    engines: list[Engine]


class _Asked(NamedTuple):
    messages: Messages
    until: float


_TICK_S: Final = 0.01

_known: weakref.WeakKeyDictionary[Client, dict[object, Description]] = weakref.WeakKeyDictionary()
_here: weakref.WeakKeyDictionary[Client, set[object]] = weakref.WeakKeyDictionary()
"""Of which engines it is known that they are on this host: these calls cost nothing."""
_turns: weakref.WeakKeyDictionary[Client, threading.RLock] = weakref.WeakKeyDictionary()
"""By whose turn it is a client's engines are asked."""
_asked: weakref.WeakKeyDictionary[Client, dict[object, _Asked]] = weakref.WeakKeyDictionary()


def describe() -> Description:
    """Say where this process is."""
    identity = host_identity()
    try:
        files = f"{identity.partition('/')[0]}/{os.readlink('/proc/self/ns/mnt')}"
    except OSError:
        files = ""
    return Description(identity, socket.gethostname(), files, str(runtime_directory()))


def by_host(
    engines: Sequence[Engine], *, also_here: bool = False
) -> tuple[list[Group], list[Engine]]:
    """Return the engines of a call by their hosts, and those that do not say where they are.

    Nothing if all are on this host, unless `also_here`. Each is asked once. When all that have
    answered are here, the others count as such, too: they may be at something that takes long, and
    are waited for.

    Raises
    ------
    ClusterError
        An engine cannot run this package, or is on this host and has another runtime directory.
    """
    client = engines[0].client if engines else None
    local = running_cluster()
    if client is None or (local is not None and local.client is client):
        return [], []
    names = {_name(engine) for engine in engines}
    if names <= _here.get(client, set()) and not also_here:
        return [], []
    mine = describe()
    known = _known.setdefault(client, {})
    if not names <= known.keys():
        # Whoever comes meanwhile waits: messages are for one thread, and all want the same answers.
        with _turns.setdefault(client, threading.RLock()):
            _learn(engines, known)
    groups: dict[str, Group] = {}
    silent = []
    for engine in engines:
        found = known.get(_name(engine))
        if found is None:
            silent.append(engine)
            continue
        _refuse_if_apart(engine, found, mine)
        group = groups.setdefault(found.identity, Group(found.identity, found.name, []))
        group.engines.append(engine)
    if groups.keys() <= {mine.identity}:
        _here.setdefault(client, set()).update(names & known.keys())
        if not also_here:
            return [], []
    return list(groups.values()), silent


def _learn(engines: Sequence[Engine], known: dict[object, Description]) -> None:
    unknown = [engine for engine in engines if _name(engine) not in known]
    try:
        _ask(unknown, first=len(unknown) == len(engines))
    except BaseException:  # an interrupt may have lost what one has answered
        for engine in unknown:  # the next call asks anew: they may be others by then
            _asked.get(engines[0].client, {}).pop(_name(engine), None)
        raise


def _ask(engines: Sequence[Engine], *, first: bool) -> None:
    """Ask engines where they are, and wait for a while; what comes later is heard by the next.

    With `first`, nothing is known of any: the while begins with the first answer.
    """
    if not engines:
        return
    client: Any = engines[0].client
    known, asked = _known[client], _asked.setdefault(client, {})
    for engine in engines:
        if _name(engine) not in asked:
            messages = Messages()
            messages.send(engine, describe)
            asked[_name(engine)] = _Asked(messages, time.monotonic() + SILENCE_S)
    if first:
        _wait_for_first([asked[_name(engine)].messages for engine in engines])
        until = time.monotonic() + SILENCE_S
        for engine in engines:
            asked[_name(engine)] = asked[_name(engine)]._replace(until=until)
    for engine in engines:
        messages, until = asked[_name(engine)]
        if messages.wait(0.0) or messages.wait_for_all(until - time.monotonic()):
            del asked[_name(engine)]
            known.update({_name(engine): found for found in messages.take()})


def _wait_for_first(messages: Sequence[Messages]) -> None:
    deadline = time.monotonic() + FIRST_S
    while time.monotonic() < deadline and not any(one.wait(0.0) for one in messages):
        time.sleep(_TICK_S)


def _name(engine: Engine) -> object:
    """Return what names an engine for good: its number may be given to another one later."""
    client: Any = engine.client
    return client._engines.get(engine.number, engine.number)


def _refuse_if_apart(engine: Engine, found: Description, mine: Description) -> None:
    """Raise if an engine that sees this process's files has its own registry all the same."""
    if found.identity == mine.identity or not mine.files or found.files != mine.files:
        return
    raise ClusterError(
        f"engine {engine.number} cannot take part: its runtime directory is {found.directory}, "
        f"that of this process {mine.directory}, although both are on one host; start engines "
        "with the same XDG_RUNTIME_DIR, of which the runtime directory follows",
        engine=engine.number,
        differs={"runtime directory": (found.directory, mine.directory)},
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turns.clear)  # another thread may have had one
