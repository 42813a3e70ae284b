"""Mutual information of two variables, each continuous or discrete."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ._estimates import continuous_discrete, two_continuous, two_discrete
from ._inputs import as_codes, as_numbers, as_vector, same_length, without_missing
from ._kernel_mi import (
    epanechnikov,
    kernel_mutualinfo,
    normal_scale,
    plug_in_bandwidth,
    same_label,
)
from ._nearest_neighbours import nearest_neighbour_mutualinfo
from ._reference import reference_mutualinfo
from ._smoothing import GRID_POINTS
from .density import on_grid

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ._kernel_mi import Kernel

#: 1,000 times the rounding of a double.
DEFAULT_EPS: Final = 1000 * 2.0**-52
Estimator = Literal["pde", "kde", "ksg"]
_FEWEST_SAMPLES: Final = 3  # with fewer there is nothing to estimate


def mutualinfo(
    x: ArrayLike,
    y: ArrayLike,
    *,
    x_discrete: bool = False,
    y_discrete: bool = False,
    eps: float = DEFAULT_EPS,
    use_mpmi: bool = False,
    na_rm: bool = False,
    estimator: Estimator = "pde",
    bias_correction: bool = False,
    base: float | None = None,
    compat: Literal["R"] | None = None,
) -> float:
    """Mutual information of two variables, in nats.

    Continuous variables are estimated by their Pareto density on a grid of 512 cells; the
    function is that of the R package memshare [1]_ and agrees with it wherever it is sound.

    Parameters
    ----------
    x, y : array_like of shape (n_samples,)
        One value per sample. Continuous ones are real numbers of any dtype, computed in float64;
        discrete ones any values that can be sorted: numbers, strings, booleans.
    x_discrete, y_discrete : bool, default: False
        Take the variable's values as labels of classes.
    eps : float, default: 2.22e-13
        Densities up to this count as zero, per standard deviation (two continuous variables:
        twice this, per both). A continuous variable whose standard deviation is below `eps`
        times its largest absolute value counts as constant.
    use_mpmi : bool, default: False
        The reference's name for ``estimator="kde"``.
    na_rm : bool, default: False
        Leave out samples in which x or y is NaN or infinite (or None). Without, they are an error.
    estimator : {"pde", "kde", "ksg"}, default: "pde"
        For pairs with a continuous variable: Pareto density estimation; Epanechnikov kernels with
        plug-in bandwidths, as in the R package mpmi; or nearest neighbours by scikit-learn, which
        must be installed.
    bias_correction : bool, default: False
        With "kde": correct the bias by the jackknife. Twice the time.
    base : float, optional
        Base of the logarithm: 2 for bits. Nats if not given.
    compat : {None, "R"}, default: None
        "R" gives the number of R memshare 1.0.3.1, faults and units included; see Notes.

    Returns
    -------
    float
        Mutual information in nats (or to `base`), never negative. It is 0.0 for fewer than three
        samples and when either variable is constant. With ``compat="R"`` it is in bits if both
        are discrete, and not clipped at 0.

    Raises
    ------
    ValueError
        Different lengths, not one-dimensional, or missing values without `na_rm`.
    TypeError
        A continuous variable that is not real numbers, or labels that cannot be sorted.

    Notes
    -----
    Two continuous variables: counts on a 512 x 512 grid, which reaches one Pareto radius [2]_ over
    the data, are smoothed with penalised differences [3]_ and with a normal kernel whose s.d. is
    the Pareto radius; then ``sum(p(x, y) * log(p(x, y) / (p(x) * p(y))))``. O(n log n + 512**3)
    time. The estimate is biased down for strong dependence: for a correlation of 0.7 it is 0.20
    at n = 1,000, where the truth is 0.34.

    One continuous variable: counts in each class on 512 cells are smoothed with penalised
    differences, and the divergences of the classes' densities from the overall one are averaged.
    O(n log n + 512 k) time for k classes. Biased up for small n and many classes. Ties are no
    obstacle in either case (see `pareto_radius`).

    Two discrete variables: the plug-in estimate from their table, by any estimator.

    ``estimator="kde"`` weighs all pairs of samples by kernels [4]_ whose bandwidths are direct
    plug-in ones [5]_, and a label as the same or another. O(n**2) time and O(n) memory. Where
    the interquartile range is 0 the s.d. is the scale. ``estimator="ksg"`` counts neighbours [6]_
    and breaks ties by a small noise with a fixed seed. See docs/mutualinfo.md for the bias
    and spread of all three.

    Where this differs from the reference, which ``compat="R"`` reproduces:

    * Two discrete variables. The reference counts into a wrong table (it drops the highest
      level of x and adds its neighbours' counts up wrongly), so two independent 4-level variables
      have 0.38 and not 0; and its unit there is the bit.
    * Scale. The reference compares densities and standard deviations in the unit of the
      data with absolute numbers, so x * 1e12 has mutual information 0. Here a factor or a shift
      changes nothing.
    * Ties. When over 18 % of the pairs are tied its Pareto radius is about 1e-9, which switches
      smoothing off; here it is the smallest positive percentile of the distances, and what
      smoothing loses over the border of the grid is made good.
    * More than 10,000 values. The reference takes the radius of 10,000 random draws; here, and
      with ``compat="R"``, of all values.
    * Negative estimates, possible for nearly independent variables because the densities of the
      classes are not normalised over quite the same cells, are 0 here.
    * Kernels (`use_mpmi`). The reference takes labels as numbers; here they are labels.
    * Missing values without `na_rm` give numbers or errors there, by their place and kind;
      here always an error.
    * Two continuous variables on a grid lose a little probability over its border and are not
      normalised again, which adds up to 0.07 nats for skewed variables. That is kept, as part of
      the reference's sound values.

    References
    ----------
    .. [1] M. C. Thrun, J. Märte, "memshare: Memory Sharing for Multicore Computation in R with
       an Application to Feature Selection by Mutual Information using PDE", The R Journal,
       2025, RJ-2025-043.
    .. [2] A. Ultsch, "Pareto density estimation: a density estimation for knowledge discovery",
       in Innovations in Classification, Data Science, and Information Systems, Springer 2005,
       pp. 91-100. :doi:`10.1007/3-540-26981-9_12`
    .. [3] P. H. C. Eilers, J. J. Goeman, "Enhancing scatterplots with smoothed densities",
       Bioinformatics 20:623-628, 2004. :doi:`10.1093/bioinformatics/btg454`

    .. [4] C. Pardy, S. Galbraith, S. R. Wilson, "Integrative exploration of large
       high-dimensional datasets", The Annals of Applied Statistics 12:178-199, 2018.
       :doi:`10.1214/17-AOAS1055`
    .. [5] S. J. Sheather, M. C. Jones, "A reliable data-based bandwidth selection method for
       kernel density estimation", Journal of the Royal Statistical Society B 53:683-690, 1991.
       :doi:`10.1111/j.2517-6161.1991.tb01857.x`
    .. [6] A. Kraskov, H. Stögbauer, P. Grassberger, "Estimating mutual information", Physical
       Review E 69:066138, 2004. :doi:`10.1103/PhysRevE.69.066138`

    Examples
    --------
    Two classes a standard deviation apart; the true value is 0.1107 nats:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, size=5000)
    >>> x = y + rng.normal(size=5000)
    >>> round(mutualinfo(x, y, y_discrete=True), 2)
    0.1

    A variable tells all about itself; the entropy of two equal classes is log(2) = 0.6931:

    >>> round(mutualinfo([0, 0, 1, 1], ["a", "a", "b", "b"], x_discrete=True, y_discrete=True), 4)
    0.6931
    """
    per_unit = _nats_per_unit(base)
    if use_mpmi:
        estimator = "kde"
    _check_options(estimator, compat, base, bias_correction=bias_correction)
    x, y = as_vector(x, "x"), as_vector(y, "y")
    if compat == "R":
        return reference_mutualinfo(
            as_numbers(x, "x"),
            as_numbers(y, "y"),
            x_discrete=x_discrete,
            y_discrete=y_discrete,
            eps=eps,
            na_rm=na_rm,
            use_mpmi=estimator == "kde",
        )
    x, y = _prepared(x, y, x_discrete=x_discrete, y_discrete=y_discrete, na_rm=na_rm)
    if (
        x.size < _FEWEST_SAMPLES
        or is_constant(x, 0.0 if x_discrete else eps)
        or is_constant(y, 0.0 if y_discrete else eps)
    ):
        return 0.0
    if x_discrete and y_discrete:
        nats = two_discrete(x, y)
    elif estimator == "kde":
        kernels = _kernel(x, discrete=x_discrete), _kernel(y, discrete=y_discrete)
        nats = kernel_mutualinfo(*kernels, x.size, bias_correction=bias_correction)
    elif estimator == "ksg":
        nats = nearest_neighbour_mutualinfo(x, y, x_discrete=x_discrete, y_discrete=y_discrete)
    elif x_discrete:
        nats = _continuous_discrete(y, x, eps)
    elif y_discrete:
        nats = _continuous_discrete(x, y, eps)
    else:
        nats = two_continuous(on_grid(x), on_grid(y), eps)
    return max(nats / per_unit, 0.0)


def _prepared(
    x: NDArray[Any], y: NDArray[Any], *, x_discrete: bool, y_discrete: bool, na_rm: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return numbers where continuous and codes where discrete, of the samples to be used."""
    same_length(x, y)
    x = x if x_discrete else as_numbers(x, "x", remedy="; for labels pass x_discrete=True")
    y = y if y_discrete else as_numbers(y, "y", remedy="; for labels pass y_discrete=True")
    x, y = without_missing(x, y, na_rm=na_rm)
    return as_codes(x, "x") if x_discrete else x, as_codes(y, "y") if y_discrete else y


