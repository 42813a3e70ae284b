"""Every error this package raises.

::

    MemshareError
    ├── InvalidNameError       (ValueError)       a namespace or variable that cannot be one
    ├── UnsupportedValueError  (TypeError)        a value that cannot be shared
    ├── PageExistsError        (FileExistsError)  another living process owns that name
    ├── PageNotFoundError      (KeyError)         no such page, or no such view here
    ├── NotOwnerError          (PermissionError)  only a page's owner may do that
    ├── ReadOnlyPageError      (PermissionError)  its owner did not share it for writing
    ├── NotEnoughMemoryError   (MemoryError)      a page would not fit
    ├── TooManyFilesError      (OSError)          no file descriptor is left for a page
    ├── HeaderMismatchError    (ValueError)       a page of another format or version
    ├── RegistryCorruptError   (RuntimeError)     the runtime directory cannot be trusted
    ├── LockTimeoutError       (TimeoutError)     a name stayed locked by another process
    ├── RegistryBusyError      (RuntimeError)     asked for in the middle of another act
    ├── ClusterError           (RuntimeError)     engines that cannot be used
    └── MemApplyError          (RuntimeError)     the applied function failed

A message says what was asked, what was found and what to do next; the facts it names are
attributes as well. Errors survive pickling, because they travel from engines.

Beside them, for all public functions: pointing, at the user's line, and spelling, of names as in R.
Inside, imports go in one direction: pointing <- spelling; the errors import nothing of ours.
"""

from __future__ import annotations

from typing import Any


class MemshareError(Exception):
    """Base class of all errors of this package.

    Parameters
    ----------
    message : str
        What was asked, what was found, what to do.
    **facts
        The facts the message names; each becomes an attribute.

    Examples
    --------
    >>> import memshare_jupyter as ms
    >>> try:
    ...     ms.retrieve_views("doc", "nothing")
    ... except ms.MemshareError as error:
    ...     print(type(error).__name__, isinstance(error, KeyError))
    PageNotFoundError True
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts
        for name, fact in facts.items():
            setattr(self, name, fact)

    def __str__(self) -> str:
        # Some builtins we also derive from would not: KeyError quotes, OSError wants an errno.
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.facts)


def _rebuild(cls: type[MemshareError], message: str, facts: dict[str, Any]) -> MemshareError:
    return cls(message, **facts)


class InvalidNameError(MemshareError, ValueError):
    """A namespace or variable is empty, too long, or has a character it may not have."""


class UnsupportedValueError(MemshareError, TypeError):
    """A value cannot be put into shared memory."""


class PageExistsError(MemshareError, FileExistsError):
    """Another living process owns a page of that name."""


class PageNotFoundError(MemshareError, KeyError):
    """No page of that name can be reached, or this process holds no such handle."""


class NotOwnerError(MemshareError, PermissionError):
    """Only the process that registered a page may do that."""


class ReadOnlyPageError(MemshareError, PermissionError):
    """A page was not registered as writable, or holds an object that could lose a write."""


class NotEnoughMemoryError(MemshareError, MemoryError):
    """The machine, or the control group of this process, has too little memory for a page."""


class TooManyFilesError(MemshareError, OSError):
    """This process, or the machine, may not open another file, and every page needs one."""


class HeaderMismatchError(MemshareError, ValueError):
    """A page was written by another version of this package, or is not a page."""


class RegistryCorruptError(MemshareError, RuntimeError):
    """The runtime directory is not one this process may trust."""


class LockTimeoutError(MemshareError, TimeoutError):
    """Another process kept a name locked for too long."""


class RegistryBusyError(MemshareError, RuntimeError):
    """A signal handler or finalizer asked for a value in the middle of another act.

    It ran in the thread whose act it interrupted, so to wait would be to wait for ever. Releasing
    and detaching are done at the end of that act instead.
    """


class ClusterError(MemshareError, RuntimeError):
    """No engine, or no engine on this host, can be used."""


class MemApplyError(MemshareError, RuntimeError):
    """The function given to ``memapply`` or ``memlapply`` failed on an item.

    Attributes
    ----------
    index : int or None
        Position of the row, column or list element, the first one of a batch; None when the
        engine failed before it reached an item.
    items : range or None
        All items that the function was given: more than one with ``batch=True``.
    label : str or None
        Name of the column, if it was a frame's.
    engine : int
        Id of the engine.
    remote_traceback : str
        The traceback as the engine saw it; empty if the engine died.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import MemApplyError, memapply
    >>> try:
    ...     memapply(np.eye(3), "rows", lambda row: 1 // int(row[1]))
    ... except MemApplyError as error:
    ...     print(repr(error.__cause__))
    ZeroDivisionError('integer division or modulo by zero')
    """

    index: int | None
    items: range | None
    label: str | None
    engine: int
    remote_traceback: str

    def _render_traceback_(self) -> list[str]:
        """Let IPython show the engine's traceback instead of ours."""
        lines = self.remote_traceback.rstrip().splitlines()
        return [*lines, *([""] if lines else []), f"MemApplyError: {self.message}"]
