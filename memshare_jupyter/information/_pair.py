"""Mutual information of two vectors in nats: what is prepared, and which estimator it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memshare_jupyter.information._density import is_constant
from memshare_jupyter.information._estimates import (
    continuous_discrete,
    entropy,
    two_continuous,
    two_discrete,
)
from memshare_jupyter.information._inputs import as_codes, as_numbers, without_missing
from memshare_jupyter.information._kernel_mi import (
    epanechnikov,
    kernel_mutualinfo,
    normal_scale,
    plug_in_bandwidth,
    same_label,
)
from memshare_jupyter.information._nearest_neighbours import nearest_neighbour_mutualinfo
from memshare_jupyter.information._normal_scores import grid_of, normal_scores
from memshare_jupyter.information._reference import reference_mutualinfo
from memshare_jupyter.information._smoothing import GRID_POINTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memshare_jupyter.information._kernel_mi import Kernel
    from memshare_jupyter.information._options import Options

FEWEST_SAMPLES: Final = 3  # with fewer there is nothing to estimate


def pair_mutualinfo(
    x: NDArray[Any], y: NDArray[Any], options: Options, given: NDArray[Any] | None = None
) -> tuple[float, float]:
    """Mutual information of two vectors in nats, and the most that it can be; see `mutualinfo`.

    It may be below 0 by chance; there is no limit (inf) for two continuous variables.
    """
    if options.compat == "R":
        if given is not None:
            raise ValueError("compat='R' knows no given")
        found = reference_mutualinfo(
            as_numbers(x, "x"),
            as_numbers(y, "y"),
            x_discrete=options.x_discrete,
            y_discrete=options.y_discrete,
            eps=options.eps,
            na_rm=options.na_rm,
            use_mpmi=options.estimator == "kde",
        )
        return found, math.inf
    x, y, given = _prepared(x, y, options, given)
    if given is None:
        return _nats(x, y, options)
    nats = most = 0.0
    for level in levels_of(given):
        part = _nats(_recoded(x[level]), _recoded(y[level]), options)
        share = level.size / given.size
        nats, most = nats + share * part[0], most + share * part[1]
    return nats, most


def levels_of(given: NDArray[Any]) -> list[NDArray[np.intp]]:
    """Return the samples of each level of a covariate without missing values."""
    codes = as_codes(given, "given")
    sizes = np.bincount(codes)
    if codes.size >= FEWEST_SAMPLES > sizes.max():
        raise ValueError(
            f"given has {sizes.size} levels for {codes.size} samples, of which none has "
            f"{FEWEST_SAMPLES}; cut numbers into classes, as by np.digitize"
        )
    in_order = np.argsort(codes, kind="stable")
    return [np.asarray(level) for level in np.split(in_order, np.cumsum(sizes)[:-1])]


def _recoded(values: NDArray[Any]) -> NDArray[Any]:
    """Return codes without those that do not occur; numbers as they are."""
    return as_codes(values, "labels") if values.dtype.kind == "i" else values


def _nats(x: NDArray[Any], y: NDArray[Any], options: Options) -> tuple[float, float]:
    """Do so for numbers where continuous and codes where discrete."""
    x_discrete, y_discrete = options.x_discrete, options.y_discrete
    labels = [codes for codes, discrete in ((x, x_discrete), (y, y_discrete)) if discrete]
    most = min((entropy(np.bincount(codes)) for codes in labels), default=math.inf)
    if x.size < FEWEST_SAMPLES:
        return 0.0, most
    if x_discrete and y_discrete:
        nats = two_discrete(x, y)
    elif options.estimator == "kde":
        nats = _by_kernels(*_transformed(x, y, options), options)
    elif options.estimator == "ksg":
        x, y = _transformed(x, y, options)
        nats = nearest_neighbour_mutualinfo(x, y, x_discrete=x_discrete, y_discrete=y_discrete)
    elif x_discrete:
        nats = _continuous_discrete(y, x, options)
    elif y_discrete:
        nats = _continuous_discrete(x, y, options)
    else:
        on_x, on_y = grid_of(x, options), grid_of(y, options)
        nats = two_continuous(on_x, on_y, options.eps) if on_x and on_y else 0.0
    return nats, most


def _prepared(
    x: NDArray[Any], y: NDArray[Any], options: Options, given: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Return numbers where continuous and codes where discrete, of the samples to be used."""
    x_discrete, y_discrete = options.x_discrete, options.y_discrete
    x = x if x_discrete else as_numbers(x, "x", remedy="; for labels pass x_discrete=True")
    y = y if y_discrete else as_numbers(y, "y", remedy="; for labels pass y_discrete=True")
    used = {"x": x, "y": y} | ({} if given is None else {"given": given})
    x, y, *rest = without_missing(used, na_rm=options.na_rm)
    x, y = as_codes(x, "x") if x_discrete else x, as_codes(y, "y") if y_discrete else y
    return x, y, rest[0] if rest else None


def _transformed(
    x: NDArray[Any], y: NDArray[Any], options: Options
) -> tuple[NDArray[Any], NDArray[Any]]:
    if options.transform is None:
        return x, y
    by_scores = (
        values if discrete or is_constant(values, options.eps) else normal_scores(values)
        for values, discrete in ((x, options.x_discrete), (y, options.y_discrete))
    )
    return tuple(by_scores)  # type: ignore[return-value]


def _continuous_discrete(
    values: NDArray[np.float64], codes: NDArray[np.intp], options: Options
) -> float:
    classes = int(codes.max()) + 1
    gridded = grid_of(values, options)
    if gridded is None or classes == 1:
        return 0.0
    flat = gridded.cell * classes + codes
    table = np.bincount(flat, minlength=GRID_POINTS * classes).astype(np.float64)
    table = table.reshape(GRID_POINTS, 1, classes)
    weights = np.bincount(codes) / codes.size
    width, tied = np.array([gridded.width]), np.array([gridded.mostly_tied])
    found = continuous_discrete(
        *(table, gridded.distinct, width, tied, weights, options.eps),
        bias_correction=options.bias_correction,
    )
    return float(found[0])


def _by_kernels(x: NDArray[Any], y: NDArray[Any], options: Options) -> float:
    kernels: list[Kernel] = []
    for values, discrete in ((x, options.x_discrete), (y, options.y_discrete)):
        if discrete:
            kernels.append(same_label(values))
            continue
        size = np.abs(values).max()
        # Divided first: the squares of large or small values may be out of range. And sorted, for
        # sums differ in the last bit by the order, which the bandwidth of few samples depends on.
        spread = np.sort(values / size).std(ddof=1) if size > 0 else 0.0
        if spread <= options.eps:
            return 0.0
        # In standard deviations, for the bandwidth has ninth roots of ninth powers in it.
        standard = values / size / spread
        ordered = np.sort(standard)
        bandwidth = plug_in_bandwidth(ordered, normal_scale(ordered) or 1.0)
        kernels.append(epanechnikov(standard, bandwidth))
    in_x, in_y = kernels
    return kernel_mutualinfo(in_x, in_y, x.size, bias_correction=options.bias_correction)
