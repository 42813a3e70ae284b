"""What holds arrays that a line wanted to let go is named: names, results, the last error."""

from __future__ import annotations

import gc
import sys

import pytest

import memshare_jupyter as ms

FRAMES = """
import pandas as pd, polars as pl, pyarrow as pa
gene, n = np.arange(1000.0), np.arange(1000)
ms.register_variables('rna', {
    'X': gene.reshape(50, 20), 'pandas': pd.DataFrame({'a': gene, 'b': n}),
    'polars': pl.DataFrame({'a': gene, 'b': n}), 'arrow': pa.table({'a': gene, 'b': n}),
    'list': [gene, n], 'mixed': pd.DataFrame({'a': n, 'd': pd.Categorical(n % 3)}),
})
del gene, n
"""


@pytest.fixture
def rna(run):
    run("import memshare_jupyter as ms, numpy as np")
    run(FRAMES)
    sys.last_value = None  # IPython sets it, and others read it: it is the interpreter's
    yield run
    sys.last_value = None


def held_by(rna, page: str, cell: str) -> str:
    """Make something of a view, let the view go, and return what is then said."""
    rna(f"view = ms.retrieve_views('rna', '{page}')['{page}']")
    rna(f"{cell}\ndel view")
    said = repr(rna(f"%memshare detach rna.{page}"))
    assert rna(f"'rna.{page}' in ms.view_list()") == ("still use" in said)
    return said.partition("held by ")[2].partition(";")[0]


@pytest.mark.parametrize(
    ("page", "cell", "held"),
    [
        ("X", "kept = view[3:, ::2]", "kept (del kept)"),
        ("X", "kept = {'deep': [(view.T,)]}", "kept (del kept)"),
        ("X", "def kept(scale=view): return scale", "kept (del kept)"),
        ("X", "kept = (lambda v: lambda: v)(view)", "kept (del kept)"),
        ("X", "kept = pd.DataFrame(view, copy=False)", "kept (del kept)"),
        ("pandas", "kept = view.iloc[:500]", "kept (del kept)"),
        ("pandas", "kept = view['a']", "kept (del kept)"),
        ("mixed", "kept = view['d']", "kept (del kept)"),
        ("polars", "kept = view.head(500)", "kept (del kept)"),
        ("polars", "kept = view['b']", "kept (del kept)"),
        ("arrow", "kept = view.slice(10)", "kept (del kept)"),
        ("list", "kept = view[1]", "kept (del kept)"),
        ("list", "kept = view", "kept (del kept)"),
        ("X", "kept = view.copy()", ""),
        ("pandas", "kept = view.to_numpy(copy=True)", ""),
    ],
)
def test_what_holds_the_memory_is_named_and_nothing_else(rna, page, cell, held):
    rna("other, unlike = np.ones(9), pd.DataFrame({'a': [1.0]})")
    assert held_by(rna, page, cell) == held


def test_the_last_results_are_named(rna, shell):
    said = held_by(rna, "X", "_ = view[1:]")
    shell.user_ns["_"] = shell.displayhook._
    assert said == "_, __, ___ (until there are three further results)"


def test_the_last_errors_traceback_is_named(rna):
    rna("view = ms.retrieve_views('rna', 'X')['X']\ndef scale(gene): gene[0] = 1")
    with pytest.raises(ValueError, match="read-only"):
        rna("scale(view)")
    said = held_by(rna, "X", "")
    assert said == "the traceback of the last error (until there is another one)"
    with pytest.raises(ZeroDivisionError):
        rna("1 / 0")
    gc.collect()
    assert ms.view_list() == []


def test_a_cycle_of_an_earlier_error_is_collected_first(rna):
    rna("view = ms.retrieve_views('rna', 'pandas')['pandas']")
    rna(
        "def fails(frame):\n    try: frame.nope\n    except AttributeError as error: e = error\n"
        "fails(view)"
    )
    assert held_by(rna, "pandas", "") == ""
