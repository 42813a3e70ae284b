"""%memshare in a real shell: share, look, attach, let go."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from IPython.core.error import UsageError

import memshare_jupyter as ms


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
    assert "with a copy each" in text


def test_register_and_info_tell_what_of_a_value_is_not_shared(rna):
    rna("notes = {'text': bytes(3_000_000)}")
    text = repr(rna("%memshare register rna notes X"))
    assert "rna.notes: 3.0 MB of it not shared" in text
    assert "rna.X: " not in text
    assert "3.0 MB of it not shared" in repr(rna("%memshare info rna.notes"))
    assert "not shared" not in repr(rna("%memshare info rna.X"))


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
    assert rna("type(X).__name__, float(X.sum())") == ("View", 66.0)
    assert sorted(ms.view_list()) == ["rna.X", "rna.y"]
    rna("%memshare detach rna.X rna.y")


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


def test_detach_names_what_holds_the_arrays_and_how_to_end_it(rna):
    rna("%memshare attach rna.X\npart = X[:, 0]\nparts = [part]")
    said = repr(rna("%memshare detach rna.X"))
    assert "held by part (del part), parts (del parts)" in said
    rna("del part, parts")


def test_the_last_error_is_named_when_it_holds_an_array(rna):
    rna("%memshare attach rna.X\ndef f(a): a[0, 0] = 5")
    with pytest.raises(ValueError, match="read-only"):
        rna("f(X)")
    said = repr(rna("%memshare detach rna.X"))
    assert "the traceback of the last error" in said
    with pytest.raises(ZeroDivisionError):
        rna("1 / 0")
    gc.collect()
    assert ms.view_list() == []


def test_what_only_a_cycle_holds_is_let_go_by_detach(rna):
    rna("%memshare attach rna.X\nbox = [X[:, 0]]\nbox.append(box)\ndel box")
    assert repr(rna("%memshare detach rna.X")) == "detached rna.X"
    assert ms.view_list() == []


def test_release_of_a_namespace_says_gc(rna):
    with pytest.raises(UsageError, match=r"rna is a namespace.*%memshare gc rna"):
        rna("%memshare release rna")


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
    assert html.count("<tr>") == 4  # the headings, the namespace and two pages
    assert "rna.X" in html


def test_an_empty_list_says_how_to_share_something(run):
    assert "%%memshare register NAME" in repr(run("%memshare"))
    assert "'rna' has no pages" in repr(run("%memshare list rna"))


def test_names_are_escaped_in_html(run):
    with ms.Namespace("<b>&") as namespace:
        namespace["X"] = np.zeros(1)
        assert "&lt;b&gt;&amp;.X" in run("%memshare")._repr_html_()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%memshare lst", "has no subcommand 'lst'; did you mean list?"),
        ("%memshare nothing", "it has: list, info, register"),
        ("%memshare register", "say in which namespace"),
        ("%memshare register rna", "name the variables to register"),
        ("%memshare register rna nope", "no variable 'nope' in this notebook; assign it first"),
        ("%memshare register rna Y", "no variable 'Y' in this notebook; did you mean y?"),
        ("%memshare register rna np.pi", "no variable 'np.pi' in this notebook"),
        ("%memshare register a/b X", "contains a slash"),
        ("%%memshare register a/b\nX = 1", "contains a slash"),
        ("%memshare register rna X --dtype float31", "'float31' is no dtype"),
        ("%memshare register rna X --writeable", "did you mean --writable?"),
        ("%memshare register rna X --order Z", "invalid choice: 'Z'"),
        ("%memshare attach nope", "write namespace.variable"),
        ("%memshare attach rna.nope", "namespace 'rna' has: X, y"),
        ("%memshare attach rna.x", "did you mean X?"),
        ("%memshare attach rnaa.X", "did you mean rna?"),
        ("%memshare attach rna.X rna.y --as Z", "--as names one page"),
        ("%memshare attach rna.X --as 1", "'1' is no Python name"),
        ("%memshare attach rna.X --mode r+", "was registered for reading"),
        ("%memshare detach rna.X", "this process has no view of rna.X"),
        ("%memshare release rna.nope", "no page rna.nope"),
        ("%memshare release 'rna.X", "a quote is not closed"),
        ("%memshare list rnaa", ""),
        ("%memshare cluster y", "y is a ndarray; %memshare cluster takes start"),
        ("%memshare cluster status 3", "a number of engines goes with start"),
        ("%%memshare list\nx = 1", "only register takes a cell"),
    ],
)
def test_what_the_user_can_mend_is_one_line_without_a_traceback(rna, capsys, line, says):
    before = ms.snapshot()
    if not says:
        assert "has no pages; did you mean rna?" in repr(rna(line))
        return
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the type is checked below
        rna(line)
    assert caught.typename == "UsageError"
    assert says in str(caught.value)
    assert "Traceback" not in "".join(capsys.readouterr())
    assert ms.snapshot() == before


@pytest.mark.parametrize("line", ["%memshare --help", "%memshare attach --help", "%memapply -h"])
def test_help_prints_and_does_nothing_else(rna, capsys, line):
    before = ms.snapshot()
    assert rna(line) is None
    assert line.split()[0].lstrip("%") in capsys.readouterr().out
    assert ms.snapshot() == before


def test_the_doctor_reports_here_too(run, capsys):
    assert run("%memshare doctor") is None
    assert "memfd" in capsys.readouterr().out


def test_register_counts_what_time_and_blocks_assign(run):
    run(
        "%%memshare register rna\n%time A = np.ones(2)\n"
        "if True:\n    B = np.ones(3)\nfor row in np.eye(2):\n    C = row\n"
        "def f():\n    D = np.ones(4)\nf()"
    )
    assert ms.page_list() == ["rna.A", "rna.B", "rna.C"]


def test_register_may_convert_and_share_for_writing(rna):
    rna("%memshare register rna X --order F --dtype float32 --writable")
    page = ms.retrieve_metadata("rna", "X")["X"]
    assert (page.dtype, page.order, page.writable) == ("float32", "F", True)
    rna("%memshare attach rna.X --mode r+\nX[0, 0] = 7")
    assert ms.Namespace("rna")["X"][0, 0] == 7
    assert "r+" in repr(rna("%memshare"))
    rna("%memshare detach rna.X")


def test_conversion_leaves_text_alone_and_refuses_what_is_no_array(run):
    run("names = np.array(['a', 'b'])\n%memshare register rna names --dtype float32")
    assert ms.retrieve_metadata("rna", "names")["names"].dtype == "<U1"
    with pytest.raises(Exception, match="--order and --dtype are for arrays; parts is a list"):
        run("parts = [np.ones(2)]\n%memshare register rna parts --order F")


def test_replace_leaves_only_the_shared_copy(run, capsys):
    run("%%memshare register rna\nX = np.ones((2, 3))\nparts = [np.ones(2)]")
    assert "X, parts here are second copies" in capsys.readouterr().out
    run("%%memshare register rna --replace\nX = np.ones((2, 3))\nparts = [np.ones(2)]")
    assert "second cop" not in capsys.readouterr().out
    assert run("type(X).__name__, type(parts[0]).__name__") == ("View", "View")
    run("del X, parts")
    gc.collect()
    assert ms.view_list() == []


def test_frames_are_shared_and_attached_as_frames(run):
    run("import pandas as pd")
    run("%%memshare register rna --replace\nframe = pd.DataFrame({'a': [1.0, 2.0], 'b': [3, 4]})")
    run("%memshare attach rna.frame --as other")
    assert run("type(other).__name__, float(other['a'].sum())") == ("DataFrame", 3.0)
    assert "pandas.DataFrame" in repr(run("%memshare list rna"))
    assert "detached rna.frame" in repr(run("%memshare detach other"))
    assert "other" not in run("list(globals())")


def test_pages_of_one_variable_need_different_names(rna):
    rna("%memshare register atac X")
    with pytest.raises(Exception, match=r"rna\.X and atac\.X cannot both be X"):
        rna("%memshare attach rna.X atac.X")
    assert ms.view_list() == []
    rna("%memshare attach atac.X --as peaks")
    assert rna("peaks.page") == "atac.X"
    rna("%memshare detach peaks")
    assert ms.view_list() == []


def test_attaching_several_is_all_or_nothing(rna):
    with pytest.raises(Exception, match=r"no page rna\.nope"):
        rna("%memshare attach rna.X rna.nope")
    assert ms.view_list() == []


def test_a_view_of_what_was_registered_again_keeps_the_old_values(rna):
    rna("%memshare attach rna.X --as old")
    rna("X = X + 1\n%memshare register rna X")
    assert rna("float(old[0, 0]), float(X[0, 0])") == (0.0, 1.0)
    rna("%memshare attach rna.X --as old")
    assert rna("float(old[0, 0])") == 1.0
    rna("%memshare detach rna.X")


def test_detaching_leaves_what_was_made_of_a_view(rna):
    rna("%memshare attach rna.X\npart = X[:, 0]")
    rna("%memshare detach rna.X")
    names = rna("list(globals())")
    assert "part" in names
    assert "X" not in names
    rna("del part")


def test_info_tells_who_holds_a_page_and_takes_no_view(rna, child):
    viewer = child("X = ms.retrieve_views('rna', 'X')['X']")
    text = repr(rna("%memshare info rna.X"))
    assert "this ipython" in text
    assert str(viewer.pid) in text
    assert "rna.X: array 3 × 4 float64 C 96 B, read-only for viewers, active" in text
    assert ms.view_list() == []


def test_list_mine_shows_what_this_process_has(rna, child):
    child("ms.register_variables('theirs', {'Z': np.ones(2)})")
    assert "theirs.Z" in repr(rna("%memshare list"))
    mine = repr(rna("%memshare list --mine"))
    assert "rna.X" in mine
    assert "theirs.Z" not in mine
    rna("%memshare attach theirs.Z")
    assert "theirs.Z" in repr(rna("%memshare list --mine"))
    rna("%memshare detach theirs.Z")


def test_release_says_whether_the_memory_is_free(rna, child):
    child(
        "y = ms.retrieve_views('rna', 'y')['y']\n"
        "ms.core.registry._process.registry().label('engine 3')"
    )
    said = repr(rna("%memshare release rna.X rna.y"))
    assert "released rna.X; its memory is free\n" in said
    assert "released rna.y; its memory is free when the last view is gone (engine 3)" in said


def test_gc_lets_go_of_one_namespace_or_only_says_so(rna):
    rna("%memshare register other X\n%memshare attach rna.y")
    said = repr(rna("%memshare gc rna --dry-run"))
    assert said == "would let go here: rna.X, rna.y"
    assert ms.page_list() == ["other.X", "rna.X", "rna.y"]
    assert "let go here: rna.X, rna.y" in repr(rna("%memshare gc rna"))
    assert ms.page_list() == ["other.X"]
    rna("del y")
    assert repr(rna("%memshare gc")) == "let go here: other.X"
    assert repr(rna("%memshare gc")) == "let go: nothing"


def test_the_table_fits_a_terminal_and_long_kinds_are_cut(run):
    run("import pandas as pd")
    run("frame = pd.DataFrame(np.ones((10, 4)))\nX = np.empty((10_446, 1_963), dtype='f4,i8,f8')")
    run("%memshare register expression frame X")
    lines = repr(run("%memshare list expression")).splitlines()
    assert max(map(len, lines)) <= 120


def test_a_line_may_end_with_a_comment_and_quote_names_with_blanks(rna):
    rna("%memshare register 'my study' X   # of 2024")
    assert "my study.X" in ms.page_list()
    assert "my study.X" in repr(rna("%memshare list 'my study'   # only this one"))
    rna("%memshare release 'my study.X'")


def test_quiet_shows_nothing_at_all(run, capsys):
    assert run("%%memshare register rna -q\nX = np.ones(3)") is None
    for line in ("attach rna.X", "detach rna.X", "release rna.X", "gc", "cluster"):
        assert run(f"%memshare {line} --quiet") is None
    assert "".join(capsys.readouterr()) == ""


def test_a_namespace_can_be_set_for_good(rna, shell):
    rna("%config MemshareMagics.namespace = 'rna'")
    try:
        rna("%%memshare register\nZ = np.ones(4)")
        assert "rna.Z" in ms.page_list()
        assert "rna.Z" in repr(rna("%memshare info Z"))
        rna("del Z\n%memshare attach Z")
        assert rna("Z.page") == "rna.Z"
        rna("%memshare detach Z\n%memshare release Z")
    finally:
        rna("%config MemshareMagics.namespace = ''")


def test_configuration_holds_for_a_shell_that_loads_the_magics(rna, shell):
    from traitlets.config import Config

    shell.config.merge(Config({"MemshareMagics": {"namespace": "rna"}}))
    try:
        rna("%unload_ext memshare_jupyter\n%load_ext memshare_jupyter")
        rna("%%memshare register\nX = np.ones(2)")
        assert ms.page_list() == ["rna.X"]
    finally:
        del shell.config.MemshareMagics
        rna("%unload_ext memshare_jupyter\n%load_ext memshare_jupyter")


def test_the_panel_is_that_of_the_namespace(rna, monkeypatch):
    from memshare_jupyter import panel

    monkeypatch.setattr(panel, "Panel", lambda namespace: ("panel of", namespace), raising=False)
    assert rna("%memshare panel rna") == ("panel of", "rna")
    assert rna("%memshare panel") == ("panel of", None)


def test_loading_twice_is_harmless_and_unloading_takes_everything_away(rna, shell):
    load, unload = ms.load_ipython_extension, ms.unload_ipython_extension
    load(shell)
    load(shell)
    assert len([c for c in shell.configurables if type(c).__name__ == "MemshareMagics"]) == 1
    rna("%memshare attach rna.X")
    unload(shell)
    unload(shell)
    assert ms.page_list() == []
    with pytest.raises(Exception, match=r"%memshare. not found"):
        rna("%memshare")
    assert [c for c in shell.configurables if type(c).__name__ == "MemshareMagics"] == []
    assert shell.Completer.custom_matchers == []
    assert len(shell.input_transformer_manager.line_transforms) == 1
    assert float(rna("X.sum()")) == 66  # views that variables use stay valid
    rna("del X\n%reset -f out")
    gc.collect()
    assert ms.snapshot().pages == ()
    load(shell)
    assert "nothing is shared" in repr(rna("%memshare"))


def test_unloading_closes_panels(rna, shell):
    from memshare_jupyter import Panel

    panel = Panel("rna")
    ms.unload_ipython_extension(shell)
    assert panel.comm is None
    ms.load_ipython_extension(shell)


def test_autoreload_and_the_magics_get_along(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fresh_module.py").write_text("import numpy as np\ndef make(): return np.ones(2)")
    run("%load_ext autoreload\n%autoreload 2\nimport fresh_module")
    run("%%memshare register rna\nX = fresh_module.make()")
    assert ms.retrieve_metadata("rna", "X")["X"].shape == (2,)
    (tmp_path / "fresh_module.py").write_text("import numpy as np\ndef make(): return np.ones(34)")
    run("%%memshare register rna\nX = fresh_module.make()")
    assert ms.retrieve_metadata("rna", "X")["X"].shape == (34,)
    run("%autoreload 0\n%unload_ext autoreload")
