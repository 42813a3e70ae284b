"""The panel as the documentation shows it: 55 pages, two runs and an error, at three widths."""

from __future__ import annotations

import pytest

from tests.browser.test_look import THEMES, narrowed, theme, violations

CELLS = [
    """
import socket, threading
import numpy as np
import memshare_jupyter as ms
socket.gethostname = lambda: "workstation"  # pictures are for everybody
cluster = ms.local_cluster(2, quiet=True)
rng = np.random.default_rng(0)
""",
    "ms.Panel()",
    """
sizes = rng.integers(200, 4000, 52)
ms.register_variables("atlas", {
    f"normalised_expression_matrix_of_donor_{i}": np.zeros((int(n), 100), "f4")
    for i, n in enumerate(sizes)
})
X = rng.normal(size=(2000, 600))
ms.register_variables("rna", {"X": X, "diagnosis": rng.integers(0, 32, 2000)})
ms.register_variables("scratch", {"out": np.zeros((32, 600))}, writable=True)
ms.memapply("rna.X", "cols", np.sum, cluster=cluster)
cluster.view().push({"X": ms.retrieve_views("rna", "X")["X"]}, block=True)

def score(gene, diagnosis):
    import time
    time.sleep(seconds(gene))
    return float(np.corrcoef(gene, diagnosis)[0, 1])

def seconds(gene):
    return 0.06 + 0.2 * (abs(float(gene[1])) > 1)

def slow(gene):
    import time
    time.sleep(0.05)
    if gene[0] == 20:
        raise ValueError("gene ENSG00000141510 has no counts in 1,204 samples")
    return float(gene.sum())

M = np.arange(300.0)[None]
""",
    """
runs = [
    ms.memapply("rna.X", "cols", score, vars=["diagnosis"], cluster=cluster, block=False),
    ms.memapply(M, "cols", slow, cluster=cluster, block=False, on_error="return"),
]
""",
    "[run.cancel() for run in runs]; [run.exception(9) for run in runs]; None",
    "ms.memapply(M, 'cols', slow, cluster=cluster)",
]


CUT = """
(panel) => ['.ms-chips', '.ms-summary', '.ms-figures dd', '.ms-sort', '.ms-run', '.ms-group td',
            '.ms-page td:not([data-column=holders])', '.ms-foot']
    .flatMap((kind) => [...panel.querySelectorAll(kind)])
    .filter((element) => element.scrollWidth > element.clientWidth)
    .map((element) => element.innerText)
"""


@pytest.fixture(scope="module")
def shown(lab, module_opened):
    """A notebook whose panel has much of everything."""
    book = module_opened(lab, CELLS)
    for i in range(3):
        book.run(i)
    book.panel().get_by_text("55", exact=True).first.wait_for()
    book.run(3)
    book.panel().get_by_text("queued behind").wait_for()
    book.page.wait_for_function(
        "() => Number(document.querySelector('.ms-run [role=progressbar]').ariaValueNow) > 60"
    )
    return book


@pytest.mark.parametrize("name", THEMES[:2], ids=["light", "dark"])
def test_a_picture_of_much_for_the_documentation(shown, take, name):
    with theme(shown, name):
        for width in (600, 900, 1400):
            with narrowed(shown, width):
                assert violations(shown) == []
                assert shown.panel().evaluate(CUT) == []
                shown.page.mouse.move(0, 0)
                take(shown.panel(), f"panel-{width}-{'dark' if 'Dark' in name else 'light'}")


# After those, because it ends the runs.
def test_a_picture_of_an_error_for_the_documentation(shown, take):
    shown.run(4)
    shown.run(5)
    failed = shown.panel().locator(".ms-run[data-state=failed]")
    failed.get_by_text("has no counts").wait_for()
    failed.locator(".ms-block.ms-failed").wait_for()
    with narrowed(shown, 900):
        assert violations(shown) == []
        take(failed, "panel-failed")
