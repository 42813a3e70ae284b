"""What a worker is told: the task, which is the same for all of them, and its own place in it."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from memshare_jupyter.worker._edited import edited_modules, forget
from memshare_jupyter.worker._layout import Address
from memshare_jupyter.worker._seeds import Seeds


class Task(NamedTuple):
    """A call as it is sent to every worker: a few hundred bytes, because pages go by reference.

    Attributes
    ----------
    value : array of shape (n_rows, n_columns), frame, or sequence
        What to apply the function to.
    margin : {1, 2, None}
        Its rows, its columns, or its elements.
    fun : callable
        Gets an item, and `variables` by keyword.
    variables : dict of str to object
        Further arguments.
    batch : int
        Give `fun` up to so many rows or columns at once, as a matrix; 0 for one at a time.
    keep_going : bool
        Put an exception into the place of the result, and go on.
    seeds : Seeds or None
        What makes the generator `rng` that `fun` gets as well.
    """

    value: Any
    margin: int | None
    fun: Callable[..., Any]
    variables: dict[str, Any]
    batch: int
    keep_going: bool
    seeds: Seeds | None = None


class World(NamedTuple):
    """Where the caller is, for engines that follow it.

    Attributes
    ----------
    path : tuple of str
        Its ``sys.path``.
    directory : str
        Its working directory.
    edited : tuple of (name, number)
        Its modules whose files changed in its life.
    """

    path: tuple[str, ...]
    directory: str
    edited: tuple[tuple[str, int], ...]

    @classmethod
    def of_this_process(cls) -> World:
        """Return that of this process."""
        try:
            directory = os.getcwd()
        except FileNotFoundError:  # it was removed
            directory = ""
        path = tuple(entry for entry in sys.path if isinstance(entry, str))
        return cls(path, directory, edited_modules())

    def follow(self) -> None:
        """Go there, and stay."""
        if sys.path != [*self.path]:
            sys.path[:] = self.path
            importlib.invalidate_caches()
        if self.directory:
            with contextlib.suppress(OSError):
                if os.getcwd() != self.directory:
                    os.chdir(self.directory)
        forget(self.edited)


class Place(NamedTuple):
    """Where one worker works: what of a call differs between the workers.

    Attributes
    ----------
    address : Address
        Where the items come from and the results go.
    worker, region : int
        The worker's number in the queue, and where its results go.
    engine : int
        Its id in the cluster.
    world : World or None
        Where the worker goes before it begins; None to stay where it is.
    here : bool
        Whether it is the caller that works, because it is in a call itself.
    """

    address: Address
    worker: int
    region: int
    engine: int
    world: World | None = None
    here: bool = False
