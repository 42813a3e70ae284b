"""Mutual information of two variables, each continuous or discrete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from memshare_jupyter.information._inputs import as_vector
from memshare_jupyter.information._options import DEFAULT_EPS, Estimator, Options
from memshare_jupyter.information._pair import pair_mutualinfo

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


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
    transform: Literal["normal"] | None = None,
    normalize: bool = False,
    given: ArrayLike | None = None,
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
        Correct the bias of few samples. With "pde", for a continuous and a discrete variable: by
        the expectation E0 of the estimate I when the two are independent, which follows from the
        smoother alone: ``(I - E0) / (H - E0) * H`` with the label's entropy H. It costs a few
        percent of the time. With "kde": by the jackknife; twice the time.
    base : float, optional
        Base of the logarithm: 2 for bits. Nats if not given.
    compat : {None, "R"}, default: None
        "R" gives the number of R memshare 1.0.3.1, faults and units included; see Notes.
    transform : {None, "normal"}, default: None
        "normal" takes the normal scores of continuous variables, the normal quantiles of their
        ranks, with ties kept together. Mutual information does not change when a variable is
        transformed monotonously; the "pde" and "kde" estimates of skewed variables do, and are
        right with it. Recommended; the reference has none.
    normalize : bool, default: False
        Return a number from 0 to 1. With a discrete variable: the share of the most that there
        can be, which is its entropy, and the smaller one of two. For two continuous ones:
        ``sqrt(1 - exp(-2 I))`` [7]_, the correlation of a normal pair that has as much.
    given : array_like of shape (n_samples,), optional
        Labels of a covariate, such as the batch: conditional mutual information, the mean of
        that within each level, weighted by their samples. Numbers must be cut into classes first.

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

    Skewed variables: without `transform` the Pareto density of a log-normal variable or one with an
    outlier has nearly all values in a few of its cells, and the estimate loses nearly everything,
    the more the larger n is. ``transform="normal"`` is the cure.

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

    .. [4] C. Pardy, "mpmi: Mixed-Pair Mutual Information Estimators", R package 0.43.2.1,
       https://CRAN.R-project.org/package=mpmi
    .. [5] S. J. Sheather, M. C. Jones, "A reliable data-based bandwidth selection method for
       kernel density estimation", Journal of the Royal Statistical Society B 53:683-690, 1991.
       :doi:`10.1111/j.2517-6161.1991.tb01857.x`
    .. [6] A. Kraskov, H. Stögbauer, P. Grassberger, "Estimating mutual information", Physical
       Review E 69:066138, 2004. :doi:`10.1103/PhysRevE.69.066138`
    .. [7] E. H. Linfoot, "An informational measure of correlation", Information and Control
       1:85-89, 1957. :doi:`10.1016/S0019-9958(57)90116-X`

    Examples
    --------
    Two classes a standard deviation apart; the true value is 0.1107 nats:

    >>> import numpy as np
    >>> from memshare_jupyter import mutualinfo
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, size=5000)
    >>> x = y + rng.normal(size=5000)
    >>> round(mutualinfo(x, y, y_discrete=True), 2)
    0.1

    A variable tells all about itself; the entropy of two equal classes is log(2) = 0.6931:

    >>> round(mutualinfo([0, 0, 1, 1], ["a", "a", "b", "b"], x_discrete=True, y_discrete=True), 4)
    0.6931

    What differs between batches tells nothing within them:

    >>> batch = np.repeat([0, 1], 2500)
    >>> x, y = batch + rng.normal(size=(2, 5000)) / 4
    >>> round(mutualinfo(x, y), 1), round(mutualinfo(x, y, given=batch), 1)
    (0.5, 0.0)
    """
    options = Options(
        x_discrete=x_discrete,
        y_discrete=y_discrete,
        eps=eps,
        use_mpmi=use_mpmi,
        na_rm=na_rm,
        estimator=estimator,
        bias_correction=bias_correction,
        base=base,
        compat=compat,
        transform=transform,
        normalize=normalize,
    )
    levels = None if given is None else as_vector(given, "given", labels=True)
    x_, y_ = as_vector(x, "x", labels=x_discrete), as_vector(y, "y", labels=y_discrete)
    return float(options.in_unit(*pair_mutualinfo(x_, y_, options, levels)))