def _nats_per_unit(base: float | None) -> float:
    if base is None:
        return 1.0
    if not (math.isfinite(base) and base > 1):
        raise ValueError(f"base must be a number above 1 (2 for bits, None for nats), not {base!r}")
    return math.log(base)


def _check_options(
    estimator: str, compat: str | None, base: float | None, *, bias_correction: bool
) -> None:
    if estimator not in ("pde", "kde", "ksg"):
        raise ValueError(f"estimator must be 'pde', 'kde' or 'ksg', not {estimator!r}")
    if bias_correction and estimator != "kde":
        raise ValueError(
            f"bias_correction=True is the jackknife of estimator='kde', not of {estimator!r}"
        )
    if compat not in (None, "R"):
        raise ValueError(f"compat must be None or 'R', not {compat!r}")
    if compat == "R" and (estimator == "ksg" or bias_correction or base is not None):
        raise ValueError(
            "compat='R' gives the reference's own number in its own unit; it knows no base, "
            "bias_correction or estimator='ksg'"
        )


def is_constant(values: NDArray[Any], eps: float) -> bool:
    """Say whether values vary by no more than `eps` times their size."""
    size = float(np.abs(values).max())
    if size == 0.0:
        return True
    # Divided first: the square of a large or small value may be out of range.
    return float((values / size).std(ddof=1)) <= eps


def _kernel(values: NDArray[Any], *, discrete: bool) -> Kernel:
    if discrete:
        return same_label(values)
    # In standard deviations: the bandwidth's seventh powers may be out of range otherwise.
    values = values / np.abs(values).max()
    values = (values - values.mean()) / values.std(ddof=1)
    return epanechnikov(values, plug_in_bandwidth(values, normal_scale(values) or 1.0))


def _continuous_discrete(values: NDArray[np.float64], codes: NDArray[np.intp], eps: float) -> float:
    classes = int(codes.max()) + 1
    gridded = on_grid(values)
    flat = gridded.cell * classes + codes
    table = np.bincount(flat, minlength=GRID_POINTS * classes).astype(np.float64)
    weights = np.bincount(codes) / codes.size
    return continuous_discrete(gridded, table.reshape(GRID_POINTS, classes), weights, eps)
