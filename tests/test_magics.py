"""The magics in a real shell, on real engines."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import memshare_jupyter as ms


class Shell(InteractiveShell):
    """A shell without history that hands over what a cell returns or raises."""

    def cell(self, source: str):
        result = self.run_cell(source)
        result.raise_error()
        return result.result


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    ms.local_cluster(2, quiet=True)
    config = Config()
    config.HistoryManager.enabled = False
    config.BaseIPythonApplication.ipython_dir = str(tmp_path_factory.mktemp("ipython"))
    config.InteractiveShell.colors = "nocolor"
    InteractiveShell.clear_instance()
    main = sys.modules["__main__"]  # a shell puts a module of its own there, for good
    made = Shell.instance(config=config, ipython_dir=str(tmp_path_factory.mktemp("ipython")))
    made.cell("%load_ext memshare_jupyter")
    yield made
    made.cell("%unload_ext memshare_jupyter")
    Shell.clear_instance()
    sys.modules["__main__"] = main
    ms.local_cluster().stop()


@pytest.fixture
def run(shell):
    shell.cell("import numpy as np")
    yield shell.cell
    shell.reset(new_session=False)
    gc.collect()
    ms.memshare_gc("rna")


@pytest.fixture
def rna(run):
    run("%%memshare register rna X y\nX = np.arange(12.0).reshape(3, 4)\ny = np.arange(3)")
    return run


def test_register_runs_the_cell_and_shares_what_it_assigns(run, capsys):
    run("%%memshare register rna\nX = np.eye(3)\ny: int = 5\nprint('ran')\n_t = X\nX.sum()")
    out = capsys.readouterr().out
    assert "ran" in out
    assert "3.0" in out  # the last expression is displayed, as without the magic
    assert ms.page_list() == ["rna.X"]
    assert "left alone: y (int)" in out
    assert run("y") == 5


def test_register_tells_sizes_and_what_copies_would_cost(rna):
    text = repr(rna("%memshare register rna X"))
    assert "float64" in text
    assert "3 × 4" in text
    assert "96 B shared once" in text
    assert "would take 288 B" in text


def test_registering_again_replaces(rna):
    old = ms.Namespace("rna")["X"]
    rna("%%memshare register rna X\nX = np.zeros(2)")
    assert ms.Namespace("rna")["X"].shape == (2,)
    assert old.shape == (3, 4)


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("%%memshare register rna\nX = np.eye(2)\n1 / 0", ZeroDivisionError),
        ("%%memshare register rna\nX = = 2", "UsageError"),
    ],
)
def test_nothing_is_registered_when_the_cell_fails(run, capsys, cell, error):
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- which one is checked below
        run(cell)
    assert caught.type is error or caught.typename == error
    assert ms.page_list() == []
    shown = "".join(capsys.readouterr())
    assert shown.count("the cell failed, so nothing was registered") == 1
    assert shown.count("Traceback (most recent call last)") <= 1


def test_a_cell_without_an_array_is_an_error_that_says_what_to_do(run, capsys):
    with pytest.raises(Exception, match="assign one, or name the variables"):
        run("%%memshare register rna\nk = 3")


def test_attach_puts_a_view_under_the_variables_name(rna):
    rna("del X, y")
    rna("%memshare attach rna.X rna.y")
    X = rna("X")
    assert isinstance(X, ms.View)
    assert X.sum() == 66
    assert sorted(ms.view_list()) == ["rna.X", "rna.y"]


def test_detach_removes_the_name_and_ends_the_view(rna):
    rna("del X\n%memshare attach rna.X")
    table = rna("%memshare detach rna.X")
    assert ms.view_list() == []
    assert "X" not in rna("list(globals())")
    assert "detached rna.X" in repr(table)


def test_detach_says_when_arrays_still_use_the_memory(rna):
    rna("%memshare attach rna.X\npart = X[:, 0]")
    assert "arrays still use rna.X" in repr(rna("%memshare detach rna.X"))
    assert rna("part.sum()") == 12
    rna("del part")
    gc.collect()
    assert ms.view_list() == []


def test_release_frees_the_name(rna):
    rna("%memshare release rna.X")
    assert ms.page_list() == ["rna.y"]


def test_list_shows_every_page_as_text_and_html(rna):
    table = rna("%memshare list rna")
    assert repr(table) == repr(rna("%memshare"))
    text = repr(table)
    headings = "page kind shape dtype order size owner views handles mode age state"
    assert " ".join(text.split("\n")[0].split()) == headings
    assert "rna.X" in text
    assert "2 pages in 1 namespace, 120 B shared" in text
    html = table._repr_html_()
    assert html.count("<tr>") == 3
    assert "rna.X" in html


def test_an_empty_list_says_how_to_share_something(run):
    assert "%%memshare register NAME" in repr(run("%memshare"))
    assert "'rna' has no pages" in repr(run("%memshare list rna"))


def test_names_are_escaped_in_html(run):
    with ms.Namespace("<b>&") as namespace:
        namespace["X"] = np.zeros(1)
        assert "&lt;b&gt;&amp;.X" in run("%memshare")._repr_html_()


def test_memapply_applies_a_notebooks_function_to_a_page(rna):
    rna("def score(column, y): return float(column @ y)")
    rna("res = %memapply rna.X --fn score --margin cols --vars y")
    assert rna("res") == [20.0, 23.0, 26.0, 29.0]
    assert rna("total = np.sum\n%memapply rna.X --fn total -m rows") == [6.0, 22.0, 38.0]


def test_memapply_takes_the_notebooks_arrays_as_well(rna):
    rna("%memshare release rna.X rna.y")
    rna("score = lambda column, y: float(column @ y)")
    assert rna("%memapply X --fn score --vars y") == [20.0, 23.0, 26.0, 29.0]
    gc.collect()
    assert (ms.page_list(), ms.view_list()) == ([], [])


@pytest.mark.parametrize(
    "body",
    [
        "w = 2 * v\nfloat(w @ y) / 2",
        "def any_name(column, y):\n    return float(column @ y)",
        "import math\ndef f(column, y):\n    return math.fsum(column * y)",
    ],
    ids=["statements", "function", "function with an import"],
)
def test_a_cells_body_is_the_function(rna, body):
    assert rna(f"%%memapply rna.X --vars y -o res\n{body}") is None
    assert rna("res") == [20.0, 23.0, 26.0, 29.0]
    assert not {"w", "any_name", "f", "math"} & set(rna("list(globals())"))


def test_the_item_can_have_another_name(rna):
    assert rna("%%memapply rna.X --margin rows --item gene\ngene.max()") == [3.0, 7.0, 11.0]


def test_a_batch_of_columns_or_rows_is_a_matrix(rna):
    rna("def best(columns, y): return y @ columns")
    assert rna("%memapply rna.X --fn best --vars y --batch") == [20.0, 23.0, 26.0, 29.0]
    assert rna("%%memapply rna.X -m rows --batch\nv.max(axis=1)") == [3.0, 7.0, 11.0]


def test_memlapply_works_on_lists(run):
    run("parts = [np.arange(i) for i in range(4)]\n%memshare register rna parts")
    assert run("%%memlapply rna.parts\nint(el.sum())") == [0, 0, 1, 3]
    assert run("%memlapply parts --fn len") == [0, 1, 2, 3]


def test_views_taken_for_a_call_end_with_it(rna):
    rna("%%memapply rna.X --vars y -o res\nfloat(v @ y)")
    gc.collect()
    assert ms.view_list() == []


def test_an_error_of_the_function_shows_its_remote_traceback_once(rna, capsys):
    with pytest.raises(ms.MemApplyError) as caught:
        rna("%%memapply rna.X\nif v[0] == 2: raise ValueError('bad gene')\nv.sum()")
    assert caught.value.index == 2
    shown = "".join(capsys.readouterr())
    assert shown.count("if v[0] == 2: raise ValueError('bad gene')") == 1
    assert "fun failed at index 2" in shown
    assert "memshare_jupyter/" not in shown


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%memshare lst", "has no subcommand 'lst'; did you mean list?"),
        ("%memshare register", "say in which namespace"),
        ("%memshare register rna", "name the variables to register"),
        ("%memshare register rna nope", "no variable 'nope' in this notebook"),
        ("%memshare register a/b X", "contains a slash"),
        ("%memshare attach X", "write namespace.variable"),
        ("%memshare attach rna.nope", "namespace 'rna' has: X, y"),
        ("%memshare detach rna.X", "this process has no view of rna.X"),
        ("%memshare release rna.nope", "no page rna.nope"),
        ("%memapply", "arguments are required: X"),
        ("%memapply rna.X", "say which function"),
        ("%memapply rna.X --fn nope", "no variable 'nope'"),
        ("%memapply nope --fn sum", "no variable 'nope' in this notebook; a page is written"),
        ("%memapply rna.X --fn y --vars nope", "no page rna.nope"),
        ("%memapply rna.X --fn y --margin diagonal", "invalid choice: 'diagonal'"),
        ("%%memapply rna.X\nx = 1", "must define exactly one function"),
        ("%%memapply rna.X\nx = = 1", "line 1 of the cell"),
        ("%%memshare list\nx = 1", "only register takes a cell"),
    ],
)
def test_what_the_user_can_mend_is_one_line_without_a_traceback(rna, capsys, line, says):
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the type is checked below
        rna(line)
    assert caught.typename == "UsageError"
    assert says in str(caught.value)
    assert "Traceback" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("line", ["%memshare --help", "%memshare attach --help", "%memapply -h"])
def test_help_prints_and_does_nothing_else(rna, capsys, line):
    before = ms.snapshot()
    assert rna(line) is None
    assert line.split()[0].lstrip("%") in capsys.readouterr().out
    assert ms.snapshot() == before


def test_the_doctor_reports_here_too(run, capsys):
    assert run("%memshare doctor") is None
    assert "memfd" in capsys.readouterr().out


def test_loading_twice_is_harmless_and_unloading_takes_everything_away(rna):
    rna("%load_ext memshare_jupyter")
    rna("%memshare attach rna.X")
    rna("%unload_ext memshare_jupyter")
    assert ms.page_list() == []
    with pytest.raises(Exception, match=r"%memshare. not found"):
        rna("%memshare")
    rna("del X")
    gc.collect()
    assert ms.snapshot().pages == ()
    rna("%load_ext memshare_jupyter")
    assert "nothing is shared" in repr(rna("%memshare"))
