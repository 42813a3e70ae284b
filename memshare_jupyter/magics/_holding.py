"""What in a notebook holds the arrays of a page that was let go: names, results, the last error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from traceback import walk_tb
from typing import Any

from memshare_jupyter.core.values import View


def holders_of(pages: Sequence[str], variables: Mapping[str, Any]) -> list[str]:
    """Return what people call those that hold arrays of pages, and how to end each.

    Only arrays are recognised, also inside a list or a dict; not the frames that are made of them.

    >>> holders_of(["rna.X"], {"a": 1})
    []
    """
    found = [f"{name} (del {name})" for name in _names(variables) if _has(pages, variables[name])]
    results = variables.get("Out")
    if isinstance(results, dict):
        numbers = [number for number, value in results.items() if _has(pages, value)]
        found += [f"Out[{number}] (%reset -f out)" for number in numbers]
    error = getattr(sys, "last_value", None)
    if isinstance(error, BaseException) and any(_has(pages, v) for v in _locals(error, variables)):
        found.append("the traceback of the last error (until there is another one)")
    return found


def _names(variables: Mapping[str, Any]) -> list[str]:
    return [name for name in variables if not name.startswith("_") and name not in ("Out", "In")]


def _has(pages: Sequence[str], value: Any) -> bool:
    if isinstance(value, View):
        return value.page in pages
    if isinstance(value, dict):
        return any(_has(pages, one) for one in value.values() if isinstance(one, View))
    if isinstance(value, list | tuple):
        return any(_has(pages, one) for one in value if isinstance(one, View))
    return False


def _locals(error: BaseException, variables: Mapping[str, Any]) -> Iterator[Any]:
    for frame, _ in walk_tb(error.__traceback__):
        if frame.f_locals is not variables:
            yield from frame.f_locals.values()
