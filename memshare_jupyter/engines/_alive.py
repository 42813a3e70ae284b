"""Whether a cluster is still there: nobody is to wait for the answers of one that is not."""

from __future__ import annotations

import socket
import time
import weakref
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from memshare_jupyter.engines._dask import Workers
from memshare_jupyter.engines.local import running_cluster

if TYPE_CHECKING:
    from ipyparallel import Client

_LOOK_S: Final = 1.0
_CONNECT_S: Final = 1.0

_looked: weakref.WeakKeyDictionary[Client, float] = weakref.WeakKeyDictionary()
"""When a controller was last found to be there."""


def why_gone(client: Client) -> str:
    """Say why a client can reach no engine any more; empty if it can, as far as one knows.

    Our own tether says what became of a controller. That of another cluster is asked for a
    connection once a second: it is gone when its host refuses one.
    """
    if isinstance(client, Workers):
        return client.why_gone()
    if client._closed:
        return "its client was closed"
    local = running_cluster()
    if local is not None and local.client is client:
        return ""
    now = time.monotonic()
    if now - _looked.get(client, -_LOOK_S) < _LOOK_S:
        return ""
    _looked[client] = now
    return "" if _accepts(_address_of(client)) else "its controller has ended"


def _address_of(client: Any) -> str:
    import zmq  # noqa: PLC0415 -- loaded with ipyparallel, and not before

    # Only read, and set once when the client connected: so it may be read from this thread.
    found = client._query_socket.getsockopt(zmq.LAST_ENDPOINT)
    return str(found.rstrip(b"\0").decode())


def _accepts(address: str) -> bool:
    """Say whether somebody accepts connections there; also when it cannot be found out."""
    url = urlsplit(address)
    try:
        if url.scheme == "ipc":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address.removeprefix("ipc://"))
        elif url.scheme == "tcp" and url.hostname and url.port:
            socket.create_connection((url.hostname, url.port), _CONNECT_S).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return True  # a network that is slow or in trouble
    return True
