"""Calls in a notebook: how far they are, how they end, and what remains of them."""

from __future__ import annotations

SLOW = """
def slow(column):
    import time
    time.sleep(0.05)
    if column[0] > 70: raise ValueError("no such gene")
    return float(column.sum())
cluster = ms.local_cluster(1, quiet=True)
"""


def test_a_run_in_the_background_shows_how_far_it_is_and_how_it_ended(book):
    book.execute(2, SLOW)
    book.execute(
        2, "run = ms.memapply(np.zeros((2, 60)), 'cols', slow, cluster=cluster, block=False)\nrun"
    )
    shown = book.cell(2).locator(".memshare-run")
    shown.get_by_text("slow over 60 columns").wait_for()
    shown.get_by_text("/s").wait_for()  # the kernel is idle, and it moves
    assert shown.locator("progress").get_attribute("max") == "60"
    shown.get_by_text("done in").wait_for()
    row = book.panel().locator(".ms-run[data-state=done]")
    row.get_by_text("60 / 60 items").wait_for()
    row.get_by_text("done in").wait_for()
    assert row.get_by_role("button").count() == 0
    colours = "(fill) => { const of = getComputedStyle(fill); return of.backgroundImage; }"
    assert row.locator(".ms-fill").evaluate(colours) == "none"
    book.execute(2, "run = ms.memapply(np.zeros((2, 900)), 'cols', slow, cluster=cluster, "
                    "block=False)\nrun.cancel()")  # fmt: skip
    cancelled = book.panel().locator(".ms-run[data-state=cancelled] .ms-fill")
    cancelled.wait_for(state="attached")
    assert "repeating-linear-gradient" in cancelled.evaluate(colours)
    book.execute(2, "cluster.stop()")


def test_an_interrupt_ends_in_one_line(book):
    book.execute(2, SLOW)
    book.text(2, "ms.memapply(np.zeros((2, 2000)), 'cols', slow, cluster=cluster)")
    book.start(2)
    shown = book.cell(2).locator(".memshare-run")
    shown.get_by_text("/s").wait_for()
    book.page.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
    )
    book.finished(2)
    error = book.cell(2).locator("[data-mime-type='application/vnd.jupyter.stderr']")
    said = error.inner_text().strip()
    assert said.startswith("KeyboardInterrupt: stopped slow over 2,000 columns")
    assert said.endswith("the engines are idle")
    assert "\n" not in said
    shown.get_by_text("cancelled after").wait_for()
    book.execute(2, "cluster.stop()")


def test_a_failed_run_stays_in_the_panel_with_its_reason(book):
    book.execute(2, SLOW)
    book.text(2, "ms.memapply(np.arange(100.0)[None], 'cols', slow, cluster=cluster)")
    book.start(2)
    book.finished(2)
    row = book.panel().locator(".ms-run[data-state=failed]")
    row.get_by_text("ValueError: no such gene").wait_for()
    height = book.panel().locator(".ms-runs").bounding_box()["height"]
    book.execute(2, "ms.memapply(np.zeros((2, 60)), 'cols', slow, cluster=cluster, block=False)")
    book.panel().locator(".ms-run:not([data-state])").wait_for()
    now = book.panel().locator(".ms-runs").bounding_box()["height"]
    assert abs(now - height) < 30  # the notebook below does not jump
    book.execute(2, "cluster.stop()")


def test_after_a_restart_what_a_cell_showed_is_still_there(lab, opened):
    call = "ms.memapply(np.zeros((2, 60)), 'cols', slow, cluster=cluster)"
    book = opened(lab, ["import numpy as np, memshare_jupyter as ms", SLOW, call])
    for i in range(3):
        book.run(i)
    shown = book.cell(2).locator(".memshare-run")
    shown.get_by_text("done in").wait_for()
    book.restart()
    book.page.wait_for_timeout(1000)
    book.save()
    book.open()
    shown.get_by_text("done in").wait_for()
    assert book.page.locator(".jupyter-widgets-disconnected, .jp-BrokenWidget").count() == 0


SAYS = """
def score(column):
    import logging, warnings
    print("scoring", int(column[0]))
    if column[0] == 2:
        warnings.warn("gene 2 hardly varies")
    if column[0] == 4:
        raise ValueError("gene 4 has no counts")
    return float(column.sum())
cluster = ms.local_cluster(2, quiet=True)
"""


def test_what_a_function_prints_warns_and_raises_is_shown_where_it_was_called(book, take):
    book.execute(2, SAYS)
    said = book.execute(2, "ms.memapply(np.arange(6.0)[None], 'cols', score, cluster=cluster)")
    for text in ("scoring 4", "gene 4 has no counts", "score failed at index 4 on engine"):
        assert text in said, said
    # The user's own line stands in the traceback, and nothing of ours above it.
    assert 'raise ValueError("gene 4 has no counts")' in said
    take(book.cell(2).locator(".jp-OutputArea").first, "call-fails")
    said = book.execute(
        2, "ms.memapply(np.arange(4.0)[None], 'cols', score, cluster=cluster, on_error='return')"
    )
    for text in ("scoring 3", "gene 2 hardly varies", "[0.0, 1.0, 2.0, 3.0]"):
        assert text in said, said
    book.execute(2, "cluster.stop()")


KEEP = """
cluster = ms.local_cluster(2, quiet=True)
ms.register_variables('w', {'X': np.ones((30, 20))})
for _ in range(3): ms.memapply('w.X', 'cols', np.sum, cluster=cluster)
"""


def test_what_engines_keep_for_the_next_call_is_shown_as_kept(book):
    book.execute(2, KEEP)
    chip = book.page.locator("tr[data-page='w.X'] .ms-kept")
    chip.wait_for()
    assert "engines 0-1" in chip.inner_text()
    assert "kept for the next call" in chip.inner_text()
    book.press("X")
    details = book.panel().locator("[data-details='w.X']")
    details.get_by_text("2 kept mapped for the next call").wait_for()
    assert details.locator(".ms-holders td", has_text="kept").count() == 2
    assert book.panel().locator("[data-figure=views] dd").inner_text() == "0"
    book.press("Release w.X")
    book.confirm("Release")
    book.has_pages()  # they let go by themselves
    book.execute(2, "cluster.stop()")
