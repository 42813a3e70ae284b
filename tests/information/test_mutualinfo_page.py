"""The page on mutual information says of each option what there is (test_docs.py runs it)."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from memshare_jupyter.information._options import Options

PAGE = (Path(__file__).parents[2] / "docs" / "mutualinfo.md").read_text("utf-8")


def test_every_option_is_on_the_page():
    names = [field.name for field in fields(Options)]
    assert [name for name in names if name not in PAGE] == []
