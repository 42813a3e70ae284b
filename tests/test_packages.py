"""What is released has what it should, is the same each time, and runs where nothing else is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RELEASED = (
    *(
        "memshare_jupyter",
        "tests",
        "notebooks",
        "docs",
        "requirements",
        ".ci",
        ".github",
        ".binder",
    ),
    *("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile"),
    *("pyproject.toml", ".gitignore"),
)
MADE = shutil.ignore_patterns("__pycache__", "*.pyc", "api", "_build", ".ipynb_checkpoints")


def built(folder: Path) -> dict[str, Path]:
    """Build from a copy of the tree, whose files are of another time; return both by ending."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in RELEASED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=MADE, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(ROOT / name, source / name)
    shutil.rmtree(source / "docs" / "notebooks", ignore_errors=True)  # the site's copy
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder / "dist")]
    subprocess.run(build, cwd=source, check=True, capture_output=True, timeout=100)
    return {path.suffix: path for path in (folder / "dist").iterdir()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    return built(tmp_path_factory.mktemp("dist"))


def files_below(folder: Path) -> set[str]:
    found = {path.relative_to(folder.parent) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if "__pycache__" not in path.parts}


def test_the_wheel_has_the_package_and_nothing_else(dist):
    names = set(zipfile.ZipFile(dist[".whl"]).namelist())
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == files_below(ROOT / "memshare_jupyter")
    assert {"memshare_jupyter/py.typed", "memshare_jupyter/__init__.pyi"} < names
    assert any(name.startswith("memshare_jupyter/panel/static/") for name in names)
    assert {name.partition("/")[2] for name in about} == {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"),
    }


def test_the_sdist_has_what_is_needed_to_test_and_to_document(dist):
    with tarfile.open(dist[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("tests", "memshare_jupyter", "requirements", ".github", ".binder"):
        assert files_below(ROOT / folder) <= names
    assert {"Makefile", "CITATION.cff", "docs/conf.py", "notebooks/data/golub1999.npz"} <= names
    assert not [name for name in names if name.startswith(("docs/api", "build", ".venv"))]


@pytest.mark.slow
def test_both_are_the_same_each_time(dist, tmp_path):
    again = built(tmp_path)
    for ending, path in dist.items():
        assert path.read_bytes() == again[ending].read_bytes(), path.name


@pytest.mark.slow
def test_the_cells_of_the_readme_run_with_what_is_in_the_wheel(dist, tmp_path):
    """`make dist` does this in an environment that has nothing but the wheel and what it needs."""
    zipfile.ZipFile(dist[".whl"]).extractall(tmp_path / "wheel")  # noqa: S202 -- we made it
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "wheel"), "IPYTHONDIR": str(tmp_path / "ipython"),
    }  # fmt: skip
    where = "import memshare_jupyter; print(memshare_jupyter.__file__)"
    for command in (["-c", where], [ROOT / "tests" / "cells.py", ROOT / "README.md"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(tmp_path)) == (command[0] == "-c")


def test_the_version_is_the_same_everywhere():
    version = PROJECT["version"]
    assert f'__version__ = "{version}"' in (ROOT / "memshare_jupyter/__init__.py").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n  version: {version}\n" in (ROOT / "requirements/conda/recipe.yaml").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_conda_recipe_needs_what_the_package_needs():
    recipe = (ROOT / "requirements/conda/recipe.yaml").read_text()
    run = re.search(r"\n  run:\n((?:    - .*\n)+)", recipe)[1]
    listed = {line.replace(" ", "") for line in re.findall(r"- (.*)", run)}
    expected = {*PROJECT["dependencies"], f"python{PROJECT['requires-python']}", "__linux"}
    assert listed == expected


def test_the_pythons_that_are_tested_are_those_that_are_promised():
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    workflow = (ROOT / ".github/workflows/tests.yml").read_text()
    assert re.findall(r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", workflow)[1]) == named
    assert f">={named[0]}" == PROJECT["requires-python"]


def test_the_workflows_call_targets_that_there_are():
    makefile = (ROOT / "Makefile").read_text()
    targets = set()
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for words in re.findall(
            r"(?:run: make|target:) ([\w -]+)$", path.read_text(), re.MULTILINE
        ):
            targets |= {*words.split()}
    assert {"test", "lint", "docs", "dist", "test-oldest", "test-newest"} == targets
    assert {name for name in targets if f"\n{name}:" not in makefile} == set()
