"""What a worker is told: the task, which is the same for all of them, and its own place in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memshare_jupyter.worker._layout import Address
from memshare_jupyter.worker._seeds import Seeds


@dataclass(frozen=True, slots=True)
class Task:
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where one worker works: what of a call differs between the workers.

    Attributes
    ----------
    address : Address
        Where the items come from and the results go.
    worker, region : int
        The worker's number in the queue, and where its results go.
    engine : int
        Its id in the cluster.
    """

    address: Address
    worker: int
    region: int
    engine: int
