"""Every example in the core's docstrings runs and says the truth."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import memshare_jupyter
from memshare_jupyter.engines.local import running_cluster

MODULES = [
    found.name
    for found in pkgutil.walk_packages(memshare_jupyter.__path__, "memshare_jupyter.")
    if found.name.startswith(("memshare_jupyter.core", "memshare_jupyter.errors"))
]


@pytest.mark.parametrize(
    "name", [*MODULES, "memshare_jupyter.display._tables", "memshare_jupyter.errors"]
)
def test_examples_run(name):
    try:
        failed, _ = doctest.testmod(importlib.import_module(name), verbose=False)
    finally:
        if (cluster := running_cluster()) is not None:  # an example applies a function
            cluster.stop()
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = map(importlib.import_module, MODULES)
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= 5
