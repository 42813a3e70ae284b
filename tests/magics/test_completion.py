"""What Tab proposes after the magics, in a real shell's completer."""

from __future__ import annotations

import numpy as np
import pytest
from IPython.core.completer import provisionalcompleter

import memshare_jupyter as ms


@pytest.fixture
def proposals(shell, run):
    """Press Tab at the end of a line; return what the last word may become."""
    with ms.Namespace("rna") as rna, ms.Namespace("atac") as atac:
        rna["X"], rna["y"], atac["X"] = np.eye(2), np.zeros(2), np.eye(3)
        run("own = np.eye(4)\ndef score(v): return 1\ncounter = 3")

        def press(line: str) -> list[str]:
            with provisionalcompleter():
                found = list(shell.Completer.completions(line, len(line)))
            # Nothing else, such as a file or a keyword, is mixed in.
            assert {c._origin for c in found} <= {"memshare"}
            return [c.text for c in found]

        yield press


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%memshare re", ["register", "release"]),
        ("%memshare register ", ["atac", "rna"]),
        ("%%memshare register rna --wr", ["--writable"]),
        ("%memshare register rna o", ["own"]),
        ("%memshare register rna --order ", ["C", "F"]),
        ("%memshare attach ", ["atac.X", "rna.X", "rna.y"]),
        ("%memshare attach rna.X r", ["rna.X", "rna.y"]),
        ("%memshare attach rna.X --mode r", ["r", "r+"]),
        ("%memshare attach rna.X --engines ", ["all"]),
        ("%memshare list r", ["rna"]),
        ("%memshare cluster st", ["start", "status", "stop"]),
        ("%memapply rna.", ["rna.X", "rna.y"]),
        ("%memapply ow", ["own"]),
        ("res = %memapply rna.X --fn sc", ["score"]),
        ("res = %memapply rna.X --fn np.medi", ["np.median"]),
        ("res = %memapply rna.X --fn score --vars ", ["X", "y", "own", "counter"]),
        ("res = %memapply rna.X --fn score --vars y ow", ["own"]),
        ("%%memapply rna.X -m ", ["rows", "cols"]),
        ("%%memapply rna.X --on-error ", ["raise", "return"]),
        ("%%memlapply rna.X --it", ["--item"]),
        ("memshare inf", ["info"]),
    ],
)
def test_tab_proposes_what_may_come_next(proposals, line, expected):
    assert proposals(line) == expected


def test_tab_proposes_the_pages_that_a_subcommand_can_take(proposals, child, run):
    child("ms.register_variables('theirs', {'Z': np.ones(2)})")
    run("%memshare attach rna.y --as labels -q")
    assert proposals("%memshare release ") == ["atac.X", "rna.X", "rna.y"]
    assert proposals("%memshare detach ") == ["rna.y"]
    assert "theirs.Z" in proposals("%memshare attach ")
    run("%memshare detach rna.y -q")


@pytest.mark.parametrize("line", ["mem", "x = memshare re", "print('%memshare re", "%px re"])
def test_a_line_that_is_no_magic_of_ours_is_left_alone(shell, monkeypatch, line):
    monkeypatch.setattr(shell.Completer, "use_jedi", False)
    with provisionalcompleter():
        origins = {c._origin for c in shell.Completer.completions(line, len(line))}
    assert "memshare" not in origins
