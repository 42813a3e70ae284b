"""%memapply and %memlapply, and the engines of %memshare, in a real shell on real engines."""

from __future__ import annotations

import gc
import re

import numpy as np
import pytest
from IPython.core.error import UsageError

import memshare_jupyter as ms
from memshare_jupyter.engines.local import running_cluster


@pytest.fixture(scope="module", autouse=True)
def engines():
    if (before := running_cluster()) is not None:
        before.stop()  # its engines may have other numbers by now
    cluster = ms.local_cluster(2, quiet=True)
    yield cluster
    cluster.stop()


@pytest.fixture
def rna(run):
    run("%%memshare register rna X y -q\nX = np.arange(12.0).reshape(3, 4)\ny = np.arange(3)")
    return run


def test_memapply_applies_a_notebooks_function_to_a_page(rna):
    rna("def score(column, y): return float(column @ y)")
    rna("res = %memapply rna.X --fn score --margin cols --vars y")
    assert rna("res") == [20.0, 23.0, 26.0, 29.0]
    assert rna("total = np.sum\n%memapply rna.X --fn total -m rows") == [6.0, 22.0, 38.0]


def test_vars_may_be_pages_named_in_full(rna):
    rna("def score(column, y): return float(column @ y)")
    ms.register_variables("other", {"y": np.array([0, 10, 20])})
    assert rna("%memapply rna.X --fn score --vars rna.y") == [20.0, 23.0, 26.0, 29.0]
    assert rna("%memapply rna.X --fn score --vars other.y")[0] == 200.0
    assert rna("%%memapply rna.X --item column --vars other.y\nfloat(column @ y)")[0] == 200.0
    ms.release_variables("other", "y")


@pytest.mark.parametrize(("number", "name"), [("1", "rows"), ("2", "cols")])
def test_the_margin_may_be_a_number_as_in_python_and_r(rna, number, name):
    assert rna(f"%memapply rna.X --fn np.sum --margin {number}") == rna(
        f"%memapply rna.X --fn np.sum --margin {name}"
    )


def test_an_expression_after_fn_is_told_where_it_goes(rna):
    with pytest.raises(UsageError, match=r"--fn takes the name.*%%memapply rna\.X, and below it"):
        rna("%memapply rna.X --fn lambda g, y: g @ y")
    with pytest.raises(UsageError, match=r"--fn takes the name.*%%memapply rna\.X, and below it"):
        rna("%memapply rna.X --fn 'lambda g: g.sum()'")


def test_a_cell_that_is_a_lambda_is_that_function(rna):
    assert rna("%%memapply rna.X\nlambda gene: float(gene[0])") == [0.0, 1.0, 2.0, 3.0]
    assert (
        rna("%%memapply rna.X --vars y\ntwo = 2\nlambda g, y: float(two * y[0])")
        == [float(2 * rna("y[0]"))] * 4
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%memapply rna.X spread", r"the function is named by --fn spread"),
        ("%memapply rna.X --fn np.sum --vars a,b", r"with blanks between them: a b"),
        ("%memapply rna.{name} --fn np.sum", r"mean nothing in this line: in a loop, call the"),
        (
            "%memapply rna.X --fn np.sum --max-cores 0",
            r"max-cores: must be a whole number of at least 1, not 0",
        ),
        ("%memapply rna.X --fn np.sum --max-cores many", r"a whole number of at least 1, not many"),
        ("%memapply rna.X --fn np.sum --seed 1", r"takes no argument rng, by which seed="),
        ("%memshare attach rna", r"rna is a namespace: it has X, y"),
        ("%memshare info X1", r"'X1' is not a page; write namespace"),
        ("%memshare register y", r"%memshare register y X.*; y stands for the namespace here"),
    ],
)
def test_what_people_type_first_is_told_in_one_line_how_it_is_typed(rna, line, said):
    if "--seed" in line:
        rna("def total(column): return column.sum()")
        line = line.replace("np.sum", "total")
    with pytest.raises(UsageError, match=said):
        rna(line)


