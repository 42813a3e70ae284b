"""The reference's functions on this process's registry: pages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from memshare_jupyter.core.names import several
from memshare_jupyter.core.registry import PageInfo, Snapshot, registry


def register_variables(
    namespace: str,
    variables: Mapping[str, Any],
    *,
    writable: bool = False,
    backend: Literal["memfd", "file"] | None = None,
    directory: str | os.PathLike[str] | None = None,
) -> None:
    """Put values into shared memory under names; this process owns them.

    The data is copied once, into memory that every process of this user on this host can attach
    by name without another copy. It stays there until `release_variables`, or until this process
    ends, in whatever way; views that other processes have taken by then stay valid.

    Registering a name again replaces its value. Views taken before keep the old values.

    Parameters
    ----------
    namespace : str
        Name of the sharing context, at most 128 bytes; not empty, no leading dot, no slash, no
        backtick, nothing unprintable.
    variables : mapping of str to object
        Values by variable name, which follows the same rules. Arrays may have any dtype without
        Python objects, any shape, and any memory layout; C and F order are kept. Record and
        masked arrays, lists, tuples and dicts of arrays, frames of pandas and polars, Arrow
        tables, sparse matrices, models and whatever else pickles are shared too: the arrays
        inside stand in shared memory like any other, and a view of another page as its data.
        What remains is Python objects, and arrays that a class copies when it is rebuilt, as the
        trees of a forest do; ``unshared_bytes`` of `retrieve_metadata` tells how much that is.
    writable : bool, default False
        Let viewers ask for write access. Otherwise the operating system refuses every write.
        There is no lock: who writes where is for the writers to agree upon.
    backend : {"memfd", "file"}, optional
        What the memory is: a memfd, which nothing can leave behind, or a file, which may lie on a
        disk and so be larger than memory. By default a memfd, or a file when ``MEMSHARE_DIR``
        names a directory or the system has no memfds.
    directory : path, optional
        Where the file lies: a directory of your own, made if need be. By default
        ``MEMSHARE_DIR``, else one on ``/dev/shm``.

    Raises
    ------
    TypeError
        The values have no names.
    ValueError
        There is no such backend here, or a memfd was asked for in a directory.
    RegistryCorruptError
        Others could change the directory.
    InvalidNameError
        A name breaks a rule. As after every error here, nothing was registered.
    UnsupportedValueError
        A value, or something in it, means nothing to another process.
    PageExistsError
        Another living process owns a page of one of the names.
    NotEnoughMemoryError
        The values would not fit into the free memory of the machine or its control group, or on
        the file system of the directory.
    TooManyFilesError
        This process has as many files open as it may; every page needs one or two.
    LockTimeoutError
        Another process stopped while it registered one of the names.

    Examples
    --------
    >>> import numpy as np
    >>> import memshare_jupyter as ms
    >>> ms.register_variables("doc", {"X": np.eye(3), "y": np.arange(3)})
    >>> ms.page_list()
    ['doc.X', 'doc.y']
    >>> ms.release_variables("doc", ["X", "y"])
    """
    if not isinstance(variables, Mapping):
        raise TypeError(
            f"variables must be a dict, {{name: value}}, not a {type(variables).__name__}"
        )
    registry().register(
        namespace, variables, writable=writable, backend=backend, directory=directory
    )


def release_variables(namespace: str, names: str | Iterable[str]) -> None:
    """End this process's ownership of pages.

    The names are free at once. The memory is free when the last view is gone, too: views that
    processes have taken stay valid and keep their values.

    Parameters
    ----------
    namespace : str
        Name of the sharing context.
    names : str or iterable of str
        Variables to release.

    Raises
    ------
    PageNotFoundError
        There is no such page. Nothing was released.
    NotOwnerError
        Another process owns it. Nothing was released.

    Examples
    --------
    >>> import memshare_jupyter as ms
    >>> ms.register_variables("doc", {"y": [1, 2]})
    >>> ms.release_variables("doc", "y")
    >>> ms.page_list()
    []
    """
    registry().release(namespace, several(names))


def retrieve_metadata(namespace: str, names: str | Iterable[str]) -> dict[str, PageInfo]:
    """Say what pages hold and who holds them; takes no view.

    Parameters
    ----------
    namespace : str
        Name of the sharing context.
    names : str or iterable of str
        Variables to look at.

    Returns
    -------
    dict of str to PageInfo
        By variable: kind, dtype, shape, order, size in bytes and how much of it is not shared,
        owner, holders and more.

    Raises
    ------
    PageNotFoundError
        There is no such page.

    Examples
    --------
    >>> import numpy as np
    >>> import memshare_jupyter as ms
    >>> ms.register_variables("doc", {"X": np.zeros((3, 4))})
    >>> X = ms.retrieve_metadata("doc", "X")["X"]
    >>> X.kind, X.shape, X.dtype, X.order, X.size_bytes, X.state, len(X.holders)
    ('array', (3, 4), 'float64', 'C', 96, 'active', 1)
    >>> ms.release_variables("doc", "X")
    """
    return {name: registry().metadata(namespace, name) for name in several(names)}


def adopt(namespace: str, names: str | Iterable[str]) -> None:
    """Become the owner of pages that are orphaned: their owner ended, and others still view them.

    So a page survives the restart of the kernel that registered it: as long as some process has a
    view, any process can attach it by its name, and one can take over. Nothing is copied. The page
    counts as this process's until `release_variables` or the process's end.

    Parameters
    ----------
    namespace : str
        Name of the sharing context.
    names : str or iterable of str
        Variables to adopt.

    Raises
    ------
    PageNotFoundError
        No living process has such a page. Nothing was adopted.
    PageExistsError
        A living process owns it. Nothing was adopted.

    Notes
    -----
    The memory was sealed by its first owner, so its new one can neither write to it nor replace
    the value in place; registering the name again makes a new page, as ever. After it is released,
    the page is orphaned once more as long as somebody views it.

    Examples
    --------
    >>> import memshare_jupyter as ms
    >>> [p.name for p in ms.snapshot().pages if p.state == "orphaned"]
    []
    >>> ms.adopt("doc", [])
    """
    registry().adopt(namespace, several(names))


def page_list() -> list[str]:
    """Return the pages that this process owns, as ``namespace.variable``.

    Examples
    --------
    >>> import memshare_jupyter as ms
    >>> ms.register_variables("doc", {"y": [1, 2]})
    >>> ms.page_list()
    ['doc.y']
    >>> ms.release_variables("doc", "y")
    """
    return registry().pages()


def snapshot() -> Snapshot:
    """Return every page of this user on this host, with its holders and its state.

    Examples
    --------
    >>> import memshare_jupyter as ms
    >>> ms.register_variables("doc", {"y": [1, 2]})
    >>> [(page.name, page.kind, page.state) for page in ms.snapshot().pages]
    [('doc.y', 'list', 'active')]
    >>> ms.release_variables("doc", "y")
    """
    return registry().snapshot()
