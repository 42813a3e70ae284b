"""The linter of the panel's script sees what it is for."""

from __future__ import annotations

import itertools
import re

import pytest

from memshare_jupyter.panel._script import PARTS, STATIC, joined
from tests.panel.lint import complaints

BODY = re.compile(r"\) (?:=> )?\{\n")
"""The beginning of a function, or of a block in one."""


def test_nothing_is_wrong_with_the_script():
    assert complaints(joined()) == []


@pytest.mark.parametrize("part", PARTS)
def test_a_name_that_nothing_defines_is_found_in_every_function(part):
    text = (STATIC / f"{part}.js").read_text()
    numbers = itertools.count()
    planted = BODY.sub(lambda found: f"{found[0][:-1]} nobody{next(numbers)}();\n", text)
    places = [i for i, line in enumerate(planted.splitlines(), 1) if re.search(r"nobody\d", line)]
    assert places
    wrong = complaints(joined().replace(text, planted))
    for number, line in enumerate(places):
        found = [one for one in wrong if one.startswith(f"{part}.js:{line}:")]
        assert [f"'nobody{number}' is not defined" in one for one in found] == [True]


@pytest.mark.parametrize("name", ["name", "event", "status"])
def test_a_slip_that_a_browser_would_not_notice_is_found(name):
    (wrong,) = complaints(f"{joined()}\nfunction slip() {{ return {name}; }}\nslip();\n")
    assert f"'{name}' is not defined" in wrong
