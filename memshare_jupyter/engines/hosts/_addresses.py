"""The addresses by which other hosts may reach this one: of its interfaces, all but the loopback.

Which of them leads here from another host, that one finds out by trying: who answers has to prove
who it is. See netdevice(7) and proc_net(5).
"""

from __future__ import annotations

import fcntl
import socket
import struct
from pathlib import Path
from typing import Final

_SIOCGIFADDR: Final = 0x8915
_REQUEST: Final = struct.Struct("16s16x8x")
_ADDRESS_AT: Final = 20
_GLOBAL: Final = 0x00
_IPV6: Final = Path("/proc/net/if_inet6")


def addresses() -> list[str]:
    """Return this host's addresses, IPv4 first."""
    return [*_ipv4(), *_ipv6()]


def _ipv4() -> list[str]:
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                asked = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, _REQUEST.pack(name.encode()[:15]))
            except OSError:  # it has none
                continue
            address = socket.inet_ntoa(asked[_ADDRESS_AT : _ADDRESS_AT + 4])
            if not address.startswith("127."):
                found.append(address)
    return found


def _ipv6() -> list[str]:
    try:
        lines = _IPV6.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        digits, _, _, scope, *_ = line.split()
        if int(scope, 16) == _GLOBAL:
            found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)))
    return found
