from __future__ import annotations

import sys

import numpy as np
import pytest

from memshare_jupyter.information._plots import class_densities, mutual_info_figure

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def quiet_figures():
    matplotlib.use("Agg")
    yield
    matplotlib.pyplot.close("all")


def test_four_views_of_mutual_informations_are_drawn():
    values = np.random.default_rng(0).exponential(size=300)
    values[7] = np.nan
    axes = mutual_info_figure(values, unit="bits")
    assert [ax.get_title() for ax in axes] == [
        "Histogram",
        "Density (PDE)",
        "Against normal",
        "Box plot",
    ]
    assert sum(bar.get_height() for bar in axes[0].patches) == 299
    assert axes[2].lines[0].get_ydata().size == 299
    assert "bits" in axes[0].get_xlabel()
    axes[0].figure.canvas.draw()


def test_equal_values_have_no_density_but_a_figure():
    axes = mutual_info_figure(np.zeros(5))
    assert len(axes[1].lines) == 0


def test_no_finite_value_is_an_error():
    with pytest.raises(ValueError, match="no finite"):
        mutual_info_figure([np.nan])


def test_each_class_has_a_line():
    rng = np.random.default_rng(1)
    y = np.array(["AML", "ALL"], dtype=object)[rng.integers(0, 2, size=80)]
    x = rng.normal(size=80)
    y[5], x[5] = "only one", 2.0
    ax = class_densities(x, y)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [label.split(" (")[0] for label in labels] == ["ALL", "AML", "only one"]
    assert class_densities(x, y, ax=ax) is ax
    ax.figure.canvas.draw()


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(3,\), \(2,\)"):
        class_densities([1, 2, 3], [0, 1])


def test_missing_matplotlib_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        mutual_info_figure([0.1, 0.2])
