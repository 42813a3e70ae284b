"""Pages brought to hosts: each once, from host to host, and only where they are not yet.

1. the caller opens the pages, so that they stay as they are, and gives out a token for them;
2. it asks the leads what they lack; those make ready to pass on what will come;
3. those that lack something get it: each from the one before it, and if that fails from the one
   before that, or from the caller. Where the caller cannot be connected to, the cluster's messages
   bring what does not come from a host before;
4. each link stands for the copies: when a page is over, its lead is told.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from memshare_jupyter.core.registry import Original, registry
from memshare_jupyter.core.values import Reference
from memshare_jupyter.engines.hosts._doors import Way, give, take_back, way_here
from memshare_jupyter.engines.hosts._grains import Arriving, Stock, fetch
from memshare_jupyter.engines.hosts._lead import Lead
from memshare_jupyter.engines.hosts._links import Link, Pinned, gather
from memshare_jupyter.engines.hosts._orders import Counter, order_rest
from memshare_jupyter.engines.hosts._proof import is_encrypted, new_token
from memshare_jupyter.errors import UnsupportedValueError

_ANSWER_S: Final = 15.0
"""Within so long a lead says what it lacks, however busy its host; of one that is gone the link
ends before."""
_NEAR_S: Final = 3.0
"""So long hosts that this process can only send messages to try to get a page from another one."""
_CHAIN: Final = 16
"""So many hosts pass a page on, one after the other; each adds the time of one grain."""


def bring(wanted: Iterable[Reference], links: Sequence[Link]) -> dict[Link, str]:
    """See to it that pages can be reached on hosts; return why they cannot on some.

    Raises
    ------
    PageNotFoundError
        A page is gone.
    UnsupportedValueError
        A page can be written to, of which other hosts would not learn.
    """
    refs = sorted(wanted)
    if not refs or not links:
        return {}
    token, encrypted = new_token(), is_encrypted()
    stock = Stock([ref.uuid for ref in refs])
    with contextlib.ExitStack() as stack:
        stack.callback(take_back, token)
        originals, pages = {}, []
        for ref in refs:
            originals[ref.uuid], block = registry().replicas.pin(ref)
            pages.append(pinned := Pinned(block))
            pinned.use()
            stack.callback(pinned.leave)
            refuse_if_writable(ref, originals[ref.uuid])
            whole = Arriving(block.fd, block.size_bytes, whole=True)
            stock.add(ref.uuid, whole, own=False)
        stack.callback(stock.close)  # before the pages are: who is let in may be at them
        give(token, stock.serve)
        lacking: dict[Link, Any] = {}
        for link in links:
            stack.callback(_tell_over, link, token, lacking)
            for pinned in pages:  # before it is asked: it may keep one, and the answer not be heard
                link.stand_for(pinned)
        lacking |= gather(links, lacks, lambda _: (refs, token), _ANSWER_S)
        failed = {link: "it does not answer" for link in links if link not in lacking}
        failed |= {link: str(e) for link, e in lacking.items() if isinstance(e, Exception)}
        needing = [link for link in lacking if link not in failed and lacking[link]]
        needing.sort(key=lambda link: link.way or Way((), 0))
        far = [link for link in needing if link.why_letters]
        sources = _chained([link for link in needing if link not in far], [way_here()])
        sources |= _chained(far, [])
        counter = Counter(token, {pinned.block.uuid: pinned for pinned in pages})
        for link in far:
            link.listen(token, counter)
        for link in needing:
            link.getting += 1
        try:
            found = gather(
                needing,
                receive,
                lambda link: (
                    [(ref, originals[ref.uuid]) for ref in lacking[link]],
                    *(sources[link], token, encrypted, link in far),
                ),
            )
        finally:
            for link in needing:
                link.getting -= 1
                link.unlisten(token)
    return failed | {link: str(e) for link, e in found.items() if isinstance(e, Exception)}


def _tell_over(link: Link, token: bytes, lacking: Mapping[Link, Any]) -> None:
    """Have a lead pass nothing on any more, unless it has said that it lacks nothing."""
    if lacking.get(link) != []:
        link.tell(finish, token)


def refuse_if_writable(ref: Reference, original: Original) -> None:
    """Raise if copies of a page would not stay what it is."""
    if original.entry.writable or ref.mode != "r":
        raise UnsupportedValueError(
            f"{ref.name} can be written to, and what is written on one host would not be seen on "
            "the others; register it without writable=True, or use engines of this host only"
        )


def _chained(links: Sequence[Link], last: list[Way]) -> dict[Link, list[Way]]:
    """Return where each gets its pages from: who stands before it in its chain, then `last`."""
    sources = {}
    for number, link in enumerate(links):
        before = links[number - number % _CHAIN : number][-2:]
        ways = [other.way for other in reversed(before) if other.way is not None]
        sources[link] = [*ways, *last]
    return sources


# What leads are told to do.


def lacks(lead: Lead, refs: Sequence[Reference], token: bytes) -> list[Reference]:
    """Return which pages cannot be reached on this host; make ready to pass them on."""
    lacking = []
    for ref in refs:
        if registry().replicas.keep(ref):
            lead.keep(ref.uuid)
        else:
            lacking.append(ref)
    if lacking:
        stock = Stock([ref.uuid for ref in lacking])
        give(token, stock.serve)
        lead.stocks[token] = stock
        lead.at_end(token, lambda: finish(lead, token))
    return lacking


def receive(
    lead: Lead,
    pages: Sequence[tuple[Reference, Original]],
    sources: Sequence[Way],
    token: bytes,
    encrypted: bool,
    orders: bool,
) -> None:
    """Get pages, and pass them on; `orders` if the caller sends what no source gives."""
    stock = lead.stocks[token]
    near = list(sources)
    try:
        for ref, original in pages:
            with alone_with(ref.uuid):
                if registry().replicas.keep(ref):  # another caller was quicker
                    lead.keep(ref.uuid)
                    _, block = registry().replicas.pin(ref)
                    here = Arriving(os.dup(block.fd), block.size_bytes, whole=True)
                    block.close()
                    stock.add(ref.uuid, here, own=True)
                else:
                    with registry().replicas.making(original) as (block, filled, publish):
                        arriving = Arriving(os.dup(block.fd), block.size_bytes, whole=False)
                        stock.add(ref.uuid, arriving, own=True)
                        what = (arriving, ref.uuid, near, token, filled)
                        if orders:
                            _fetch_or_order(lead, *what, encrypted=encrypted)
                        else:
                            fetch(*what, encrypted=encrypted)
                        publish()
                    lead.keep(ref.uuid)
    except BaseException:
        stock.fail()
        raise


def _fetch_or_order(
    lead: Lead,
    block: Arriving,
    uuid: bytes,
    near: list[Way],
    token: bytes,
    filled: Callable[[int], Any],
    *,
    encrypted: bool,
) -> None:
    """Get a block from a host nearby, or order it; hosts that give nothing are not asked again."""
    try:
        if near:
            fetch(block, uuid, near, token, filled, encrypted=encrypted, patience_s=_NEAR_S)
    except ConnectionError:
        near.clear()
    order_rest(lead, block, uuid, token, filled)


def finish(lead: Lead, token: bytes) -> None:
    """Pass nothing on any more."""
    take_back(token)
    lead.over(token)
    stock = lead.stocks.pop(token, None)
    if stock is not None:
        stock.close()


@contextlib.contextmanager
def alone_with(uuid: bytes) -> Iterator[None]:
    """Let no other process of this host get a page at the same time.

    The lock is a name without a file, which the kernel takes from a process that dies: unix(7).
    """
    name = f"\0memshare-{os.getuid()}-{uuid.hex()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while True:
            try:
                lock.bind(name)
                break
            except OSError:
                time.sleep(0.02)
        yield
