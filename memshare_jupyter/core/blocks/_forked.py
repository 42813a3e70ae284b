"""What a fork does to blocks that are files: parent and child need locks of their own.

An flock(2) belongs to the open file, which a forked child shares with its parent: when one of
them asked for the exclusive lock to remove the file, the other's would go with it. So the parent
opens its files anew before it forks, and the child goes on with those. Of a file that cannot be
opened anew neither asks for the lock again, and whoever looks after both have closed it removes it.

What another thread was opening at that moment, the child has open as well, and no table of it says
so: `close_strays` looks for it where the kernel says it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import os
import re
import resource
from collections.abc import Container, Iterable, Iterator
from typing import Final

from memshare_jupyter.core._opened import Opened, known
from memshare_jupyter.core.blocks._file import FileBlock, open_locked
from memshare_jupyter.core.blocks._gone import SegmentGone

_BLOCK: Final = re.compile(r"/(?:memfd:memshare:|(?=[0-9a-f]{32}\.page))([0-9a-f]{32})")
_for_child: Final[list[tuple[FileBlock, Opened]]] = []
"""While this process forks: its blocks, and open files of them that will be the child's."""


def _files() -> Iterator[FileBlock]:
    return (block for block in known() if isinstance(block, FileBlock) and block.fd >= 0)


def _at_exit() -> None:
    # Arrays that live to the very end keep their mappings, but need the file no more.
    for block in _files():
        block.remove_if_last()


def _before_fork() -> None:
    # Not in the child: the parent may let go before the child comes to it.
    try:
        _open_all()
    except BaseException:  # an interrupt, which nobody hears of in a hook
        _open_all()
        raise


def _open_all() -> None:
    done = {block for block, _ in _for_child}
    for block in _files():
        if block not in done:
            opened = Opened()
            _open_again(block, opened)
            _for_child.append((block, opened))


def _open_again(block: FileBlock, opened: Opened) -> None:
    try:
        flags = fcntl.fcntl(block.fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
    except (OSError, ValueError):  # a signal handler has closed it
        return
    for way in (flags, os.O_RDONLY):  # the owner's own way in may be sealed by now
        with contextlib.suppress(OSError, SegmentGone):
            open_locked(opened, block.uuid, block.place, way)
            return
        opened.close()


def _after_fork_in_parent() -> None:
    anew = {block for block, opened in _for_child if opened.fd >= 0}
    for block in _files():
        if block not in anew:  # its lock is the child's as well now: neither may ask for more
            block.locked = False
    while _for_child:
        block, opened = _for_child.pop()
        if block.fd < 0 and opened.fd >= 0:  # let go of meanwhile, when this lock was in the way
            copy = FileBlock(block.uuid, block.place)
            opened.give(copy)
            copy.close()
        opened.close()


def _after_fork_in_child() -> None:
    own = set()
    while _for_child:
        block, opened = _for_child.pop()
        if opened.fd >= 0 and block.fd >= 0 and block not in own:
            os.dup2(opened.fd, block.fd, inheritable=False)
            own.add(block)
        opened.close()
    for block in _files():
        if block not in own:  # an interrupt of the parent: perhaps it is not too late
            opened = Opened()
            _open_again(block, opened)
            if opened.fd >= 0:
                os.dup2(opened.fd, block.fd, inheritable=False)
                own.add(block)
            opened.close()
        # Without a name, or a descriptor left, the lock on this one is the parent's as well.
        block.locked = block in own


def close_strays(keep: Container[bytes], blind: Container[bytes]) -> None:
    """Close the blocks that a forked child has open and does not know of.

    `keep` are the blocks of its pages. Beside the descriptor that is known, a further one may be
    what another thread was opening, or that of a mapping, which Python 3.13 has no more; so may one
    of those in `blind`, whose mapping is another thread's work. A mapping may close its number some
    day: something else stands there from now on, and no mapping needs more.
    """
    mine = {opened.fd: getattr(opened, "uuid", b"") for opened in known()}
    with_own = set(mine.values())  # the others' mapping is all they have, and the lock on a file
    nothing = Opened()
    for fd in _numbers():
        with contextlib.suppress(OSError):
            found = _BLOCK.search(os.readlink(f"/proc/self/fd/{fd}"))
            if found is None:
                continue
            uuid = bytes.fromhex(found[1])
            if uuid in keep and (fd in mine or uuid not in with_own):
                continue
            if uuid in keep or uuid in blind:
                if nothing.fd < 0:
                    nothing.open(os.open, os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                os.dup2(nothing.fd, fd, inheritable=False)
            else:
                os.close(fd)
    nothing.close()


def unmap(uuid: bytes, address: int) -> bool:
    """Unmap what a thread that a forked child does not have was just unmapping; say if it is there.

    That thread has let go of it in Python, and was in munmap(2) or before it.
    """
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(number, 16) for number in line.split(" ", 1)[0].split("-"))
            if start == address and uuid.hex() in line:
                size_bytes = ctypes.c_size_t(end - start)
                return not ctypes.CDLL(None).munmap(ctypes.c_void_p(start), size_bytes)
    return False


def _numbers() -> Iterable[int]:
    try:
        return map(int, os.listdir("/proc/self/fd"))
    except OSError:  # no descriptor is left to look with
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
    # In C, for what an interrupt left: its descriptors are closed at the next turn.
    os.register_at_fork(after_in_parent=_for_child.clear)
