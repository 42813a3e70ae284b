"""A picture of a selection: what was chosen, where the cut is, and what the best look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from memshare_jupyter.information._blocks import numbers_of, value_of
from memshare_jupyter.information._plots import class_densities, label_shares, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from memshare_jupyter.information._selected import SelectedFeatures

_MOST_BARS: Final = 40
_MOST_IN_LEGEND: Final = 12
_LONGEST_NAME: Final = 26
_MOST_TIMES: Final = 3  # as high as the middle one of the densities
_CUT: Final[dict[str, Any]] = {"color": "C3", "linestyle": "--", "linewidth": 1}


def selection_figure(
    found: SelectedFeatures,
    X: Any = None,
    y: Any = None,
    *,
    best: int = 3,
    y_discrete: bool = True,
    namespace: str | None = None,
) -> NDArray[Any]:
    """Draw a selection; `SelectedFeatures.plot` explains it."""
    if (X is None) != (y is None):
        raise ValueError("give both X and y, for pictures of the best columns, or neither")
    best = 0 if X is None else min(best, len(found))
    bars = min(len(found), _MOST_BARS)
    right = ["ranks"] + ["q"] * (found.all_q_values is not None)
    width = 2 * max(best, 1)  # of the grid: two halves above, the best side by side below
    layout = [["bars"] * (width // 2) + [name] * (width // 2) for name in right]
    heights = [max(2.4, (0.9 + 0.24 * bars) / len(right))] * len(right)
    if best:
        layout.append([f"best {place // 2}" for place in range(width)])
        heights.append(2.6)
    _, axes = pyplot().subplot_mosaic(
        layout,
        figsize=(9.6, sum(heights)),
        height_ratios=heights,
        layout="constrained",
    )
    _bars(axes["bars"], found, bars)
    _ranks(axes["ranks"], found)
    if "q" in axes:
        _q_values(axes["q"], found)
    if best:
        _the_best(
            [axes[f"best {place}"] for place in range(best)],
            *(found, value_of(X, namespace), np.asarray(value_of(y, namespace))),
            y_discrete=y_discrete,
        )
    return np.array(list(axes.values()), dtype=object)


def _bars(ax: Axes, found: SelectedFeatures, bars: int) -> None:
    """Draw what the best were chosen for, with their q-values or p-values."""
    chosen_for = found.values if found.scores is None else found.scores
    drawn = ax.barh(np.arange(bars), chosen_for[:bars], height=0.7)
    ax.set_yticks(np.arange(bars), [_short(name) for name in found.names[:bars]])
    ax.invert_yaxis()
    count = f"{len(found):,} feature{'s' * (len(found) != 1)}" if len(found) else "no feature"
    title = f"{count} selected" + (f", the best {bars}" if bars < len(found) else "")
    label = "mutual information" if found.scores is None else "score when it was chosen"
    ax.set(title=title, xlabel=label)
    for letter, values in (("q", found.q_values), ("p", found.p_values)):
        if values is not None:
            text = [f"{letter} = {value:.2g}" for value in values[:bars]]
            ax.bar_label(drawn, text, padding=3, fontsize="small")
            ax.margins(x=0.25)
            break


def _ranks(ax: Axes, found: SelectedFeatures) -> None:
    """Draw the mutual information of all columns in order, and which ones were chosen."""
    values = found.values if found.all_values is None else np.maximum(found.all_values, 0.0)
    columns = found.columns if found.all_values is not None else np.arange(len(found))
    place, order = _ranked(-values)
    ax.plot(np.arange(1, values.size + 1), values[order], color="0.6", zorder=1)
    ax.scatter(place[columns] + 1, values[columns], s=14, zorder=2, label="selected")
    if found.scores is None and found.all_q_values is None and 0 < len(found) < values.size:
        ax.axhline(values[columns].min(), label="cut", **_CUT)
    ax.set(xlabel="rank of the column", ylabel="mutual information", title="All columns")
    _from_one(ax, values.size)
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper right")


def _q_values(ax: Axes, found: SelectedFeatures) -> None:
    """Draw the q-values of all columns in order, and the false discovery rate."""
    rates = np.asarray(found.all_q_values)
    place, order = _ranked(rates)
    ax.plot(np.arange(1, rates.size + 1), rates[order], color="0.6", zorder=1)
    ax.scatter(place[found.columns] + 1, rates[found.columns], s=14, zorder=2)
    ax.axhline(found.alpha or 0.0, label=f"cut: {found.alpha:g}", **_CUT)
    ax.set(xlabel="rank of the column", ylabel="q-value", yscale="log")
    _from_one(ax, rates.size)
    ax.legend(loc="lower right")


def _the_best(
    axes: list[Axes], found: SelectedFeatures, X: Any, y: NDArray[Any], *, y_discrete: bool
) -> None:
    kinds = np.zeros(len(found), dtype=bool) if found.discrete is None else found.discrete
    for place, ax in enumerate(axes):
        labels = np.zeros(int(found.columns.max()) + 1, dtype=bool)
        labels[found.columns[place]] = kinds[place]
        column = numbers_of(X, found.columns[place : place + 1], labels)[:, 0]
        if not y_discrete:
            ax.plot(column, y, ".", alpha=0.5)
            ax.set(ylabel="y")
        elif kinds[place]:
            label_shares(column, y, ax=ax)
        else:
            class_densities(column, y, ax=ax)
            _cut_spikes(ax)
        ax.set_title(_short(found.names[place]), fontsize="medium")
        ax.set_xlabel("label" if kinds[place] else "value")
        if (own := ax.get_legend()) is not None:
            own.remove()
    handles, names = axes[0].get_legend_handles_labels()
    figure = axes[0].get_figure(root=True)
    if figure is not None and 0 < len(names) <= _MOST_IN_LEGEND:  # one for all of them
        figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize="small")


def _cut_spikes(ax: Axes) -> None:
    """Let a class of a few equal values, whose density is a spike, not press down the others."""
    tops = [np.max(np.asarray(line.get_ydata())) for line in ax.lines]
    ax.set_ylim(0, 1.05 * min(max(tops), _MOST_TIMES * float(np.median(tops))))


def _ranked(keys: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the place of each, and who is at each place."""
    order = np.argsort(keys, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    return place, order


def _from_one(ax: Axes, count: int) -> None:
    if count > 200:  # so that the few selected ones can be told apart
        ax.set_xscale("log")


def _short(name: Any) -> str:
    text = str(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 9]}…{text[-8:]}"
