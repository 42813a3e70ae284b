"""How many files this process may have open: a page takes a descriptor, and its mapping another.

From Python 3.13 on a mapping needs none of its own, see `blocks.map_block`.
"""

from __future__ import annotations

import errno
import resource
import sys
from typing import Final

from memshare_jupyter.errors import TooManyFilesError

RUN_OUT: Final = (errno.EMFILE, errno.ENFILE)
"""What the system says when no descriptor is left, to the process or to the machine."""
_SPARE: Final = 64


def keep_spare(fd: int) -> None:
    """Raise the soft limit of open files when `fd`, the newest, comes close to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and fd > soft - _SPARE:
        _raise(soft, hard)


def make_room() -> bool:
    """Raise the soft limit after a call failed for want of a descriptor; whether to try again.

    Somebody else in this process may have opened the last ones, past `keep_spare`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft not in {resource.RLIM_INFINITY, hard} and _raise(soft, hard)


def _raise(soft: int, hard: int) -> bool:
    most = 2 * soft if hard == resource.RLIM_INFINITY else min(hard, 2 * soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # fs.nr_open may be lower than the hard limit
        return False
    return most > soft


def refusal(error: OSError) -> TooManyFilesError:
    """Return the error for what failed for want of a descriptor."""
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if error.errno == errno.ENFILE:
        found = "no process on this machine can open another file (fs.file-max)"
    else:
        most = f" (the hard limit is {hard:,})" if limit != hard else ""
        found = f"this process may have {limit:,} files open{most}, and has as many"
    each = "one" if sys.version_info >= (3, 13) else "two"
    return TooManyFilesError(
        f"{found}; every page and every view takes {each}. Release pages and views that are no "
        "longer needed, share many small arrays as one page (a list or a dict of them), or raise "
        "the limit before Jupyter starts: ulimit -n in its shell, LimitNOFILE= in its service",
        limit=limit,
    )


def explained(error: Exception) -> Exception:
    """Return the error that says that no descriptor is left, if that is what `error` says."""
    if isinstance(error, OSError) and error.errno in RUN_OUT:
        return refusal(error)
    return error


def raise_if_run_out(error: OSError) -> None:
    """Raise that no descriptor is left, if that is what `error` says.

    Where this process may have more, the next call will: the message tells how many it had.
    """
    if error.errno in RUN_OUT:
        told = refusal(error)
        make_room()
        raise told from error