def test_names_with_commas_and_braces_are_names(rna):
    rna("import memshare_jupyter as ms\nms.register_variables('lab', {'a,b': y, 'c{': X})")
    rna("def spread(column, **others): return sorted(others)")
    assert rna("%memapply rna.X --fn spread --vars 'lab.a,b'")[0] == ["a,b"]
    with pytest.raises(UsageError) as refused:
        rna("%memapply lab.d --fn np.sum")
    assert "in a loop" not in str(refused.value)
    rna("ms.release_variables('lab', ['a,b', 'c{'])")


def test_a_variable_that_is_a_page_somewhere_is_not_guessed_but_named(rna):
    rna("ms = __import__('memshare_jupyter')\nms.register_variables('lab', {'only': [1, 2]})")
    with pytest.raises(UsageError, match=r"did you mean lab\.only\?"):
        rna("%memshare attach only")
    rna("ms.release_variables('lab', 'only')")


def test_memapply_takes_the_notebooks_arrays_as_well(rna):
    rna("%memshare release rna.X rna.y")
    rna("score = lambda column, y: float(column @ y)")
    assert rna("%memapply X --fn score --vars y") == [20.0, 23.0, 26.0, 29.0]
    gc.collect()
    assert (ms.page_list(), ms.view_list()) == ([], [])


def test_a_seed_gives_the_function_a_generator_also_in_a_cell(rna):
    rna("draw = lambda column, rng: int(rng.integers(10**9))")
    found = rna("%memapply rna.X --fn draw --seed 3")
    assert len(set(found)) == 4
    rna("%%memapply rna.X --seed 3 -o again\nint(rng.integers(10**9))")
    assert rna("again") == found


def test_the_form_of_the_results_may_be_pandas(rna):
    rna("import pandas\nframe = pandas.DataFrame(X, columns=list('abcd'))")
    assert rna("%memapply frame --fn np.sum --out series").to_dict() == dict(
        zip("abcd", [12.0, 15.0, 18.0, 21.0], strict=True)
    )
    assert list(rna("%memapply frame --fn np.cumsum --out frame").columns) == list("abcd")


def test_a_list_on_a_page_is_not_shared_a_second_time(rna, eventually):
    rna("%%memshare register rna parts -q\nparts = [np.ones(2), np.zeros(3)]")
    # An engine that did no item of a call before may be at its end still: it had pandas to import.
    eventually(lambda: {p.name for p in ms.snapshot().pages} == {"rna.X", "rna.y", "rna.parts"})
    rna("del parts\nw = 1.0\nimport memshare_jupyter as ms")
    rna("def pages(column, parts, w): return [p.name for p in ms.snapshot().pages]")
    found = rna("%memapply rna.X --fn pages --vars parts w")
    # A page for w, for as long as the call takes.
    assert {name for names in found for name in names} == {"rna.X", "rna.y", "rna.parts", "rna.w"}


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
    assert "cell failed at index 2" in shown
    assert "memshare_jupyter/" not in shown


