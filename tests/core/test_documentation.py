"""Every example in the core's docstrings runs and says the truth."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import memshare_jupyter.core

MODULES = [
    f"memshare_jupyter.core.{found.name}"
    for found in pkgutil.iter_modules(memshare_jupyter.core.__path__)
]


@pytest.mark.parametrize("name", [*MODULES, "memshare_jupyter.display", "memshare_jupyter.errors"])
def test_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name), verbose=False)
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = map(importlib.import_module, MODULES)
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= 5
