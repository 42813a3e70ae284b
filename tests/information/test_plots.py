from __future__ import annotations

import sys

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter import select_features
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


def study(n=150, k=60):
    rng = np.random.default_rng(0)
    y = np.array(["ALL", "AML", "CML"])[rng.integers(0, 3, n)]
    X = rng.normal(size=(n, k))
    X[:, :5] += (y == "AML")[:, None] * np.arange(5, 0, -1) / 2
    return X, y


class TestSelection:
    def test_bars_have_names_values_and_q_values_and_the_cut_is_drawn(self):
        X, y = study()
        found = select_features(X, y, alpha=0.05, permutations=2000)
        bars, ranks, rates = found.plot()
        assert [bar.get_width() for bar in bars.patches] == found.values.tolist()
        assert [label.get_text() for label in bars.get_yticklabels()] == list(map(str, found.names))
        assert [text.get_text() for text in bars.texts] == [f"q = {q:.2g}" for q in found.q_values]
        assert ranks.lines[0].get_ydata().tolist() == sorted(found.all_values, reverse=True)
        points = ranks.collections[0].get_offsets()
        np.testing.assert_allclose(points[:, 1], found.values)
        np.testing.assert_array_equal(points[:, 0], np.arange(1, len(found) + 1))
        assert rates.lines[1].get_ydata()[0] == 0.05
        assert (rates.collections[0].get_offsets()[:, 1] <= 0.05).all()
        bars.figure.canvas.draw()

    def test_the_best_are_drawn_by_class_from_arrays_and_pages(self):
        X, y = study()
        found = select_features(X, y, k=4, names=["a gene with a name that is rather long"] * 60)
        with ms.Namespace("pictured") as pages:
            pages["X"], pages["y"] = X, y
            for given in ((X, y), ("pictured.X", "pictured.y")):
                axes = found.plot(*given, best=2)
                assert len(axes) == 4
                assert len(axes[2].lines) == len(axes[3].lines) == 3
                assert axes[2].get_legend() is axes[3].get_legend() is None
                (legend,) = axes[0].figure.legends
                assert len(legend.get_texts()) == 3
                assert axes[2].get_title() == "a gene with a nam…her long"
                cut = axes[1].lines[1].get_ydata()[0]
                assert cut == found.values[-1]
                axes[0].figure.canvas.draw()
        by_value = found.plot(X, X[:, 0], best=1, y_discrete=False)[2]
        assert by_value.lines[0].get_ydata().tolist() == X[:, 0].tolist()

    def test_labels_are_drawn_as_shares(self):
        pandas = pytest.importorskip("pandas")
        X, y = study()
        frame = pandas.DataFrame({"noise": X[:, 9], "marker": y == "AML"})
        found = select_features(frame, y, k=1, x_discrete="auto")
        ax = found.plot(frame, y)[-1]
        assert [bar.get_height() for bar in ax.patches] == [1, 0, 0, 1, 1, 0]
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1"]

    @pytest.mark.parametrize("method", ["mrmr", "cmim"])
    def test_choices_one_after_the_other_have_their_scores(self, method):
        X, y = study()
        found = select_features(X, y, k=50, method=method)
        bars, ranks = found.plot()
        assert [bar.get_width() for bar in bars.patches] == found.scores[:40].tolist()
        assert bars.get_title() == "50 features selected, the best 40"
        assert len(ranks.lines) == 1
        bars.figure.canvas.draw()

    def test_a_selection_of_nothing_has_a_picture(self):
        X, y = study()
        axes = select_features(X, y, threshold=9.0).plot(X, y)
        assert axes[0].get_title() == "no feature selected"
        axes[0].figure.canvas.draw()

    def test_both_or_none_of_matrix_and_labels(self):
        X, y = study(30)
        with pytest.raises(ValueError, match="both X and y"):
            select_features(X, y, k=1).plot(X)
