"""What becomes of the results: a list, an array, a page, or something of pandas'."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memshare_jupyter.core import blocks
from memshare_jupyter.core.names import PageName, parse
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import View, as_plain, is_masked_array
from memshare_jupyter.errors import MemApplyError, PageExistsError, UnsupportedValueError

if TYPE_CHECKING:
    from memshare_jupyter.apply._carry import Labels
    from memshare_jupyter.apply._collect import Results

FORMS: Final = ("list", "array", "series", "frame")
"""What `out` may say beside a name or an array."""


class Out:
    """What the caller asked for by `out`.

    Parameters
    ----------
    out : str or ndarray
        ``"list"``, ``"array"``, ``"series"``, ``"frame"``, the name of a page, or an array to
        write to.
    namespace : str or None
        Where a page is whose namespace is left out.

    Raises
    ------
    TypeError, ValueError, InvalidNameError
        `out` is none of these, or cannot be written to.
    PageExistsError
        Another process has a page of that name.
    """

    def __init__(self, out: Any, namespace: str | None) -> None:
        self._form = "array"
        self._array: np.ndarray[Any, Any] | None = None
        self._page: PageName | None = None
        if isinstance(out, np.ndarray):
            self._array = _writable(out)
        elif not isinstance(out, str):
            raise TypeError(
                "out must be 'list', 'array' or a name, 'series' or 'frame', or an array to write "
                f"to, not {out!r}"
            )
        elif out in FORMS:
            self._form = out
        else:
            self._page = parse(out, namespace)
            _refuse_if_taken(self._page)
        if self._form in ("series", "frame"):
            _pandas(self._form)

    def check(self, on_error: str, count: int | None = None) -> None:
        """Raise ValueError unless all that was asked for is possible together."""
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error must be 'raise' or 'return', not {on_error!r}")
        if on_error == "return" and self._form not in ("list", "series"):
            raise ValueError(
                "on_error='return' puts exceptions among the results, which an array cannot hold; "
                "leave out='list', or on_error='raise'"
            )
        if count is not None and self._array is not None and self._array.shape[:1] != (count,):
            there = "is 1 result" if count == 1 else f"are {count:,} results"
            raise ValueError(
                f"out has shape {self._array.shape}, but there {there}: its first dimension must "
                "be that"
            )

    def area(self) -> tuple[blocks.Backend, str] | None:
        """Return where the array of the results is to be made, if there is to be one."""
        if self._form != "array":
            return None
        return blocks.anonymous() if self._page is None else blocks.choose()

    def made_of(
        self,
        results: Results,
        regions: int,
        given_up: Mapping[range, MemApplyError],
        unreadable: Callable[[int, int, Exception], MemApplyError],
        labels: Labels | None,
        margin: int | None,
        keep_going: bool,
    ) -> Any:
        """Return what was asked for; in the place of items that were given up are their errors.

        Raises
        ------
        MemApplyError
            A result cannot be rebuilt here, and the call is not to keep going.
        Exception
            The results do not fit what was asked for. They are the error's `results`.
        """
        form = results.complete(regions) if results.area is not None else None
        if form is not None:
            found: Any = results.mapped(form)
        else:
            found = [None] * results.items
            failed: list[MemApplyError] = []

            def refused(*which: Any) -> MemApplyError:
                failed.append(unreadable(*which))
                return failed[-1]

            results.put(found, regions, refused)
            for items, error in given_up.items():
                found[items.start : items.stop] = [error] * len(items)
            if failed and not keep_going:
                raise _with_results(min(failed, key=lambda error: error.index or 0), found)
        try:
            return self._made(found, results, form, labels, margin)
        except Exception as error:
            _with_results(error, found)
            raise

    def _made(
        self, found: Any, results: Results, form: Any, labels: Labels | None, margin: int | None
    ) -> Any:
        if self._form == "list":
            return found
        if self._form == "series":
            return _series(found, labels)
        if self._form == "frame":
            return _frame(found, labels, margin)
        array = found if form is not None else self._stacked(found)
        if self._array is not None:
            return _filled(self._array, array)
        if self._page is None:
            return array
        if form is None:
            registry().register(self._page.namespace, {self._page.variable: array})
        else:
            # Of what is taken from here on the error, if there is one, has a copy of its own.
            registry().adopt_block(*self._page, results.take_area(), array.shape, array.dtype)
        return registry().attach(*self._page, hold=False)

    def _stacked(self, found: list[Any]) -> np.ndarray[Any, Any]:
        if not found and self._array is not None:
            return np.empty(self._array.shape, self._array.dtype)
        return stacked(found)


def stacked(results: list[Any]) -> np.ndarray[Any, Any]:
    """Make one array of results that the engines could not."""
    shapes = []
    for index, result in enumerate(results):
        try:
            shapes.append(np.shape(as_plain(result)))
        except UnsupportedValueError as error:
            if isinstance(result, np.ndarray) or not isinstance(result, list | tuple | np.generic):
                raise _no_array(result, index, error) from None
            shapes.append(np.shape(result))
        except ValueError:  # of several shapes in itself
            shapes.append(np.shape([]))
        if shapes[index] != shapes[0]:
            raise ValueError(
                "out='array' needs results of one shape: that of item 0 has shape "
                f"{shapes[0]}, that of item {index} {shapes[index]}; leave out='list'"
            )
    array = np.array(results)
    if array.dtype.hasobject:
        raise _no_array(results[0], 0, None)
    return array


def _no_array(result: Any, index: int, error: Exception | None) -> TypeError:
    kind = type(result).__name__
    if error is None or "its elements are Python objects" in str(error):
        return TypeError(
            f"out='array' needs numbers or arrays of them as results, not {kind} (that of item "
            f"{index}); leave out='list'"
        )
    return TypeError(f"out='array' cannot hold the result of item {index}: {error}")


def _refuse_if_taken(page: PageName) -> None:
    for there in registry().snapshot().pages:
        taken = there.state in ("active", "writable")
        if taken and PageName(there.namespace, there.variable) == page:
            owners = [holder for holder in there.holders if holder.role == "owner"]
            if owners and not owners[0].here:
                raise PageExistsError(
                    f"{page} is a page of process {there.owner_pid}, and out={str(page)!r} would "
                    "register another of that name; choose another name, or have it released"
                )


def _writable(out: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not out.flags.writeable:
        raise ValueError(
            "out is read-only; pass an array that can be written to, as ns.empty('s', n) or a view "
            "that was attached with mode='r+'"
        )
    if is_masked_array(out) or out.dtype.hasobject or out.ndim == 0:
        raise TypeError("out must be an array of plain numbers, with a place for each item")
    return out


def _filled(out: np.ndarray[Any, Any], array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if out.shape != array.shape:
        raise ValueError(f"out has shape {out.shape}, but the results have {array.shape}")
    if not np.can_cast(array.dtype, out.dtype, "same_kind"):
        raise TypeError(f"results of dtype {array.dtype} cannot go into an out of {out.dtype}")
    np.copyto(out if not isinstance(out, View) else np.asarray(out), array, casting="same_kind")
    return out


def _pandas(form: str) -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError(f"out={form!r} needs pandas; install it, or leave out='list'") from error


def _series(found: list[Any], labels: Labels | None) -> Any:
    pandas = _pandas("series")
    index = None if labels is None else pandas.Index(labels.names)
    if any(isinstance(result, np.ndarray | list | tuple | dict) for result in found):
        cells = np.empty(len(found), object)  # else pandas would take them apart
        cells[:] = found
        found = cells  # type: ignore[assignment]
    return pandas.Series(found, index=index, dtype=None if len(found) else float)


def _frame(found: list[Any], labels: Labels | None, margin: int | None) -> Any:
    pandas = _pandas("frame")
    index = None if labels is None else pandas.Index(labels.names)
    rows = [r.tolist() if isinstance(r, np.ndarray) and r.ndim == 0 else r for r in found]
    for number, row in enumerate(rows):
        if isinstance(row, str | bytes) or not hasattr(row, "__len__") or np.ndim(row) > 1:
            raise TypeError(
                "out='frame' needs a result with several values for each item (an array of one "
                f"dimension, a dict or a Series), and that of item {number} is a "
                f"{type(row).__name__}; use out='series'"
            )
    kinds = {row.dtype if isinstance(row, np.ndarray) else None for row in rows}
    if None not in kinds and len({row.shape for row in rows}) == 1:
        frame = pandas.DataFrame(np.array(rows), index=index)
    else:
        frame = pandas.DataFrame(rows)
        if index is not None:
            frame.index = index
    # As DataFrame.apply: what becomes of a column is a column.
    return frame.T if margin == 2 else frame


def _with_results(error: Exception, results: Any) -> Exception:
    """Let an error that comes after the work have what was computed."""
    error.results = results  # type: ignore[attr-defined]
    error.add_note("what fun returned is not lost: it is in the error's attribute 'results'")
    return error
