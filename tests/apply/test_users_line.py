"""Warnings point at the user's own line."""

from __future__ import annotations

from types import FunctionType

from memshare_jupyter.apply._users_line import users_line


def call_it():
    return users_line()


def run_line_magic():
    return call_it()


def test_between_a_magics_line_and_this_package_nothing_is_the_users():
    ours = {"__name__": "memshare_jupyter.magics._applying", "users_line": users_line}
    theirs = {"__name__": "IPython.core", "call_it": FunctionType(call_it.__code__, ours)}
    magic = FunctionType(run_line_magic.__code__, theirs)
    line = magic()
    assert (line.filename, line.module) == (__file__, __name__)
    here = test_between_a_magics_line_and_this_package_nothing_is_the_users.__code__
    assert line.lineno == here.co_firstlineno + 4
    assert line.registry is globals()["__warningregistry__"]
