"""An error in writing to a view that somebody else raised is followed by what can be done."""

from __future__ import annotations

import sys

import pytest

FRAMES = """
import pandas as pd, memshare_jupyter as ms
ms.register_variables('rna', {
    'mixed': pd.DataFrame({'a': np.zeros(9), 'n': np.arange(9)}),
    'X': pd.DataFrame(np.zeros((9, 4)), columns=list('abcd')),
})
X, mixed = ms.retrieve_views('rna', ['X', 'mixed']).values()
def change(frame):
    frame.iloc[0, 0] = 5
"""


@pytest.fixture
def rna(run):
    run(FRAMES)
    yield run
    run("del X, mixed")
    with pytest.raises(ZeroDivisionError):
        run("1 / 0")  # IPython keeps the last error, and that its frames
    sys.last_value = None  # the interpreter's, which others read


@pytest.mark.parametrize(
    ("cell", "page"),
    [
        ("X.iloc[0, 0] = 5", "rna.X"),
        ("X.loc[3, 'c'] = 5", "rna.X"),
        ("change(mixed)", "rna.mixed"),
        ("mixed['n'].array._ndarray[1] = 7", "rna.mixed"),
        ("X.to_numpy()[2, 2] = 1", "rna.X"),
    ],
)
def test_what_pandas_says_of_a_view_is_explained(rna, capsys, cell, page):
    with pytest.raises(ValueError, match="read-only"):
        rna(cell)
    said = capsys.readouterr().err
    assert f"{page} is shared, and its views are read-only" in said
    assert "x.copy()" in said


@pytest.mark.parametrize(
    "cell",
    [
        "own = np.zeros(3); own.flags.writeable = False; own[0] = 1",
        "raise ValueError('this is read-only')",
        "int('x')",
    ],
)
def test_of_other_errors_nothing_is_said(rna, capsys, cell):
    with pytest.raises(ValueError, match=r"read-only|invalid"):
        rna(cell)
    assert "is shared" not in capsys.readouterr().err


def test_a_copy_can_be_written_to_and_a_new_column_needs_none(rna):
    rna("own = X.copy(); own.iloc[0, 0] = 5; X['new'] = 1")
    assert rna("float(own.iloc[0, 0])") == 5
    assert rna("(X['new'] == 1).all()")