def test_an_error_shows_the_lines_of_functions_of_other_cells(rna, capsys):
    rna("def log_of(gene):\n    return gene / nothing  # another cell's line")
    with pytest.raises(ms.MemApplyError):
        rna("%%memapply rna.X\nlog_of(v)")
    shown = "".join(capsys.readouterr())
    assert "# another cell's line" in shown
    assert "log_of(v)" in shown


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%memapply", "arguments are required: X"),
        ("%memapply rna.X", "say which function"),
        ("%memapply rna.X --fn nope", "no variable 'nope'"),
        ("%memapply rna.X --fn y", "y is no function, but a ndarray"),
        ("%memapply rna.X --fn np.sdt", "no 'sdt' there; did you mean std?"),
        ("%memapply nope --fn sum", "no variable 'nope' in this notebook; a page is written"),
        ("%memapply rna.nope --fn sum", "no page rna.nope (namespace 'rna' has: X, y)"),
        ("%memapply rna.X --fn sum --vars nope", "no page rna.nope"),
        ("%memapply rna.X --fn sum --margin diagonal", "invalid choice: 'diagonal'"),
        ("%memapply rna.X --fn score --vars y", "cannot be applied with y from vars"),
        ("%memapply rna.y --fn sum", "works on a matrix of two dimensions"),
        ("%memlapply rna.X --fn sum", "works on a list of arrays"),
        ("%memapply rna.X --fn sum --out res", "to store the results in the notebook: -o res"),
        ("%memapply rna.X --fn sum --targets 0,7", "there is no engine 7; there are 0, 1"),
        ("%memapply rna.X --fn sum --targets 5:9", "no engine is in 5:9; there are 0, 1"),
        ("%memapply rna.X --fn sum --targets first", "engines are written all, 0,2 or 1:3"),
        ("%memapply rna.X --fn sum --cluster y", "cluster must be an ipyparallel Client"),
        ("%memapply rna.X --fn sum -o 1", "'1' is no Python name"),
        ("%%memapply rna.X --fn sum\nv", "say which function"),
        ("%%memapply rna.X\nx = 1", "must define exactly one function"),
        ("%%memapply rna.X\nx = = 1", "line 1 of the cell"),
        ("%%memapply rna.X\nawait v", "line 1 of the cell: 'await' outside async function"),
        ("%%memapply rna.X --vars y --item y\ny", "'y' cannot be the name of one argument"),
        ("%%memapply rna.X --item 1st\n1", "'1st' cannot be the name"),
        ("%memshare attach rna.X --engines 9", "there is no engine 9"),
        ("%memshare detach rna.X --engines", "engine 0: this process has no view of rna.X"),
    ],
)
def test_what_the_user_can_mend_is_one_line_without_a_traceback(rna, capsys, line, says):
    rna("def score(column): return 1")
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the type is checked below
        rna(line)
    assert caught.typename == "UsageError"
    assert says in str(caught.value)
    assert "Traceback" not in "".join(capsys.readouterr())
    assert sorted(ms.page_list()) == ["rna.X", "rna.y"]
    if ms.view_list():
        gc.collect()
    assert ms.view_list() == []


def test_results_come_as_an_array_or_as_a_page(rna):
    array = rna("%memapply rna.X --fn np.sum --out array")
    assert isinstance(array, np.ndarray)
    assert array.tolist() == [12.0, 15.0, 18.0, 21.0]
    rna("%memapply rna.X --fn np.sum --out rna.sums -o sums")
    assert rna("sums.page") == "rna.sums"
    assert "rna.sums" in ms.page_list()
    del array


def test_an_error_takes_the_place_of_a_result(rna):
    rna("%%memapply rna.X --on-error return -o res\nassert v[0] != 2, 'bad gene'\nfloat(v[0])")
    first, second, third, fourth = rna("res")
    assert (first, second, fourth) == (0.0, 1.0, 3.0)
    assert isinstance(third, Exception)
    assert "bad gene" in str(third)


def test_noblock_returns_a_future(rna):
    rna("%memapply rna.X --fn np.sum --noblock -o run")
    run = rna("run")
    assert run.result(timeout=60) == [12.0, 15.0, 18.0, 21.0]
    assert (run.progress, run.total) == (4, 4)


def test_targets_choose_engines(rna, engines):
    engines.client.activate()  # its %%px: the shell came later than the client
    rna("%%memapply rna.X -m rows --targets 1 -o where\nimport os\nos.getpid()")
    rna("%%px --targets 1\nimport os\npid = os.getpid()")
    assert set(rna("where")) == {
        rna("get_ipython().magics_manager.magics['cell']['px'].__self__.view.client[1]['pid']")
    }


def test_frames_are_applied_to_by_column(run):
    run("import pandas as pd\nframe = pd.DataFrame({'a': [1.0, 2.0], 'b': [3.0, 5.0]})")
    assert run("%memapply frame --fn np.sum") == [3.0, 8.0]


def test_a_list_or_frame_among_the_vars_is_found_by_name(rna):
    rna("parts = [np.ones(1), np.ones(2)]\n%memshare register rna parts")
    rna("def score(column, parts, y): return len(parts[1]) + float(column @ y)")
    assert rna("%memapply rna.X --fn score --vars parts y") == [22.0, 25.0, 28.0, 31.0]
    rna("%memshare release rna.parts")  # now it is a variable of the notebook
    assert rna("%memapply rna.X --fn score --vars parts y") == [22.0, 25.0, 28.0, 31.0]


