"""Files that each host loads by itself, from storage that it can see."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshare_jupyter.core import api
from memshare_jupyter.core.registry import registry
from memshare_jupyter.errors import UnsupportedValueError

if TYPE_CHECKING:
    from memshare_jupyter.engines import AnyCluster


def register_file(
    namespace: str,
    name: str,
    path: str | os.PathLike[str],
    *,
    writable: bool = False,
    loader: Callable[[str], Any] | None = None,
    cluster: AnyCluster = None,
) -> None:
    """Read a ``.npy`` file straight into shared memory; this process owns the page.

    There is no other copy at any time, so the file may be as large as the free memory.

    Parameters
    ----------
    namespace, name : str
        The page's name, as in `register_variables`.
    path : path
        A file that `numpy.save` wrote, or what `loader` takes.
    writable : bool, default: False
        As in `register_variables`.
    loader : callable, optional
        Called as ``loader(path)`` for the value, where the file is another kind of one.
    cluster : Client, DirectView, Cluster, LocalCluster or None
        Each host of its engines reads the file, too, so that nothing has to cross the network. One
        that does not have it gets the page from here when a call needs it.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    UnsupportedValueError
        It is no ``.npy`` file, is cut short, or holds Python objects; or it is another one on a
        host, which the message names.
    InvalidNameError, PageExistsError, NotEnoughMemoryError, LockTimeoutError
        As in `register_variables`. After every error nothing was registered.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> import memshare_jupyter as ms
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.npy")
    ...     np.save(path, np.arange(5))
    ...     ms.register_file("doc", "x", path)
    ...     ms.register_file("doc", "y", path, loader=lambda path: np.load(path)[::2].copy())
    >>> ms.retrieve_metadata("doc", "x")["x"].shape, ms.retrieve_metadata("doc", "y")["y"].shape
    ((5,), (3,))
    >>> ms.release_variables("doc", ["x", "y"])
    """
    path = os.path.abspath(path)
    if loader is None:
        registry().register_file(namespace, name, Path(path), writable=writable)
    else:
        api.register_variables(namespace, {name: loader(path)}, writable=writable)
    if cluster is None:
        return
    # Imported here, because it brings what only clusters of several hosts need.
    from memshare_jupyter.engines.hosts._load import load_on_hosts  # noqa: PLC0415

    try:
        differing = load_on_hosts(namespace, name, path, loader, cluster)
        if differing:
            raise UnsupportedValueError(
                f"{path} is not the same file everywhere: {'; '.join(differing)}; give a path on "
                "storage that all hosts share, or leave out cluster= to send the page"
            )
    except BaseException:
        api.release_variables(namespace, name)
        raise
