"""What to do where a library says only that it may not write, and the memory is that of a page.

An array of ours says it by itself; a frame of pandas ends in numpy's own words, on an array that
pandas made of its memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from traceback import walk_tb
from typing import Any

from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.views import view_list
from memshare_jupyter.magics._holding import holds


def advice(error: object, variables: Mapping[str, Any]) -> str:
    """Return a sentence about the page that an error is about; empty if it is about none.

    Parameters
    ----------
    error : object
        What a cell ended with.
    variables : mapping of str to value
        All variables of the notebook.
    """
    if not isinstance(error, ValueError) or not str(error).endswith("read-only"):
        return ""
    touched = [error, *_mentioned(error, variables)]
    for page in view_list():
        if any(holds(registry().mapped([page]), value, variables) for value in touched):
            return (
                f"{page} is shared, and its views are read-only: other processes read the same "
                "memory. Work on a copy (x = x.copy()), or register the new values under the name"
            )
    return ""


def _mentioned(error: BaseException, variables: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the variables that the cell and its functions mention: they have all there are."""
    for frame, _ in walk_tb(error.__traceback__):
        if frame.f_globals is variables:
            yield from (variables[name] for name in frame.f_code.co_names if name in variables)
