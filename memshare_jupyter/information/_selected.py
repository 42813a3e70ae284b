"""The columns that were chosen."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SelectedFeatures:
    """The chosen columns, best first.

    Every attribute has one entry for each of them, but for those of all columns.

    Attributes
    ----------
    names : list
        Of the columns; their numbers when they have no names.
    columns : ndarray of int
        Where they are in X: ``X[:, selected.columns]``.
    values : ndarray of float64
        Mutual information with y, in nats or to `base`.
    ranks : ndarray of int
        1 for the best; equal values, to 1e-12, share the better rank. Of columns that were chosen
        one after the other, the order of their choice.
    p_values : ndarray of float64 or None
        By permutation, if asked for; not corrected for the number of columns.
    q_values : ndarray of float64 or None
        Of a selection by `alpha`: the smallest false discovery rate at which the column is chosen,
        by Benjamini and Hochberg, among all columns of X.
    scores : ndarray of float64 or None
        What columns that were chosen one after the other were chosen for.
    discrete : ndarray of bool or None
        Whether the column was taken as labels; None if all were taken as numbers.
    all_values : ndarray of float64 or None
        Mutual information of all columns of X with y, in their order there.
    all_q_values : ndarray of float64 or None
        Of a selection by `alpha`, likewise.
    alpha : float or None
        The false discovery rate that was asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from memshare_jupyter import select_features
    >>> y = np.repeat([0, 1], 50)
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> X[:, 2] += 3 * y
    >>> best = select_features(X, y, k=1, names=["a", "b", "c", "d"])
    >>> best.names, best.columns.tolist(), len(best.to_frame())
    (['c'], [2], 1)
    """

    names: list[Any]
    columns: NDArray[np.intp]
    values: NDArray[np.float64]
    ranks: NDArray[np.intp]
    p_values: NDArray[np.float64] | None = None
    q_values: NDArray[np.float64] | None = None
    scores: NDArray[np.float64] | None = None
    discrete: NDArray[np.bool_] | None = None
    all_values: NDArray[np.float64] | None = None
    all_q_values: NDArray[np.float64] | None = None
    alpha: float | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        head, rows = self._table()
        widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
        lines = ("  ".join(map(str.rjust, row, widths)).rstrip() for row in (head, *rows))
        return "\n".join([self._count, *lines])

    def _repr_html_(self) -> str:
        head, rows = self._table()
        titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        return (
            f"<table><caption>{self._count}</caption>"
            f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
        )

    @property
    def _count(self) -> str:
        return f"{len(self):,} feature{'s' * (len(self) != 1)}"

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row for each column, named by it."""
        import pandas as pd  # type: ignore[import-untyped,unused-ignore] # noqa: PLC0415 - optional

        index = pd.Index(self.names, name="feature")
        kinds = {} if self.discrete is None else {"kind": self._kinds()}
        given = {"column": self.columns, "rank": self.ranks, **kinds, **self._given()}
        return pd.DataFrame(given, index)

    def plot(
        self,
        X: Any = None,
        y: Any = None,
        *,
        best: int = 3,
        y_discrete: bool = True,
        namespace: str | None = None,
    ) -> NDArray[Any]:
        """Draw what was chosen, among all columns, and the best ones by class.

        Parameters
        ----------
        X, y : array_like or str, optional
            What was selected from: arrays, frames, views or names of pages. If given, the densities
            of the best columns in each class are drawn, or how a label is shared out; with
            ``y_discrete=False``, y against the columns.
        best : int, default: 3
            So many of them.
        y_discrete : bool, default: True
        namespace : str, optional
            Where `X` and `y` are looked up when they are names without a namespace.

        Returns
        -------
        ndarray of matplotlib Axes
            In a new figure: bars of what at most 40 columns were chosen for, with q-values or
            p-values; the mutual information of all columns by rank, and the cut; of a selection by
            `alpha` their q-values by rank; then the best.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        from memshare_jupyter.information import _selection_figure  # noqa: PLC0415 - on top

        return _selection_figure.selection_figure(
            self, X, y, best=best, y_discrete=y_discrete, namespace=namespace
        )

    def _given(self) -> dict[str, NDArray[np.float64]]:
        found = {
            "value": self.values,
            "score": self.scores,
            "p": self.p_values,
            "q": self.q_values,
        }
        return {title: values for title, values in found.items() if values is not None}

    def _kinds(self) -> list[str]:
        return ["labels" if kind else "numbers" for kind in self.discrete]  # type: ignore[union-attr]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        columns = {"rank": [str(rank) for rank in self.ranks]}
        columns["feature"] = [str(name) for name in self.names]
        if self.discrete is not None:
            columns["kind"] = self._kinds()
        for title, values in self._given().items():
            columns[title] = [f"{value:.4g}" for value in values]
        return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]
