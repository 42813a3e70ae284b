"""What becomes of the results: a list, an array of the caller's own, or a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from memshare_jupyter.apply._collect import Results
from memshare_jupyter.core import blocks
from memshare_jupyter.core.names import PageName, parse
from memshare_jupyter.core.registry import registry
from memshare_jupyter.errors import MemApplyError


class Out:
    """What the caller asked for by `out`.

    Parameters
    ----------
    out : str
        ``"list"``, ``"array"``, or the name of a page.
    namespace : str or None
        Where a page is whose namespace is left out.

    Raises
    ------
    TypeError, InvalidNameError
        `out` is none of these.
    """

    def __init__(self, out: str, namespace: str | None) -> None:
        if not isinstance(out, str):
            raise TypeError(f"out must be 'list', 'array' or a name, not {out!r}")
        self._is_list = out == "list"
        self._page: PageName | None = None
        if out not in ("list", "array"):
            self._page = parse(out, namespace)

    def check_on_error(self, on_error: str) -> None:
        """Raise ValueError unless `on_error` is one of its values, and possible with this."""
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error must be 'raise' or 'return', not {on_error!r}")
        if on_error == "return" and not self._is_list:
            raise ValueError(
                "on_error='return' puts exceptions among the results, which an array cannot hold; "
                "leave out='list', or on_error='raise'"
            )

    def area(self) -> tuple[blocks.Backend, str] | None:
        """Return where the array of the results is to be made, if there is to be one."""
        if self._is_list:
            return None
        return blocks.anonymous() if self._page is None else blocks.choose()

    def made_of(
        self, results: Results, regions: int, given_up: Mapping[range, MemApplyError]
    ) -> Any:
        """Return what was asked for; in the place of items that were given up are their errors."""
        form = results.complete(regions)
        if form is None:
            found: list[Any] = [None] * results.items
            results.put(found, regions)
            for items, error in given_up.items():
                found[items.start : items.stop] = [error] * len(items)
            if self._is_list:
                return found
            array = _stacked(found)
        elif self._page is None:
            return results.mapped(form)
        if self._page is None:
            return array
        if form is None:
            registry().register(self._page.namespace, {self._page.variable: array})
        else:
            dtype, shape = form
            whole = (results.items, *shape)
            registry().adopt_block(*self._page, results.take_area(), whole, dtype)
        return registry().attach(*self._page, hold=False)


def _stacked(results: list[Any]) -> np.ndarray[Any, Any]:
    """Make one array of results that the engines could not."""
    shapes = [np.shape(result) for result in results]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                "out='array' needs results of one shape: that of item 0 has shape "
                f"{shapes[0]}, that of item {index} {shape}; leave out='list'"
            )
    array = np.array(results)
    if array.dtype.hasobject:
        raise TypeError(
            "out='array' needs numbers or arrays of them as results, not "
            f"{type(results[0]).__name__}; leave out='list'"
        )
    return array
