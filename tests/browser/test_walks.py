"""Three walks: a biologist with a frame, one who has ipyparallel, and one who comes from R."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import memshare_jupyter as ms

LOAD = "%load_ext memshare_jupyter\nimport numpy as np, pandas as pd, memshare_jupyter as ms"
FRAME = """
%%memshare register leukemia expr diagnosis --replace
table = pd.read_csv('leukemia.csv')
diagnosis = pd.Categorical(table.pop('diagnosis'))
expr = table
del table
"""
SCORE = """
def score(gene, diagnosis):
    groups = [gene[diagnosis.codes == code] for code in range(2)]
    return float(abs(groups[0].mean() - groups[1].mean()))
"""
SLOW = """
def slow(gene):
    import time
    time.sleep(0.1)
    return 0.0
"""
BUG = "def bad(gene, diagnosis): return gene[diagnosis.codes == 0].mean() / diagnosis.nope"


@pytest.fixture
def table(lab):
    """A file with 300 genes of 60 cases, of which five tell the diagnoses apart."""
    rng = np.random.default_rng(3)
    sick = np.arange(60) % 2
    genes = rng.normal(size=(60, 300))
    genes[:, 10:15] += 2.5 * sick[:, None]
    frame = pd.DataFrame(genes, columns=[f"ENSG{i:011}" for i in range(300)])
    frame["diagnosis"] = np.where(sick, "AML", "ALL")
    path = lab.root / "leukemia.csv"
    frame.to_csv(path, index=False)
    yield path
    path.unlink()


def test_from_a_file_to_ranked_genes(lab, opened, table):
    book = opened(lab, [LOAD, FRAME.strip(), "panel = ms.Panel('leukemia')\npanel", "", ""])
    assert book.run(0).strip() == ""
    said = book.run(1)
    assert "shared once" in said
    assert "second cop" not in said  # --replace
    book.run(2)
    book.has_pages("leukemia.diagnosis", "leukemia.expr")

    book.execute(3, SCORE)
    call = "ranked = %memapply leukemia.expr --fn score --vars leukemia.diagnosis --out series"
    said = book.execute(3, call + "\nranked.sort_values(ascending=False).head(5)")
    assert "starting a local cluster" in said or "done in" in said  # which takes its place
    assert book.cell(3).locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert set(re.findall(r"ENSG(\d+)", said)) == {f"{i:011}" for i in range(10, 15)}
    said = book.execute(3, "%memshare select leukemia.expr leukemia.diagnosis -k 5")
    assert set(re.findall(r"ENSG(\d+)", said)) == {f"{i:011}" for i in range(10, 15)}

    # Cancelled from the panel: one line.
    book.execute(3, SLOW)
    book.text(3, "%memapply leukemia.expr --fn slow")
    book.start(3)
    cancel = book.panel().get_by_role("button", name="Cancel slow over 300 columns")
    cancel.first.click()
    book.finished(3)
    error = book.cell(3).locator("[data-mime-type='application/vnd.jupyter.stderr']").inner_text()
    assert error.startswith("CancelledError: stopped slow over 300 columns of leukemia.expr after ")
    assert len(error.strip().splitlines()) == 1

    # An error: by the gene's name, and nothing of ours in the traceback.
    book.execute(3, BUG)
    said = book.execute(3, "%memapply leukemia.expr --fn bad --vars diagnosis")
    assert "bad failed at column 'ENSG" in said or "bad failed at index" in said
    assert "ENSG" in said
    assert "no attribute 'nope'" in said
    assert "memshare_jupyter/apply" not in said

    # Another notebook has the same memory, and keeps it when the first one is restarted.
    other = opened(lab, [LOAD, "", ""])
    other.run(0)
    said = other.execute(1, "%memshare attach leukemia.expr leukemia.diagnosis\nexpr.shape")
    assert book.name in other.execute(2, "%memshare")
    assert "(60, 300)" in said
    book.restart()
    book.is_("stale")
    book.page.wait_for_function(
        "() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
    )
    assert "(60,)" in other.execute(1, "expr.iloc[:, 0].shape")
    assert "orphaned" in other.execute(2, "%memshare")
    book.run(0)
    said = book.execute(3, "%memshare attach leukemia.expr\nexpr.shape")
    assert "(60, 300)" in said
    assert "owns leukemia.expr" in other.execute(2, "%memshare adopt leukemia.expr")
    (page,) = [page for page in ms.snapshot().pages if page.variable == "expr"]
    assert {holder.label for holder in page.holders} == {book.name, other.name}
    for one in (book, other):
        one.server.end_sessions(one.name)


def test_a_cluster_that_is_there_is_used_and_px_stays_with_it(lab, opened):
    cells = [LOAD, "import ipyparallel as ipp\nrc = ipp.Cluster(n=2).start_and_connect_sync()", ""]
    book = opened(lab, cells)
    book.run(0)
    try:
        book.start(1)
        book.finished(1, timeout_s=120)
        book.execute(2, "rc.activate()\n%px mine = 41")
        book.execute(2, "%%memshare register study X\nX = np.arange(40.0).reshape(8, 5)")
        said = book.execute(2, "def total(v): return float(v.sum())\n%memapply study.X --fn total")
        assert "the magics use" in said
        assert "starting" not in said
        assert "[140.0, 148.0, 156.0, 164.0, 172.0]" in said
        said = book.execute(2, "%memshare attach study.X --engines\n%px print(X.shape, mine + 1)")
        assert said.count("(8, 5) 42") == 2
        assert "loses" not in said
        # One that is asked for, and let go again: %%px is where it was.
        said = book.execute(2, "%memshare cluster start 1")
        assert "%%px runs there, too" in said
        assert "nope" in book.execute(2, "%px print(globals().get('mine', 'nope'))")
        assert "%%px runs where it ran before" in book.execute(2, "%memshare cluster stop")
        assert book.execute(2, "%px print(mine)").count("41") == 2
        # What it prints is seen, with the engine and the item.
        said = book.execute(2, "def loud(v): print('got', v[0])\n%memapply study.X --fn loud")
        assert len(re.findall(r"\[engine \d, item \d\] got \d", said)) == 5
        # A cluster that is stopped is an error, and no wait for ever.
        said = book.execute(2, "rc.cluster.stop_cluster_sync()\n%memapply study.X --fn total")
        assert "start a cluster again" in said or "connect a new client" in said  # by what is gone
    finally:
        book.execute(2, "rc.cluster.stop_cluster_sync() if rc.cluster.controller else None")
        book.server.end_sessions(book.name)


TWELVE = """
from memshare_jupyter import *
import numpy as np
mat, vec = np.arange(12.0).reshape(4, 3), np.arange(4.0)
register_variables("my_namespace", {"mat": mat, "vec": vec, "els": [mat, 2 * mat]})
print(1, page_list())
res = retrieve_views("my_namespace", ["mat", "vec"])
print(2, float(res["mat"].sum()), view_list())
about = retrieve_metadata("my_namespace", "mat")["mat"]
print(3, about.kind, about.shape, str(about.dtype))
print(4, memapply("mat", 2, lambda v, vec: float(v @ vec), "my_namespace", None, ["vec"]))
print(5, memapply(X=mat, margin="rows", fun=np.sum, max_cores=1))
print(6, memlapply("els", lambda el: float(el.sum()), "my_namespace"))
print(7, round(mutualinfo(np.repeat([0.0, 1.0], 50), np.repeat([0, 1], 50), y_discrete=True), 1))
del res
print(8, release_views("my_namespace", ["mat", "vec"]), view_list())
release_variables("my_namespace", ["vec"])
print(9, page_list())
print(10, memshare_gc("my_namespace")["here"])
print(11, page_list())
print(12, snapshot().pages)
"""


def test_the_functions_of_r_one_after_the_other(lab, opened):
    book = opened(lab, [TWELVE.strip(), "local_cluster(1, quiet=True).stop()"])
    said = book.run(0)
    lines = dict(re.findall(r"^(\d+) (.*)$", said, re.MULTILINE))
    assert lines["1"] == "['my_namespace.els', 'my_namespace.mat', 'my_namespace.vec']"
    assert lines["2"] == "66.0 ['my_namespace.mat', 'my_namespace.vec']"
    assert lines["3"] == "array (4, 3) float64"
    assert lines["4"] == "[42.0, 48.0, 54.0]"
    assert lines["5"].count("(") in (0, 4)  # numpy 2 says np.float64(3.0)
    assert lines["6"] == "[66.0, 132.0]"
    assert float(lines["7"]) > 0.5
    assert lines["8"].endswith("[]")
    assert lines["9"] == "['my_namespace.els', 'my_namespace.mat']"
    assert (lines["11"], lines["12"]) == ("[]", "()")
    assert "Error" not in said
    book.run(1)
