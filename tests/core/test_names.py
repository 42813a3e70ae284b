"""Names: what can be one, and that no two of them can be confused."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memshare_jupyter.core.names import (
    NAME_BYTES,
    PageName,
    check_namespace,
    in_order,
    page_name,
    parse,
)
from memshare_jupyter.errors import InvalidNameError, MemshareError

FAULTS = {
    "": "is empty",
    "x" * (NAME_BYTES + 1): "129 bytes",
    "ü" * 65: "130 bytes",
    "a/b": "contains a slash",
    "/": "contains a slash",
    "a\0b": r"unprintable character '\\x00'",
    ".hidden": "starts with a dot",
    ".": "starts with a dot",
    "a\nb": "unprintable character",
    "a\u200bb": "unprintable character",
    "\ud800": "unprintable character",
    "a`b": "contains a backtick",
}
NOT_STRINGS = [None, 5, b"x", ["x"], 1.5, ("a", "b")]

names = st.one_of(
    st.text(st.sampled_from("ab.-_ '\"%"), min_size=1, max_size=6),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20),
    st.text(string.ascii_letters + ".", min_size=1, max_size=NAME_BYTES),
).filter(lambda name: not set("/`") & set(name) and name[0] != "." and name.isprintable())


@pytest.mark.parametrize("name", FAULTS, ids=repr)
def test_an_impossible_name_gets_one_clear_error(name):
    with pytest.raises(InvalidNameError, match=FAULTS[name]) as as_namespace:
        page_name(name, "x")
    with pytest.raises(InvalidNameError, match=FAULTS[name]) as as_variable:
        page_name("n", name)
    assert "namespace" in str(as_namespace.value)
    assert "variable" in str(as_variable.value)
    assert as_variable.value.name == name
    assert isinstance(as_variable.value, MemshareError)
    assert len(str(as_variable.value)) < 160


@pytest.mark.parametrize("name", NOT_STRINGS, ids=repr)
def test_a_name_that_is_no_string_says_what_it_is(name):
    with pytest.raises(InvalidNameError, match=f"is a {type(name).__name__}, not a string"):
        page_name("n", name)
    with pytest.raises(InvalidNameError, match="not a string"):
        check_namespace(name)


@pytest.mark.parametrize("name", ["x" * NAME_BYTES, "ü" * 64, "a.b", "a.", "a b", "変数", "1", "-"])
def test_a_possible_name_is_kept_as_it_is(name):
    assert page_name(name, name) == (name, name)


def test_a_dot_moved_between_namespace_and_variable_makes_another_page():
    one, other = page_name("a.b", "c"), page_name("a", "b.c")
    assert one != other
    assert str(one) != str(other)
    assert (str(one), str(other)) == ("a.b.c", "a.`b.c`")


@given(names, names)
@example("a", "b.")
@example("a.", "b")
@example("a.", ".".join("bcd"))
@example("'", "`"[:0] + "b.c")
def test_the_text_of_a_page_reads_back_as_that_page(namespace, variable):
    name = page_name(namespace, variable)
    assert parse(str(name)) == name


@given(names, names, names, names)
def test_different_pages_have_different_texts(a, b, c, d):
    assert (str(PageName(a, b)) == str(PageName(c, d))) == ((a, b) == (c, d))


@pytest.mark.parametrize("text", ["", "x", "a.", ".a", "a/b.c", "a.`b", "a`b.c`", "a.``", "`a.b`"])
def test_a_text_that_is_no_page_is_refused(text):
    with pytest.raises(InvalidNameError):
        parse(text)


def test_a_text_without_a_dot_is_told_how_to_write_a_page():
    with pytest.raises(InvalidNameError, match=r"write namespace\.variable, as in rna\.X"):
        parse("rna")


@given(st.text(max_size=12))
def test_parsing_any_text_gives_a_page_or_the_one_error(text):
    try:
        name = parse(text)
    except InvalidNameError:
        return
    assert page_name(*name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [("X", "study.X"), ("study.X", "study.X"), ("other.X", "study.`other.X`")],
)
def test_with_a_namespace_a_variable_of_it_is_enough(text, name):
    assert str(parse(text, "study")) == name


def test_in_order_numbers_in_names_are_numbers_however_long():
    names = ["v13", "v2", "a_10_b", "a_9_b", "a_9", f"v{10**14}", f"v{9 * 10**12}", "v"]
    assert sorted(names, key=in_order) == [
        *("a_9", "a_9_b", "a_10_b", "v", "v2", "v13", f"v{9 * 10**12}", f"v{10**14}")
    ]
