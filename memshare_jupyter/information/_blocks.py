"""Functions of blocks of columns of a matrix, frame or page: called here, or by engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memshare_jupyter.apply import memapply
from memshare_jupyter.core.names import parse
from memshare_jupyter.core.registry import registry
from memshare_jupyter.core.values import View
from memshare_jupyter.information._inputs import (
    as_array,
    as_numbers,
    as_vector,
    codes_of,
    is_sparse,
)
from memshare_jupyter.information._kinds import Picked, labels_of
from memshare_jupyter.worker import columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from memshare_jupyter.engines import AnyCluster
    from memshare_jupyter.information._kinds import Kinds
    from memshare_jupyter.worker import Columns


def value_of(X: Any, namespace: str | None = None) -> Any:
    """Return what a name stands for, attached for as long as it is used; anything else as it is."""
    return registry().attach(*parse(X, namespace), hold=False) if isinstance(X, str) else X


def on_engines(X: Any, cluster: AnyCluster, max_cores: int | None) -> bool:
    """Say whether engines are to compute: if X is shared by name already, or they are asked for."""
    return isinstance(X, str) or cluster is not None or max_cores is not None


def kinds_of(
    x_discrete: Kinds, matrix: Any, names: Sequence[Any] | None = None
) -> NDArray[np.bool_]:
    """Say which columns of a matrix or frame are labels; see `labels_of`."""
    columns = columns_of(matrix)
    if columns is not None:
        return labels_of(x_discrete, columns, columns.names if names is None else names)
    if not is_sparse(matrix) and np.ndim(matrix) != 2:  # who uses it says what is wrong
        return np.zeros(1, dtype=bool)
    return labels_of(x_discrete, matrix, names)


def by_engines(
    X: Any,
    fun: Any,
    labels: NDArray[np.bool_],
    namespace: str | None,
    engines: dict[str, Any],
    out: str = "list",
) -> Any:
    """Have engines call a function of a block of columns and the number of its first one.

    Where all columns are of one kind, the number is left out.
    """
    matrix = value_of(X)
    columns = columns_of(matrix)
    where = (engines["cluster"], None, engines["max_cores"])
    rest = {"batch": True, "out": out, "progress_after": engines.get("progress_after", 2.0)}
    if np.unique(labels).size < 2:
        X, namespace = _readable(X, matrix, columns, labels, namespace)
        return memapply(X, "cols", fun, namespace, *where, **rest)
    if columns is not None or is_sparse(matrix) or np.asarray(matrix).dtype.kind == "O":
        matrix = numbers_of(matrix, np.arange(labels.size), labels)
    elif not isinstance(matrix, View):
        matrix = as_array(matrix, "X")
    cluster, _, most = where
    numbers = np.arange(labels.size)[:, None]
    name = namespace or "mutual_info_matrix"
    return memapply(numbers, "rows", Picked(fun), name, cluster, {"X": matrix}, most, **rest)


def _readable(
    X: Any,
    matrix: Any,
    columns: Columns | None,
    labels: NDArray[np.bool_],
    namespace: str | None,
) -> tuple[Any, str | None]:
    """Return what engines can read in batches of columns: a page or view, or a matrix to share."""
    if is_sparse(matrix):
        return matrix.toarray(order="F"), namespace or "mutual_info_matrix"
    if columns is not None:
        whole = columns.matrix
        numbers = whole is not None and whole.dtype.kind in "biuf"
        if isinstance(X, str) and numbers:
            return X, namespace
        everything = np.arange(len(columns))
        X = np.asarray(whole) if numbers else numbers_of(matrix, everything, labels)
    elif isinstance(matrix, np.ma.MaskedArray) or not isinstance(X, str | View):
        X = as_array(matrix, "X")
    if isinstance(X, str):
        return X, namespace
    return X, namespace or "mutual_info_matrix"


def over_columns(
    X: Any,
    fun: Any,
    labels: NDArray[np.bool_],
    namespace: str | None,
    engines: dict[str, Any],
) -> NDArray[Any]:
    """Return what a function of blocks gives for each column, here or from engines."""
    if isinstance(X, str):
        X, namespace = str(parse(X, namespace)), None
    if on_engines(X, engines["cluster"], engines["max_cores"]):
        return np.array(by_engines(X, fun, labels, namespace, engines))
    matrix = value_of(X)
    blocks = np.array_split(np.arange(labels.size), max(1, labels.size // 64))
    found = [fun(numbers_of(matrix, block, labels), block[0]) for block in blocks if block.size]
    return np.concatenate([np.empty(0), *found])


def numbers_of(
    table: Any, chosen: NDArray[np.intp], labels: NDArray[np.bool_] | None = None
) -> NDArray[Any]:
    """Return some columns of a matrix or frame as a matrix, each column contiguous.

    Those that are labels become codes; `labels` says so of all columns.
    """
    columns = columns_of(table)
    if is_sparse(table):
        return np.asarray(table.tocsc()[:, chosen].toarray(order="F"))
    if columns is None:
        matrix = as_array(table, "X")
        if matrix.dtype.kind in "biuf" or labels is None or not labels.any():
            return np.asfortranarray(matrix[:, chosen])
    found = []
    for i in chosen.tolist():
        raw = columns.raw(i) if columns is not None else matrix[:, i]
        name = columns.names[i] if columns is not None else i
        found.append(_column(raw, name, label=labels is not None and bool(labels[i])))
    return np.column_stack(found).copy(order="F")


def _column(raw: Any, name: Any, *, label: bool) -> NDArray[Any]:
    try:
        column = as_vector(raw, "X", labels=label)
        if column.dtype.kind in "biuf":
            return column
        return codes_of(column, "X") if label else as_numbers(column, "X")
    except (TypeError, ValueError) as error:
        raise named(error, name) from None


def named(error: Exception, label: Any) -> Exception:
    """Return the error with the column's name in it."""
    return type(error)(f"column {label!r}: {error}")
