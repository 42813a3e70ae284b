"""Mutual information by nearest neighbours, as scikit-learn computes it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memshare_jupyter.information._density import to_unit_interval
from memshare_jupyter.information._estimates import entropy

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEIGHBOURS: Final = 3


def nearest_neighbour_mutualinfo(
    x: NDArray[Any], y: NDArray[Any], *, x_discrete: bool, y_discrete: bool
) -> float:
    """Mutual information in nats by the three nearest neighbours of every sample.

    0 for a constant and for three samples or less; never above the entropy of the labels.

    Raises
    ------
    ImportError
        scikit-learn is not installed.

    Notes
    -----
    Kraskov, Stögbauer and Grassberger 2004 for two continuous variables, Ross 2014 for one.
    scikit-learn adds noise of 1e-10 of the data to break ties; its seed is fixed here, and the
    samples are put in order first, so the result depends on neither.
    """
    try:
        from sklearn import feature_selection  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "estimator='ksg' is computed by scikit-learn, which is not installed: "
            "pip install scikit-learn, or use estimator='pde' or 'kde'"
        ) from error
    if x.size <= _NEIGHBOURS or not (np.ptp(x) and np.ptp(y)):
        return 0.0
    order = np.lexsort((y, x))
    x = x[order] if x_discrete else _standard(x[order])
    y = y[order] if y_discrete else _standard(y[order])
    labels = y if y_discrete else x if x_discrete else None
    if labels is not None and np.bincount(labels).max() == 1:
        return 0.0  # no sample has a neighbour in its class
    estimate = (
        feature_selection.mutual_info_classif
        if y_discrete
        else feature_selection.mutual_info_regression
    )
    with warnings.catch_warnings():
        # Labels are what the caller says; scikit-learn doubts it when there are many.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        found = estimate(x.reshape(-1, 1), y, discrete_features=x_discrete, random_state=0)
    return float(found[0]) if labels is None else min(float(found[0]), entropy(np.bincount(labels)))


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values about 0 of size 1, for scikit-learn's noise is of an absolute size at least."""
    unit, spread, _ = to_unit_interval(values)
    unit -= unit.mean()
    unit /= spread
    return unit
