"""The reference's functions on this process's registry: views."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memshare_jupyter.core.blocks import Mode
from memshare_jupyter.core.names import several
from memshare_jupyter.core.registry import registry


def retrieve_views(namespace: str, names: str | Iterable[str], mode: Mode = "r") -> dict[str, Any]:
    """Attach pages by name, without a copy.

    This process then counts as a holder of each page until `release_views`, or until it ends.
    Retrieving a page twice gives another array on the same memory and needs one release.

    Parameters
    ----------
    namespace : str
        Name of the sharing context.
    names : str or iterable of str
        Variables to attach.
    mode : {"r", "r+", "c"}, default: "r"
        As in `numpy.memmap`: read only; read and write, for pages that were registered with
        ``writable=True``; or private copy on write, in which what you write to is copied, page of
        memory by page of memory, and nobody else sees it.

    Returns
    -------
    dict of str to View
        By variable: an array, or what was registered, rebuilt on the shared memory.

    Raises
    ------
    PageNotFoundError
        No living process has such a page; the message says what there is. Nothing was attached.
    ReadOnlyPageError
        Mode "r+" for a page that was registered for reading only, or for an object, such as a
        frame, that may keep to itself what is written to it.
    HeaderMismatchError
        The page was written by another version of this package.
    UnsupportedValueError
        What was registered cannot be rebuilt here, for example because a package is missing.
    MemoryError
        There is no memory for what of an object is not shared.
    TooManyFilesError
        This process has as many files open as it may; every view needs one or two.

    Examples
    --------
    >>> import numpy as np
    >>> import memshare_jupyter as ms
    >>> ms.register_variables("doc", {"X": np.eye(3)})
    >>> X = ms.retrieve_views("doc", ["X"])["X"]
    >>> float(X.sum()), ms.view_list()
    (3.0, ['doc.X'])
    >>> ms.release_views("doc", ["X"])  # X is still in use; the handle ends with it
    ['doc.X']
    >>> del X
    >>> ms.view_list()
    []
    >>> ms.release_variables("doc", ["X"])
    """
    return registry().attach_all(namespace, several(names), mode=mode, whole=True)


def release_views(namespace: str, names: str | Iterable[str]) -> list[str]:
    """End this process's views of pages.

    Arrays that still use the memory stay valid; the handle then ends with the last of them.

    Parameters
    ----------
    namespace : str
        Name of the sharing context.
    names : str or iterable of str
        Variables to detach.

    Returns
    -------
    list of str
        The pages that arrays of this process still use, as ``namespace.variable``.

    Raises
    ------
    PageNotFoundError
        This process has no view of that name. Nothing was detached.

    Examples
    --------
    >>> import numpy as np
    >>> import memshare_jupyter as ms
    >>> ms.register_variables("doc", {"X": np.eye(3)})
    >>> view = ms.retrieve_views("doc", "X")["X"]
    >>> ms.release_views("doc", "X")  # `view` is still there, and good
    ['doc.X']
    >>> float(view.sum())
    3.0
    >>> del view
    >>> ms.release_variables("doc", "X")
    """
    return registry().detach(namespace, several(names))


def view_list() -> list[str]:
    """Return the pages that this process has attached, as ``namespace.variable``.

    A page counts until its memory is unmapped here, so also when it was released while arrays
    still use it.

    Examples
    --------
    >>> import memshare_jupyter as ms
    >>> ms.register_variables("doc", {"y": [1, 2]})
    >>> y = ms.retrieve_views("doc", "y")["y"]
    >>> ms.view_list()
    ['doc.y']
    >>> ms.release_views("doc", "y")
    []
    >>> ms.release_variables("doc", "y")
    """
    return registry().views()
