"""Every line of the cheat sheet, in a real shell, from top to bottom."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest

import memshare_jupyter as ms
from memshare_jupyter.magics import _grammar as grammar

SHEET = Path(__file__).parents[2] / "docs" / "magics.md"
CELLS = re.findall(r"^```ipython\n(.*?)^```$", SHEET.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_line_of_the_cheat_sheet_runs_and_leaves_nothing(shell, run, child):
    run("%unload_ext memshare_jupyter")
    restarted = child("ms.register_variables('lab', {'Y': np.arange(5)})")
    ms.retrieve_views("lab", "Y")
    restarted.exit()
    try:
        for cell in CELLS:
            run(cell)
    finally:
        ms.local_cluster().stop()
    results = shell.user_ns
    assert len(results["res"]) == 50
    assert results["sizes"] == [0, 1, 2, 3, 4]
    assert results["sums"] == [0, 0, 1, 3, 6]
    assert results["run"].done()
    assert results["total"] == [1.0, 1.0, 1.0]
    assert isinstance(results["s"], ms.View)
    assert ms.page_list() == []
    shell.reset(new_session=False)
    gc.collect()
    assert ms.view_list() == []


def test_the_cheat_sheet_shows_every_magic_subcommand_and_option():
    text = "\n".join(CELLS)
    parsers = {f"%memshare {name}": parser for name, parser in grammar.commands().items()}
    parsers |= {f"%{name}": grammar.apply_parser(name) for name in ("memapply", "memlapply")}
    assert [line for line in parsers if line not in text] == []
    shown = SHEET.read_text()
    options = {
        action.option_strings[-1] for parser in parsers.values() for action in parser._actions[1:]
        if action.option_strings
    }  # fmt: skip
    rare = {"--cluster", "--hands", "--max-cores", "--quiet"}  # of the reference
    assert [option for option in sorted(options - rare) if option not in shown] == []
