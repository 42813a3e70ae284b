"""Mutual information by nearest neighbours, as scikit-learn computes it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def nearest_neighbour_mutualinfo(
    x: NDArray[Any], y: NDArray[Any], *, x_discrete: bool, y_discrete: bool
) -> float:
    """Mutual information in nats by the three nearest neighbours of every sample.

    Raises
    ------
    ImportError
        scikit-learn is not installed.

    Notes
    -----
    Kraskov, Stögbauer and Grassberger 2004 for two continuous variables, Ross 2014 for one.
    scikit-learn adds noise of 1e-10 of the data to break ties; its seed is fixed here, so the
    result is the same every time.
    """
    try:
        from sklearn import feature_selection  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "estimator='ksg' is computed by scikit-learn, which is not installed: "
            "pip install scikit-learn, or use estimator='pde' or 'kde'"
        ) from error
    estimate = (
        feature_selection.mutual_info_classif
        if y_discrete
        else feature_selection.mutual_info_regression
    )
    with warnings.catch_warnings():
        # Labels are what the caller says; scikit-learn doubts it when there are many.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        found = estimate(x.reshape(-1, 1), y, discrete_features=x_discrete, random_state=0)
    return float(found[0])
