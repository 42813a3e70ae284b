"""The examples in the docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["_columns", "_density", "_mutual_info"])
def test_examples(name):
    module = importlib.import_module(f"memshare_jupyter.information.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
