"""Feature selection as an estimator of scikit-learn, which must be installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from memshare_jupyter.information._blocks import kinds_of, numbers_of, value_of
from memshare_jupyter.information._selection import select_features
from memshare_jupyter.worker import columns_of

try:
    from sklearn.base import BaseEstimator
    from sklearn.feature_selection import SelectorMixin
    from sklearn.utils.multiclass import type_of_target
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "MutualInfoSelector is an estimator of scikit-learn, which is not installed: "
        "pip install scikit-learn, or use select_features"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memshare_jupyter.engines import AnyCluster
    from memshare_jupyter.information._kinds import Kinds
    from memshare_jupyter.information._selected import SelectedFeatures
    from memshare_jupyter.information._stepwise import Method, Redundancy


class MutualInfoSelector(SelectorMixin, BaseEstimator):  # type: ignore[misc]
    """Select the columns that tell most about y, as a step of a scikit-learn pipeline.

    Parameters
    ----------
    k : int or None, default: 10
        Select so many, or all if there are fewer. Without effect if `alpha` is given.
    alpha : float, optional
        Select all that are discoveries at this false discovery rate.
    method : {"top", "mrmr", "jmi", "cmim"}, default: "top"
        Each column by itself, or together; as in `select_features`.
    redundancy : {"bins", "copula"}, default: "bins"
        Of "mrmr", as in `select_features`.
    x_discrete : bool, "auto", or sequence, default: False
        Which columns are labels, as in `mutual_info_matrix`.
    y_discrete : bool or "auto", default: "auto"
        Whether y are labels; "auto" asks scikit-learn's `type_of_target`.
    scale : {"normal", None}, default: "normal"
        The `transform` of `select_features`, whose name is a method's here.
    permutations : int, default: 0
        As in `select_features`, as are those that follow.
    seed : int or None, default: 0
        Of the permutations.
    cluster : Client, DirectView, Cluster, LocalCluster or None
        Engines to compute on.
    max_cores : int, optional
        Use at most so many of them.

    Attributes
    ----------
    selected_ : SelectedFeatures
        The columns that were chosen, best first.
    n_features_in_, feature_names_in_
        As in all estimators.

    Notes
    -----
    `fit` and `transform` take the name of a page for X, too, and `fit` for y: engines read the
    matrix where it is. `clone`, which scikit-learn's searches use, keeps the same cluster.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import MutualInfoSelector
    >>> y = np.repeat([0, 1], 50)
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> X[:, 1] += 2 * y
    >>> MutualInfoSelector(k=1).fit(X, y).get_feature_names_out()
    array(['x1'], dtype=object)
    """

    def __init__(
        self,
        k: int | None = 10,
        *,
        alpha: float | None = None,
        method: Method = "top",
        redundancy: Redundancy = "bins",
        x_discrete: Kinds = False,
        y_discrete: bool | Literal["auto"] = "auto",
        scale: Literal["normal"] | None = "normal",
        permutations: int = 0,
        seed: int | None = 0,
        cluster: AnyCluster = None,
        max_cores: int | None = None,
    ) -> None:
        self.k = k
        self.alpha = alpha
        self.method = method
        self.redundancy = redundancy
        self.x_discrete = x_discrete
        self.y_discrete = y_discrete
        self.scale = scale
        self.permutations = permutations
        self.seed = seed
        self.cluster = cluster
        self.max_cores = max_cores

    def fit(self, X: Any, y: Any) -> MutualInfoSelector:
        """Choose the columns.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features), or str
            An array, a frame, a view of shared memory, or the name of a page.
        y : array_like of shape (n_samples,), or str
            Labels or numbers, or the name of their page.
        """
        y = value_of(y)
        if isinstance(X, str):
            self._remember(value_of(X))
            kinds = self.x_discrete
        elif self.x_discrete is False:
            kinds = False
            X, y = validate_data(self, X, y, dtype="numeric", y_numeric=False)
        else:
            # By dtypes and names, of which there are none in the array scikit-learn makes.
            kinds = kinds_of(self.x_discrete, X)
            X, y = validate_data(self, X, y, dtype=None, y_numeric=False)
        discrete = self.y_discrete
        if discrete == "auto":
            discrete = type_of_target(y) in ("binary", "multiclass")
        options: dict[str, Any] = {"alpha": self.alpha}
        if self.alpha is None:
            options = {"k": None if self.k is None else min(self.k, self.n_features_in_)}
        if self.method == "top":
            options |= {"permutations": self.permutations, "transform": self.scale}
        self.selected_: SelectedFeatures = select_features(
            *(X, y),
            method=self.method,
            redundancy=self.redundancy,
            x_discrete=kinds,
            y_discrete=discrete,
            seed=self.seed,
            cluster=self.cluster,
            max_cores=self.max_cores,
            **options,
        )
        return self

    def transform(self, X: Any) -> Any:
        """Return the chosen columns, in the order of X.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features), or str
            As in `fit`.
        """
        if not isinstance(X, str):
            return super().transform(X)
        return numbers_of(value_of(X), self.get_support(indices=True))

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self, "selected_")
        mask = np.zeros(self.n_features_in_, dtype=bool)
        mask[self.selected_.columns] = True
        return mask

    def _remember(self, matrix: Any) -> None:
        """Note the columns of a page, as scikit-learn does those of an array."""
        columns = columns_of(matrix)
        self.n_features_in_ = np.shape(matrix)[1] if columns is None else len(columns)
        if columns is not None and all(isinstance(name, str) for name in columns.names):
            self.feature_names_in_ = np.array(columns.names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def __sklearn_clone__(self) -> MutualInfoSelector:
        # Parameters are as they were; the default copies them, and a cluster cannot be copied.
        return type(self)(**self.get_params(deep=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
