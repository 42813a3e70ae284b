"""Connections between hosts: the other end has proved to know a token, and nobody listens.

A token is 32 random bytes that reach both ends through the cluster, whose business it is who may
send messages there. It never goes over a connection:

1. the dialer says which token it has, by a hash of it, and whether it speaks TLS;
2. with TLS, both make keys by a Diffie-Hellman exchange without certificates. From Python 3.13 on
   the token is a part of them (RFC 4279, a key that both had before): without it they do not fit;
3. both send a nonce, then an HMAC by the token of their part, both nonces and, with TLS, of what
   binds it to this very channel (RFC 5929, ``tls-unique``): whoever sits in between has two
   channels, and no proof that fits both.

``MEMSHARE_TRANSFER=plain`` in the environment of the process that calls leaves out step 2, for
networks that are fast and trusted.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import secrets
import socket
import ssl
import struct
import sys
import tempfile
from typing import Final

VARIABLE: Final = "MEMSHARE_TRANSFER"
TOKEN_BYTES: Final = 32
_ID_BYTES: Final = 16
_HELLO: Final = struct.Struct(f"<c{_ID_BYTES}s")
_TLS: Final = b"T"
_PLAIN: Final = b"P"
_CIPHER: Final = "ADH-AES256-GCM-SHA384:@SECLEVEL=0"
"""Anonymous, so not allowed at any higher level: the token stands in for certificates."""
_CIPHER_KEYED: Final = "DHE-PSK-AES256-GCM-SHA384"
TOKEN_IN_KEYS: Final = getattr(ssl, "HAS_PSK", False)
"""Whether the token is a part of the keys: both ends have the same Python."""
_FFDHE2048: Final = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""
"""The group ffdhe2048 of RFC 7919, appendix A.1."""


def new_token() -> bytes:
    """Return a token that nobody has yet."""
    return secrets.token_bytes(TOKEN_BYTES)


def id_of(token: bytes) -> bytes:
    """Return what names a token without telling it."""
    return hashlib.sha256(b"memshare" + token).digest()[:_ID_BYTES]


def is_encrypted() -> bool:
    """Say whether connections of this process's calls are.

    Raises
    ------
    ValueError
        The environment says something else than ``tls`` or ``plain``.
    """
    found = os.environ.get(VARIABLE, "tls")
    if found not in ("tls", "plain"):
        raise ValueError(f"{VARIABLE} must be 'tls' or 'plain', not {found!r}")
    return found == "tls"


def limit(connection: socket.socket, seconds: float) -> None:
    """Let nothing on a connection wait for longer.

    Python's own limit makes a socket one that never waits, on which os.sendfile fails; the kernel's
    is not heard by TLS, for which files are not sent anyway.
    """
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(seconds)
        return
    connection.settimeout(None)
    time = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, time)


def exactly(connection: socket.socket, size_bytes: int) -> bytes:
    """Receive so many bytes.

    Raises
    ------
    OSError
        They do not come.
    """
    found = bytearray(size_bytes)
    receive_into(connection, memoryview(found))
    return bytes(found)


def receive_into(connection: socket.socket, view: memoryview) -> None:
    """Receive as many bytes as a view has; raises as `exactly`."""
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("the other end has closed the connection")
        view = view[count:]


def dialed(connection: socket.socket, token: bytes, *, encrypted: bool) -> socket.socket:
    """Return a connection that this process made, proved.

    Raises
    ------
    OSError
        The other end does not know the token, or does not answer.
    """
    connection.sendall(_HELLO.pack(_TLS if encrypted else _PLAIN, id_of(token)))
    if encrypted:
        connection = _keyed(connection, token, server=False)
    _prove(connection, token, b"dials", b"listens")
    return connection


def heard(connection: socket.socket) -> tuple[bytes, bool]:
    """Return which token who dials says they have, see `id_of`, and whether they speak TLS."""
    kind, name = _HELLO.unpack(exactly(connection, _HELLO.size))
    return name, kind == _TLS


def accepted(connection: socket.socket, token: bytes, *, encrypted: bool) -> socket.socket:
    """Return a connection that another process made, after what was `heard` on it, proved.

    Raises
    ------
    OSError
        The other end does not know the token, or does not answer.
    """
    if encrypted:
        connection = _keyed(connection, token, server=True)
    _prove(connection, token, b"listens", b"dials")
    return connection


def _prove(connection: socket.socket, token: bytes, mine: bytes, theirs: bytes) -> None:
    """Tell each other that both know the token, or close the connection."""
    try:
        _exchange(connection, token, mine, theirs)
    except BaseException:
        connection.close()
        raise


def _exchange(connection: socket.socket, token: bytes, mine: bytes, theirs: bytes) -> None:
    nonce = secrets.token_bytes(TOKEN_BYTES)
    connection.sendall(nonce)
    other = exactly(connection, TOKEN_BYTES)
    both = b"".join((nonce, other) if mine == b"dials" else (other, nonce))
    if isinstance(connection, ssl.SSLSocket):
        binding = connection.get_channel_binding("tls-unique")
        if not binding:  # whoever sits in between could pass the proofs on
            raise PermissionError("nothing binds the proof to this channel")
        both += binding
    connection.sendall(hmac.digest(token, mine + both, "sha256"))
    proof = exactly(connection, hashlib.sha256().digest_size)
    if not hmac.compare_digest(proof, hmac.digest(token, theirs + both, "sha256")):
        raise PermissionError("the other end does not know the token")


def _keyed(connection: socket.socket, token: bytes, *, server: bool) -> ssl.SSLSocket:
    if sys.version_info >= (3, 13) and TOKEN_IN_KEYS:
        context = _context(_CIPHER_KEYED, server=server)
        if server:
            context.set_psk_server_callback(lambda _: token)
        else:
            context.set_psk_client_callback(lambda _: ("", token))
    else:
        context = _anonymous(server=server)
    try:
        return context.wrap_socket(connection, server_side=server)
    except ssl.SSLError as error:
        raise PermissionError(
            f"no keys could be agreed upon; perhaps the other end does not know the token ({error})"
        ) from error


@functools.cache
def _anonymous(*, server: bool) -> ssl.SSLContext:
    return _context(_CIPHER, server=server)


def _context(cipher: str, *, server: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # The last version with what binds the proof to the channel, and with these exchanges.
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    if server:
        with tempfile.NamedTemporaryFile("w") as parameters:  # they are read from files only
            parameters.write(_FFDHE2048)
            parameters.flush()
            context.load_dh_params(parameters.name)
    return context