def test_views_go_into_the_engines_for_px_and_out_again(rna, capsys):
    assert "X, y are views on engines 0, 1 now" in repr(
        rna("%memshare attach rna.X rna.y --engines")
    )
    rna("%%px\nprint('sum', float(X.sum()))")
    assert capsys.readouterr().out.count("sum 66.0") == 2
    holders = [h.label for h in ms.retrieve_metadata("rna", "X")["X"].holders]
    assert sorted(holders) == ["engine 0", "engine 1", "ipython"]
    rna("%memshare detach rna.X --engines 1")
    assert ms.retrieve_metadata("rna", "X")["X"].views == 1
    # An engine that has none is no error as long as another has one.
    assert "detached rna.X on engine 0" in repr(rna("%memshare detach rna.X --engines"))
    rna("%memshare detach rna.y --engines")
    assert ms.retrieve_metadata("rna", "X")["X"].views == 0
    rna("%%px\nprint('X' in globals())")
    assert capsys.readouterr().out.count("False") == 2


def test_gc_reaches_the_engines(rna):
    rna("%memshare attach rna.X --engines")
    said = repr(rna("%memshare gc rna --engines --dry-run"))
    assert "would let go engine 1: rna.X" in said
    assert ms.retrieve_metadata("rna", "X")["X"].views == 2
    rna("%%px\ndel X")
    rna("%memshare gc rna --engines")
    assert ms.snapshot().pages == ()


def test_a_cluster_of_the_notebook_can_be_adopted_and_let_go(rna, engines):
    rna("import memshare_jupyter\nrc = memshare_jupyter.local_cluster().client\nhalf = rc[[1]]")
    assert "the magics use half: 1 engine (1)" in repr(rna("%memshare cluster half"))
    rna("%memapply rna.X --fn np.sum -o res --noblock")
    assert rna("res").engines == (1,)
    assert rna("res").result(60) == [12.0, 15.0, 18.0, 21.0]
    # The functions use it, too, and README's cells are such.
    function = "memshare_jupyter.memapply('rna.X', 'cols', np.sum, block=False)"
    assert rna(f"run = {function}\nrun.result(60)\nrun.engines") == (1,)
    assert "half is no longer used" in repr(rna("%memshare cluster stop"))
    assert "the magics use the local cluster: 2 engines (0, 1)" in repr(rna("%memshare cluster"))
    assert rna(f"run = {function}\nrun.result(60)\nrun.engines") == (0, 1)
    assert engines.running


def test_a_bare_name_is_a_page_of_the_namespace_that_is_set(rna):
    rna("del X\n%config MemshareMagics.namespace = 'rna'")
    try:
        assert rna("%memapply X --fn np.sum") == [12.0, 15.0, 18.0, 21.0]
        rna("other = np.eye(2)\ndef score(column, y): return float(y[1])")
        assert rna("%memapply other --fn score --vars y") == [1.0, 1.0]
    finally:
        rna("%config MemshareMagics.namespace = ''")


def test_quiet_shows_nothing_but_the_result(rna, capsys):
    assert rna("res = %memapply rna.X --fn np.sum -q\nlen(res)") == 4
    assert re.fullmatch(r"Out\[\d\]: 4", capsys.readouterr().out.strip())
    assert capsys.readouterr().err == ""


def test_engines_get_a_function_as_autoreload_has_it_now(rna, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "edited_module.py"
    module.write_text("def score(v): return helper(v)\ndef helper(v): return 1\n")
    rna("%load_ext autoreload\n%autoreload 2\nimport edited_module")
    try:
        assert rna("%memapply rna.X --fn edited_module.score") == [1, 1, 1, 1]
        module.write_text("def score(v): return helper(v)\ndef helper(v): return 22222\n")
        assert rna("%memapply rna.X --fn edited_module.score") == [22222] * 4
        rna("run = %memapply rna.X --fn edited_module.score --noblock")
        assert rna("run.result(60)") == [22222] * 4
    finally:
        rna("%autoreload 0\n%unload_ext autoreload")


def test_without_a_notebook_the_start_of_a_cluster_is_told_beside_the_output(rna, engines, capsys):
    engines.stop()
    assert rna("%memapply rna.X --fn np.sum --max-cores 1") == [12.0, 15.0, 18.0, 21.0]
    said = capsys.readouterr()
    assert said.err.startswith("starting a local cluster of 1 engine ... ")
    assert "starting" not in said.out
    rna("%memshare cluster stop -q")
