"""Look at the panel's script for names that nothing defines: ``python -m tests.panel.lint``.

Its parts share a scope that exists only when they are joined, so that is what oxlint gets. What
it may use of a browser is listed in oxlint.json, and no more: a browser knows `name` and `event`
everywhere, which hides a slip.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from memshare_jupyter.panel._script import PARTS, STATIC, joined

LINTER = Path(sysconfig.get_path("scripts")) / "oxlint"
RULES = Path(__file__).with_name("oxlint.json")


def complaints(script: str) -> list[str]:
    """What is wrong with the joined script, a line each, and where in which part."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "panel.js"
        path.write_text(script)
        command = [LINTER, "--config", RULES, "--format", "json", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"oxlint did not work: {done.stdout}{done.stderr}")
    found = json.loads(done.stdout)
    if found["number_of_files"] != 1:
        raise RuntimeError(f"oxlint looked at {found['number_of_files']} files and not at one")
    return [
        f"{_place(label['span']['line'])}:{label['span']['column']}: {one['message']}"
        for one in found["diagnostics"]
        for label in (one["labels"] or [{"span": {"line": 1, "column": 1}}])[:1]
    ]


def _place(line: int) -> str:
    """Say in which part a line of the whole is, and where there."""
    for part in PARTS:
        count = (STATIC / f"{part}.js").read_text().count("\n") + 1  # and one between two parts
        if line <= count:
            return f"{part}.js:{line}"
        line -= count
    return f"after the end:{line}"


if __name__ == "__main__":
    wrong = complaints(joined())
    print(*wrong, sep="\n", end="\n" if wrong else "")
    sys.exit(bool(wrong))
