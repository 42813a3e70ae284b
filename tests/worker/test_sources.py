"""Functions on their way to engines: which file they say they are from, and what goes along."""

from __future__ import annotations

import linecache
import pickle
import traceback

import numpy as np
import pandas as pd
import pytest

from memshare_jupyter.worker import _sources as sources

CELL = """
def helper(x):
    return x / zero  # helper's line

def outer():
    def inner(x):
        return helper(x)  # inner's line
    return inner

class Model:
    def predict(self, x):
        return (lambda y: helper(y))(x)  # lambda's line

zero = 0
inner = outer()
predict = Model().predict
"""


@pytest.fixture
def cell():
    """Run source as a cell of a notebook; what it defined. Its source is forgotten afterwards."""
    names = []

    def run(source, name="/tmp/ipykernel_1/2.py"):  # noqa: S108 -- there is no such file
        names.append(name)
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        defined = {"__name__": "__main__"}
        exec(compile(source, name, "exec"), defined)  # noqa: S102 -- as a notebook does
        return defined

    yield run
    for name in names:
        linecache.cache.pop(name, None)


def arrived(pickled):
    """Return what was sent to a process that has none of the caller's sources."""
    linecache.clearcache()
    return pickle.loads(pickled)


def failure_of(fun):
    with pytest.raises(ZeroDivisionError) as caught:
        fun(1)
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("name", "line"), [("inner", "inner's"), ("predict", "lambda's")])
def test_a_traceback_shows_all_lines_of_a_cell_where_the_cell_is_not_known(cell, name, line):
    shown = failure_of(arrived(sources.dumps(cell(CELL)[name])))
    assert f"# {line} line" in shown
    assert "# helper's line" in shown
    assert 'File "/tmp/ipykernel_1/2.py", line 3, in helper' in shown


def test_the_source_of_a_cell_is_sent_once(cell):
    defined = cell(CELL)
    sent = sources.dumps([defined["inner"], defined["predict"]])
    assert sent.count(b"# helper's line") == 1


def test_a_later_cell_of_the_same_name_shows_its_own_lines(cell):
    for text in ("first", "second"):
        fun = cell(f"def fun(x): return x / 0  # {text}", "<string>")["fun"]
        assert f"# {text}" in failure_of(arrived(sources.dumps(fun)))


def test_the_source_of_a_file_that_is_there_is_not_sent():
    def fun(x):
        return x / 0  # this line

    sent = sources.dumps(fun)
    assert b"# this line" not in sent
    assert "# this line" in failure_of(arrived(sent))


def test_what_cannot_be_read_anywhere_is_sent_without_source(cell):
    fun = cell("def fun(x): return x / 0", "<nowhere>")["fun"]
    linecache.clearcache()
    assert 'File "<nowhere>", line 1, in fun' in failure_of(arrived(sources.dumps(fun)))


@pytest.mark.parametrize("fun", [np.std, pd.DataFrame.mean, len])
def test_what_is_installed_goes_by_its_name_alone(fun):
    assert len(sources.dumps(fun)) < 200
