"""Blocks know nothing of what is put into them, nor of the lists that name them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memshare_jupyter.core import blocks

CORE = Path(blocks.__file__).parents[1]
IMPORTED = re.compile(r"^\s*(?:from|import) memshare_jupyter\.([\w.]+)", re.MULTILINE)
BELOW = {"_proc", "_descriptors", "_directories", "_locks", "_opened", "quantities"}


@pytest.mark.parametrize("path", sorted((CORE / "blocks").glob("*.py")), ids=lambda path: path.stem)
def test_blocks_import_blocks_and_what_lies_below(path):
    for name in IMPORTED.findall(path.read_text()):
        room, *inner = name.split(".")
        assert room in {"core", "errors"}
        if room == "core":
            assert not inner or inner[0] in {"blocks", *BELOW}, name


@pytest.mark.parametrize("name", sorted(BELOW - {"_opened"}))
def test_what_lies_below_imports_errors_only(name):
    found = IMPORTED.findall((CORE / f"{name}.py").read_text())
    assert {one for one in found if one not in {"errors", "core"}} == set()


@pytest.mark.parametrize("name", ["_runtime", "_elsewhere"])
def test_the_runtime_directory_knows_no_blocks(name):
    found = IMPORTED.findall((CORE / "ledger" / f"{name}.py").read_text())
    rooms = {one.split(".")[1] for one in found if one.startswith("core.")}
    assert rooms <= {"ledger", *BELOW}
