"""What `mutualinfo` accepts, and what it says about the rest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def as_vector(values: ArrayLike, name: str, *, labels: bool = False) -> NDArray[Any]:
    """Return the values as a plain vector of any dtype; a view when they are an array.

    With `labels`, categories are numbers: it does not matter which.
    """
    vector = as_array(_codes_of_categories(values) if labels else values, name)
    if vector.ndim != 1:
        raise ValueError(
            f"{name} must be one-dimensional, one value per sample; it has shape {vector.shape}: "
            f"pass one row or column, or {name}.ravel()"
        )
    return vector


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Return values as a plain array without changing what they mean; a view of an array.

    What is masked, and what pandas calls missing, becomes NaN among numbers and None among others.

    Raises
    ------
    TypeError
        They are a sparse matrix.
    """
    if isinstance(values, np.ma.MaskedArray):
        plain = np.asarray(np.ma.getdata(values))
        if not np.ma.is_masked(values):
            return plain
        numbers = plain.dtype.kind in "biuf"
        plain = plain.astype(np.float64 if numbers else object)
        plain[np.ma.getmaskarray(values)] = np.nan if numbers else None
        return plain
    if is_sparse(values):
        raise TypeError(f"{name} is a sparse matrix; pass {name}.toarray()")
    return _numbers_of_pandas(values)


def is_sparse(values: Any) -> bool:
    """Say whether values are a sparse matrix or array of scipy's."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(values))


def _codes_of_categories(values: Any) -> Any:
    """Return the codes of categorical values of pandas, polars or Arrow; others as they are."""
    dtype = getattr(values, "dtype", None)
    if type(dtype).__name__ == "CategoricalDtype":
        categorical = getattr(values, "array", values)  # a Series has one, or is one
        codes = np.asarray(categorical.codes)
        return np.where(codes < 0, np.nan, codes) if (codes < 0).any() else codes
    if type(dtype).__name__ in ("Categorical", "Enum") and hasattr(values, "to_physical"):
        return values.to_physical().to_numpy()
    if hasattr(values, "combine_chunks"):
        values = values.combine_chunks()
    if hasattr(values, "dictionary") and hasattr(values, "indices"):
        return values.indices.to_numpy(zero_copy_only=False)
    return values


def _numbers_of_pandas(values: Any) -> NDArray[Any]:
    dtype = getattr(values, "dtype", None)
    numbers = getattr(dtype, "numpy_dtype", None)  # of nullable and Arrow-backed columns
    if not isinstance(numbers, np.dtype) or numbers.kind not in "biuf":
        return np.asarray(values)
    if values.isna().any():
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.asarray(values.to_numpy(dtype=numbers))


def as_numbers(vector: NDArray[Any], name: str, *, remedy: str = "") -> NDArray[np.float64]:
    """Return a vector of real numbers as float64, copied only when it is of another type."""
    if vector.size == 0:
        return np.empty(0)
    if vector.dtype.kind == "O":
        try:
            return vector.astype(np.float64)
        except (TypeError, ValueError):
            pass
    elif vector.dtype.kind in "biuf":
        return vector.astype(np.float64, copy=False)
    raise TypeError(f"{name} must be real numbers, not {vector.dtype}{remedy}")


def missing(vector: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which values are no values: NaN, NaT or infinite; None or NA among objects."""
    if vector.dtype.kind in "fc":
        return np.asarray(~np.isfinite(vector), dtype=np.bool_)
    if vector.dtype.kind in "mM":
        return np.asarray(np.isnat(vector), dtype=np.bool_)
    if vector.dtype.kind == "O":
        pandas = sys.modules.get("pandas")
        nothing = (None,) if pandas is None else (None, pandas.NA, pandas.NaT)
        absent = (any(v is no for no in nothing) or _is_no_value(v) for v in vector)
        return np.fromiter(absent, dtype=np.bool_, count=vector.size)
    return np.zeros(vector.size, dtype=bool)


def _is_no_value(value: Any) -> bool:
    if isinstance(value, str):  # the most frequent kind
        return False
    if isinstance(value, float | complex | np.inexact):
        return not bool(np.isfinite(value))
    return isinstance(value, np.datetime64 | np.timedelta64) and bool(np.isnat(value))


def raise_missing(**absent: NDArray[np.bool_]) -> NoReturn:
    """Say where values are missing and how to leave these samples out."""
    found = [
        f"{name} has {n} NaN or infinite value{'s' * (n != 1)}"
        for name, which in absent.items()
        if (n := int(which.sum()))
    ]
    n = next(iter(absent.values())).size
    raise ValueError(f"{' and '.join(found)} among {n}; pass na_rm=True to leave these samples out")


def without_missing(variables: dict[str, NDArray[Any]], *, na_rm: bool) -> list[NDArray[Any]]:
    """Drop the samples with a missing value, or raise if there are any and nobody asked to."""
    sizes = {name: values.size for name, values in variables.items()}
    if len(set(sizes.values())) > 1:
        *first, last = [f"{name} has {size}" for name, size in sizes.items()]
        raise ValueError(
            f"{' and '.join(sizes)} must have one value per sample each, but {', '.join(first)} "
            f"and {last}"
        )
    absent = {name: missing(values) for name, values in variables.items()}
    dropped = np.logical_or.reduce(list(absent.values()))
    if not dropped.any():
        return list(variables.values())
    if not na_rm:
        raise_missing(**absent)
    return [values[~dropped] for values in variables.values()]


def as_codes(labels: NDArray[Any], name: str) -> NDArray[np.intp]:
    """Return labels as codes 0, 1, ... in their sorted order."""
    if labels.dtype.kind in "biu" and labels.size > 0:
        low, high = int(labels.min()), int(labels.max())
        if high - low <= 4 * labels.size and high < 2**63:  # small integers need no sort
            steps = labels.astype(np.int64) - low
            present = np.bincount(steps) > 0
            return (np.cumsum(present) - 1)[steps]
    try:
        _, codes = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise TypeError(
            f"the labels in {name} cannot be put in order ({error}); make them of one type"
        ) from error
    return codes


def codes_of(labels: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Return labels as codes; NaN where they are missing."""
    absent = missing(labels)
    codes = np.full(labels.size, np.nan)
    codes[~absent] = as_codes(labels[~absent], name)
    return codes
