"""What the documentation shows runs, and what there is, it names."""

from __future__ import annotations

import ast
import doctest
import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import memshare_jupyter as ms

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


PYTHON = [
    pytest.param(block, id=f"{path.stem}-{i}")
    for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
    for i, block in enumerate(blocks(path, "python"))
]


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON)
def test_each_python_block_runs_in_a_fresh_interpreter(block, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(block)
    command = [sys.executable, "-W", "error::UserWarning", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert ms.snapshot().pages == ()


PUBLIC = [name for name in ms.__all__ if callable(getattr(ms, name))]


def examples(name: str) -> list[doctest.DocTest]:
    """Return what the docstrings of a name, and of its methods, show."""
    found = doctest.DocTestFinder().find(getattr(ms, name), name, module=False, globs={})
    return [test for test in found if test.examples]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PUBLIC if examples(name)])
def test_each_example_of_a_docstring_gives_what_it_says(name, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    runner = doctest.DocTestRunner(verbose=False)
    try:
        for example in examples(name):
            runner.run(example)
    finally:
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")
        gc.collect()
    assert runner.summarize(verbose=False).failed == 0


@pytest.fixture(scope="module", autouse=True)
def no_cluster_is_left():
    yield
    from memshare_jupyter.engines.local import running_cluster

    if cluster := running_cluster():
        cluster.stop()


PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
RUN = {
    "python": PAGES,
    "ipython": [DOCS / f"{page}.md" for page in ("tutorial", "genes", "magics")],
}
READ = {
    "": "drawings",
    "r": "what is translated beside it (test_reference_manual.py)",
    "console": "the lines of ours are parsed below; others need a shell, docker, or a clone",
    "dockerfile": "needs docker",
    "py": "needs several hosts; tests/hosts has such calls",
    "bash": "needs Slurm; tests/hosts/test_recipes.py runs it where there is one",
    "yaml": "needs Kubernetes",
    "{toctree}": "Sphinx's", "{eval-rst}": "Sphinx's",
}  # fmt: skip


def test_every_block_is_run_or_known_not_to_be():
    for path in PAGES:
        opened = re.findall(r"^```(.*)\n(?:.*\n)*?```$", path.read_text(), re.MULTILINE)
        for language in {*opened} - {*READ}:
            assert path in [*RUN[language], ROOT / "README.md"], f"{path.name}: {language}"


def test_the_lines_for_a_terminal_are_commands_and_targets_that_there_are():
    from memshare_jupyter import cli

    text = "\n".join(block for path in PAGES for block in blocks(path, "console"))
    ours = re.findall(r"^\$ memshare ?([^|\n]*)", text, re.MULTILINE)
    for line in ours:
        cli._parser().parse_args(line.split())
    targets = re.findall(r"^\$ make (\w[\w-]*)", text, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert [name for name in targets if f"\n{name}:" not in makefile] == []
    assert len(ours) >= 4
    assert len(targets) >= 3


def test_all_but_errors_have_an_example():
    without = {name for name in PUBLIC if not examples(name)}
    assert {name for name in without if not name.endswith("Error")} == set()


def test_the_documents_have_blocks_to_run():
    assert len(PYTHON) >= 7
    assert len(blocks(DOCS / "tutorial.md", "ipython")) >= 8
    assert len(blocks(ROOT / "README.md", "ipython")) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "said"),
    [
        (DOCS / "tutorial.md", ["best column: 7", "left alone: rng (Generator)"]),
        (DOCS / "genes.md", ["GENE0007", "GENE0123"]),
        (ROOT / "README.md", ["gene 7: 0.27 nats", "8.0 MB shared once"]),
    ],
    ids=["tutorial", "genes", "README"],
)
def test_the_cells_of_a_document_run_from_top_to_bottom_in_ipython(path, said, tmp_path):
    environment = os.environ | {
        "IPYTHONDIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "cells.py", path],
        capture_output=True, text=True, timeout=100, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [text for text in said if text not in done.stdout] == []
    assert ms.snapshot().pages == ()


def test_the_reference_names_everything_that_is_public():
    text = (DOCS / "reference.md").read_text()
    listed = re.findall(r"^   (\w+)$", text, re.MULTILINE)
    assert sorted(listed) == [name for name in ms.__all__ if name[0] != "_"]


def test_the_reference_shows_every_subcommand_and_option():
    from memshare_jupyter.magics import _grammar as grammar

    text = (DOCS / "reference.md").read_text()
    commands = grammar.commands()
    assert [name for name in commands if f"memshare {name}" not in text] == []
    parsers = [*commands.values(), *map(grammar.apply_parser, ("memapply", "memlapply"))]
    options = {o for parser in parsers for action in parser._actions for o in action.option_strings}
    # Each has both, and the text says so once.
    assert [o for o in sorted(options - {"-h"}) if not re.search(rf"{o}\b", text)] == []


def test_the_command_line_page_shows_every_command_and_option():
    from memshare_jupyter import cli

    text = (DOCS / "commandline.md").read_text()
    (commands,) = (a for a in cli._parser()._actions if isinstance(a.choices, dict))
    assert [name for name in commands.choices if f"`memshare {name}" not in text] == []
    parsers = [cli._parser(), *commands.choices.values()]
    options = {o for parser in parsers for action in parser._actions for o in action.option_strings}
    assert [o for o in sorted(options) if not re.search(rf"{o}\b", text)] == []


OF_OTHERS = {"assignment destination is read-only", "buffer source array is read-only"}  # numpy's


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_code():
    said = set()
    for path in Path(ms.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=str(text)):
                    said.add(text)
                case ast.JoinedStr(values=parts):
                    said.add(
                        "".join(p.value if isinstance(p, ast.Constant) else "…" for p in parts)
                    )
    text = "\n".join(said)
    firsts = re.findall(r"^\| (.*?) \|", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    parts = {part.strip(" ,:;") for first in firsts for message in re.findall(r"`(.+?)`", first)
             for part in message.split("...")}  # fmt: skip
    assert len(parts) > 35
    assert {part for part in parts if part not in text} == OF_OTHERS


def test_every_error_is_on_the_troubleshooting_page():
    text = (DOCS / "troubleshooting.md").read_text()
    errors = {name for name in PUBLIC if name.endswith("Error")}
    assert {name for name in errors if name not in text} == {"MemshareError"}  # which all are


def test_the_comparison_of_the_readme_is_that_of_the_benchmarks():
    measured = (DOCS / "benchmarks.md").read_text().partition("10,000² in C order")[2]
    found = dict(re.findall(r"^\| ([\w .]+) \| (.*) \|$", measured, re.MULTILINE))
    rows = re.findall(r"^\| ([\w .]+) \| (.*) \| (.*) \|$", README, re.MULTILINE)
    assert len(rows) == 8
    for name, seconds, copies in rows:
        assert found[name].startswith(f"{seconds} (")
        assert found[name].endswith(f"| {copies}")


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text()
    listed = {line for block in re.findall(r"\{toctree\}\n(.*?)```", index, re.DOTALL)
              for line in block.split("\n") if line and line[0] != ":"}  # fmt: skip
    assert listed == {path.stem for path in DOCS.glob("*.md")} - {"index"}


def test_links_between_documents_lead_somewhere():
    for path in (ROOT / "README.md", *DOCS.glob("*.md")):
        for link in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
