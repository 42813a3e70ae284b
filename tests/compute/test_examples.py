"""The examples in the docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["columns", "density", "mutual_info"])
def test_examples(name):
    module = importlib.import_module(f"memshare_jupyter.compute.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
