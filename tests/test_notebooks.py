"""Each notebook runs from top to bottom and leaves nothing behind; the demo prints its table."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import memshare_jupyter as ms

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs_without_a_warning_and_leaves_no_page(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    wrong = [
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert wrong == []
    assert ms.snapshot().pages == ()


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_is_stored_with_what_it_showed(path):
    """`make docs` stores the outputs of a notebook that has none."""
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "display_data" in kinds
    assert "error" not in kinds


@pytest.mark.slow
def test_the_demo_prints_the_ten_best_genes_and_says_where_the_notebook_is():
    done = subprocess.run(
        [sys.executable, NOTEBOOKS / "run_demo.py"],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    rows = re.findall(r"^ +(\d+) (0\.\d{4})  (\S+) +(.*)$", done.stdout, re.MULTILINE)
    assert [int(rank) for rank, *_ in rows] == list(range(1, 11))
    assert rows[0][1:] == ("0.6015", "X95735_at", "Zyxin")
    assert rows[2][1:3] == ("0.5612", "M27891_at")
    assert "shared once, for the kernel and" in done.stdout
    executed = Path(re.search(r"executed notebook, with the histogram: (.*)", done.stdout)[1])
    outputs = [o for c in nbformat.read(executed, 4).cells for o in c.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert ms.snapshot().pages == ()
