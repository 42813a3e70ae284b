"""What a host is: whoever sees the same registry is on the same one."""

from __future__ import annotations

from memshare_jupyter.core import _proc
from memshare_jupyter.core.ledger._runtime import make_directory, runtime_directory


def host_identity() -> str:
    """Return what tells the host of this process from all others, as far as memory is shared.

    That is the boot of the kernel, and which directory the runtime directory is there. So
    containers of one machine are hosts of their own, unless they share it; and processes of two
    machines are on two hosts also where a network shows both the same directory. Neither a name
    nor the machine's id would tell containers apart.

    Raises
    ------
    RegistryCorruptError, NotEnoughMemoryError
        There can be no runtime directory.
    """
    directory = runtime_directory()
    make_directory(directory)
    found = directory.stat()
    return f"{_proc.boot_id()}/{found.st_dev:x}/{found.st_ino:x}"
