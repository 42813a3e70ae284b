"""Pictures of mutual information and of what it is made of; they need matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memshare_jupyter.information._density import pareto_density

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray


def mutual_info_figure(values: ArrayLike, *, unit: str = "nats") -> NDArray[Any]:
    """Draw four views of a vector of mutual informations.

    A histogram, the Pareto density estimate, quantiles against those of a normal distribution, and
    a box plot, as in Thrun and Märte, The R Journal 2025, RJ-2025-043.

    Parameters
    ----------
    values : array_like of shape (n_features,)
        Such as `mutual_info_matrix` returns; those that are not finite are left out.
    unit : str, default: "nats"
        For the axes.

    Returns
    -------
    ndarray of shape (4,), of matplotlib Axes
        In a new figure, ``axes[0].figure``.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import mutual_info_figure, mutual_info_matrix
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, size=100)
    >>> values = mutual_info_matrix(rng.normal(size=(100, 30)), y, y_discrete=True)
    >>> [ax.get_title() for ax in mutual_info_figure(values)]
    ['Histogram', 'Density (PDE)', 'Against normal', 'Box plot']
    """
    found = np.asarray(values, dtype=np.float64).ravel()
    found = np.sort(found[np.isfinite(found)])
    if found.size == 0:
        raise ValueError("there is no finite mutual information to draw")
    _, axes = pyplot().subplots(1, 4, figsize=(14, 3.2), layout="constrained")
    label = f"mutual information ({unit})"
    axes[0].hist(found, bins="auto")
    axes[0].set(title="Histogram", xlabel=label, ylabel="features")
    if found[0] < found[-1]:
        axes[1].plot(*pareto_density(found))
    axes[1].set(title="Density (PDE)", xlabel=label, ylabel=f"density (1/{unit})")
    axes[2].plot(_normal_quantiles(found.size), found, ".")
    axes[2].set(title="Against normal", xlabel="normal quantiles", ylabel=label)
    axes[3].boxplot(found)
    axes[3].set(title="Box plot", ylabel=label, xticks=[])
    return np.asarray(axes)


def class_densities(x: ArrayLike, y: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw the density of a continuous variable in each class.

    Parameters
    ----------
    x : array_like of shape (n_samples,)
        Continuous; samples that are not finite are left out.
    y : array_like of shape (n_samples,)
        Labels that can be sorted.
    ax : matplotlib Axes, optional
        To draw on; a new figure's if not given.

    Returns
    -------
    matplotlib Axes
        One line per class, a Pareto density estimate on a common scale. A class with less than
        two different values has a vertical line at its value.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import class_densities
    >>> y = np.repeat(["healthy", "ill"], 50)
    >>> x = np.random.default_rng(0).normal(size=100) + (y == "ill")
    >>> [line.get_label() for line in class_densities(x, y).lines]
    ['healthy (n = 50)', 'ill (n = 50)']
    """
    values, labels = np.asarray(x, dtype=np.float64), np.asarray(y)
    if values.shape != labels.shape or values.ndim != 1:
        raise ValueError(
            f"x and y must be one value per sample each; shapes are {values.shape}, {labels.shape}"
        )
    if ax is None:
        _, ax = pyplot().subplots(layout="constrained")
    known = np.isfinite(values)
    for number, level in enumerate(np.unique(labels[known])):
        inside = values[known & (labels == level)]
        label = f"{level} (n = {inside.size:,})"
        if inside.min() < inside.max():
            ax.plot(*pareto_density(inside), color=f"C{number % 10}", label=label)
        else:
            ax.axvline(inside[0], color=f"C{number % 10}", label=label)
    ax.set(xlabel="value", ylabel="density")
    if ax.lines:
        ax.legend()
    return ax


def label_shares(x: ArrayLike, y: ArrayLike, *, ax: Axes) -> Axes:
    """Draw how the labels x are shared out in each class of y, as bars side by side."""
    levels, codes = np.unique(np.asarray(x), return_inverse=True)
    classes, of = np.unique(np.asarray(y), return_inverse=True)
    shares = np.zeros((classes.size, levels.size))
    np.add.at(shares, (of, codes), 1)
    counts = shares.sum(axis=1)
    for number, (name, count) in enumerate(zip(classes, counts, strict=True)):
        left = np.arange(levels.size) + (number - (classes.size - 1) / 2) * 0.8 / classes.size
        label = f"{name} (n = {int(count):,})"
        ax.bar(left, shares[number] / count, 0.8 / classes.size, label=label)
    ax.set_xticks(np.arange(levels.size), [f"{level:g}" for level in levels])
    ax.set(xlabel="label", ylabel="share of the class")
    ax.legend()
    return ax


def _normal_quantiles(n: int) -> NDArray[np.float64]:
    from scipy.special import ndtri  # noqa: PLC0415 - slow to import

    return np.asarray(ndtri((np.arange(n) + 0.5) / n))


def pyplot() -> Any:
    """Return matplotlib's pyplot, or say that it is not there."""
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install matplotlib") from error
    return plt
