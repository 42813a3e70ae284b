"""The columns that were chosen."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SelectedFeatures:
    """The chosen columns, best first; every attribute has one entry for each.

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

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        head, rows = self._table()
        widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
        lines = ("  ".join(map(str.rjust, row, widths)).rstrip() for row in (head, *rows))
        return "\n".join([f"{len(self)} features", *lines])

    def _repr_html_(self) -> str:
        head, rows = self._table()
        titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        return (
            f"<table><caption>{len(self)} features</caption>"
            f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
        )

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with one row for each column, named by it."""
        import pandas as pd  # type: ignore[import-untyped,unused-ignore] # noqa: PLC0415 - optional

        index = pd.Index(self.names, name="feature")
        return pd.DataFrame({"column": self.columns, "rank": self.ranks, **self._given()}, index)

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw a bar for each column: what it was chosen for, the best at the top.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            To draw on; a new figure's if not given.
        """
        if ax is None:
            import matplotlib.pyplot as plt  # noqa: PLC0415 - an optional dependency

            _, ax = plt.subplots(figsize=(6, 1 + 0.25 * len(self)), layout="constrained")
        places = np.arange(len(self))
        ax.barh(places, self.values if self.scores is None else self.scores)
        ax.set_yticks(places, [str(name) for name in self.names])
        ax.invert_yaxis()
        ax.set_xlabel("mutual information" if self.scores is None else "score at its choice")
        return ax

    def _given(self) -> dict[str, NDArray[np.float64]]:
        found = {
            "value": self.values,
            "score": self.scores,
            "p": self.p_values,
            "q": self.q_values,
        }
        return {title: values for title, values in found.items() if values is not None}

    def _table(self) -> tuple[list[str], list[list[str]]]:
        given = self._given()
        rows = [
            [str(rank), str(name), *(f"{values[i]:.4g}" for values in given.values())]
            for i, (rank, name) in enumerate(zip(self.ranks, self.names, strict=True))
        ]
        return ["rank", "feature", *given], rows
