"""Blocks for hosts that cannot connect to one that has them: ordered, and sent on the link.

A lead orders some grains at a time, and the next ones before these are here. So nothing comes that
is not wanted any more, and the cluster never carries more than that.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from memshare_jupyter.engines.hosts._grains import GRAIN_BYTES, Arriving
from memshare_jupyter.engines.hosts._lead import Lead
from memshare_jupyter.engines.hosts._links import Link, Pinned

_GRAINS: Final = 8
"""So many are ordered at a time."""
_ORDERS: Final = 3
"""So many orders are on their way."""
_SILENT_S: Final = 60.0


class Order(NamedTuple):
    """What a lead wants: some grains of a block."""

    uuid: bytes
    first: int
    number: int


class Counter:
    """The caller's side: where orders of leads are put, and at once carried out.

    Parameters
    ----------
    token : bytes
        What the blocks are ordered by.
    pages : mapping of bytes to Pinned
        The blocks.
    """

    def __init__(self, token: bytes, pages: Mapping[bytes, Pinned]) -> None:
        self._token = token
        self._pages = pages

    def put(self, found: tuple[Link, Any]) -> None:
        """Carry out an order."""
        link, order = found
        if isinstance(order, Order):
            pinned = self._pages[order.uuid]
            size_bytes = min(order.number * GRAIN_BYTES, pinned.block.size_bytes)
            pinned.use()  # or the call might end, and its number be another file's when it is read
            try:
                data = os.pread(pinned.block.fd, size_bytes, order.first * GRAIN_BYTES)
            except OSError:  # closed: the call has ended, and its link is to go on
                return
            finally:
                pinned.leave()
            link.tell(delivered, self._token, order, data, zlib.crc32(data))


def delivered(lead: Lead, token: bytes, order: Order, data: bytes, checksum: int) -> None:
    """Write down what was ordered; for the caller to tell."""
    stock = lead.stocks.get(token)
    block = None if stock is None else stock.block(order.uuid)
    if block is None or block.here != order.first or block.failed:
        return
    if zlib.crc32(data) != checksum:
        block.fail()
        return
    grains = memoryview(data)
    while grains:
        block.add(grains[:GRAIN_BYTES], zlib.crc32(grains[:GRAIN_BYTES]))
        grains = grains[GRAIN_BYTES:]


def order_rest(
    lead: Lead, block: Arriving, uuid: bytes, token: bytes, filled: Callable[[int], Any]
) -> None:
    """Get what is missing of a block.

    Raises
    ------
    ConnectionError
        It does not come.
    """
    ordered = seen = block.here
    while block.still_comes():
        while ordered < min(block.grains, block.here + _ORDERS * _GRAINS):
            number = min(_GRAINS, block.grains - ordered)
            lead.say(token, Order(uuid, ordered, number))
            ordered += number
        if not block.wait_for(seen, _SILENT_S):
            raise ConnectionError("the caller sends nothing by the cluster's messages")
        here = block.here
        filled(block.span(here - 1)[1] - block.span(seen)[0])
        seen = here
