"""The panel while a cell runs, while a call runs on engines, and after a kernel has gone."""

from __future__ import annotations

import os
import signal

import pytest

import memshare_jupyter as ms

# Counts how often what one sees of the pages changes.
COUNT = """
() => {
    window.seen = [];
    const look = () => {
        const panel = document.querySelector('.memshare-panel');
        const text = [...panel.querySelectorAll('.ms-figures dd, tr.ms-page td, tr.ms-page th')]
            .map((cell) => cell.innerText).join('|');
        if (window.seen.at(-1) !== text) window.seen.push(text);
    };
    look();
    window.watching = new MutationObserver(look);
    window.watching.observe(document.querySelector('.memshare-panel'),
        { subtree: true, childList: true, characterData: true });
}
"""

SLOW = """
def score(column):
    import time
    time.sleep(0.02)
    return float(column.sum())
cluster = ms.local_cluster(2, quiet=True)
ms.register_variables("rna", {"X": np.ones((50, 2000))})
ms.memapply("rna.X", "cols", np.sum, cluster=cluster)
print(*cluster.view().apply_sync(os.getpid))
"""

BUSY = {
    "sleep": "time.sleep(10)",
    "numpy": "a = np.ones((400, 400))\nend = time.time() + 10\nwhile time.time() < end: a @ a",
    "python": "end = time.time() + 10\nn = 0\nwhile time.time() < end: n += 1",
    "memapply": "ms.memapply(np.ones((9, 800)), 'cols', score, cluster=cluster)",
}


@pytest.mark.parametrize("what", BUSY)
def test_during_a_busy_cell_the_panel_lives_and_a_click_takes_effect(book, child, eventually, what):
    book.execute(2, SLOW)
    book.has_pages("rna.X")
    other = child()
    book.page.evaluate(COUNT)
    book.text(2, BUSY[what])
    book.start(2)
    # Something new is there within two seconds, and a click takes effect before the cell ends.
    other.run("ms.register_variables('rna', {'new': np.ones(1000)})")
    book.page.locator("tr[data-page='rna.new']").wait_for(timeout=2000)
    book.press("Release rna.X")
    book.confirm("Release")
    eventually(lambda: "rna.X" not in [p.name for p in ms.snapshot().pages], 2)
    book.says("released rna.X", timeout_s=2)
    book.page.locator("tr[data-page='rna.X']").wait_for(state="detached", timeout=2000)
    assert book.cell(2).locator(".jp-InputPrompt").inner_text() == "[*]:"
    book.finished(2)
    assert book.page.evaluate("() => window.seen.length") >= 8
    other.kill()
    book.has_pages()
    book.execute(2, "cluster.stop()")


def test_a_run_shows_how_far_it_is_and_cancel_stops_it(book):
    book.execute(2, SLOW)
    book.text(2, "try: ms.memapply('rna.X', 'cols', score, cluster=cluster)\n"
                 "except BaseException as error: print(type(error).__name__, error)")  # fmt: skip
    book.start(2)
    run = book.panel().get_by_role("group", name="score over 2,000 columns of rna.X")
    run.wait_for()
    book.page.wait_for_function(
        "() => Number(document.querySelector('.ms-run [role=progressbar]').ariaValueNow) > 40"
    )
    text = run.inner_text()
    assert "/ 2,000 items" in text
    assert "items/s" in text
    assert "left" in text
    assert "engine 0" in text
    assert "engine 1" in text
    book.page.locator("tr[data-page='rna.X'] .ms-chip", has_text="engines 0-1").wait_for()
    run.get_by_role("button", name="Cancel").click()
    printed = book.finished(2, timeout_s=3)
    assert "CancelledError" in printed
    run.get_by_text("cancelled in").wait_for(timeout=2000)
    book.execute(2, "cluster.stop()")


def test_a_run_in_the_background_is_shown_while_other_cells_run(book):
    book.execute(2, SLOW)
    book.execute(2, "run = ms.memapply('rna.X', 'cols', score, cluster=cluster, block=False)")
    row = book.panel().get_by_role("group", name="score over 2,000 columns of rna.X")
    row.wait_for()
    assert book.execute(2, "print(1 + 1)").strip() == "2"
    row.get_by_role("button", name="Cancel").click()
    book.says("cancelled score over 2,000 columns of rna.X")
    row.get_by_text("cancelled in").wait_for()
    assert book.execute(2, "print(run.cancelled()); cluster.stop()").strip() == "True"


def test_an_engine_that_is_killed_is_no_holder_any_more(book):
    pids = book.execute(2, SLOW).split()[-2:]
    book.execute(2, "X = ms.retrieve_views('rna', 'X')['X']\n"
                    "cluster.view().push({'X': X}, block=True)")  # fmt: skip
    chips = book.page.locator("tr[data-page='rna.X'] .ms-chip")
    chips.filter(has_text="engines 0-1").wait_for()
    os.kill(int(pids[1]), signal.SIGKILL)
    chips.filter(has_text="engine 0").wait_for(timeout=2000)
    assert chips.all_inner_texts() == ["◆ this notebook\n(owner)", "engine 0"]
    assert {h.pid for p in ms.snapshot().pages for h in p.holders} == {book.pid, int(pids[0])}
    book.execute(2, "cluster.stop()")


def test_where_the_kernel_hears_no_click_during_a_cell_it_is_queued(jupyter, opened, eventually):
    deaf = jupyter(extra_settings={
        "apputils-extension/kernels-settings": {"commsOverSubshells": "disabled"}
    })  # fmt: skip
    book = opened(deaf, ["import numpy as np, memshare_jupyter as ms, time, os", "ms.Panel()", ""])
    book.run(0)
    book.run(1)
    book.execute(2, SLOW)
    book.has_pages("rna.X")
    book.text(2, "try: ms.memapply('rna.X', 'cols', score, cluster=cluster)\n"
                 "except BaseException as error: print(type(error).__name__)")  # fmt: skip
    book.start(2)
    run = book.panel().get_by_role("group", name="score over 2,000 columns of rna.X")
    run.wait_for()  # it lives all the same
    book.press("Release rna.X")
    book.confirm("Release")
    book.says("release rna.X: queued")
    assert [p.name for p in ms.snapshot().pages] == ["rna.X"]
    run.get_by_role("button", name="Cancel").click()
    run.get_by_role("button", name="Interrupt the cell").click()
    assert "KeyboardInterrupt" in book.finished(2, timeout_s=3)
    eventually(lambda: ms.snapshot().pages == ())
    book.has_pages()
    book.execute(2, "cluster.stop()")


REGISTER_ONE = "ms.register_variables('rna', {'X': np.ones(9)}); print(os.getpid())"


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_kernel_that_has_gone_shows_as_stale_and_cannot_be_asked(lab, opened, how):
    book = opened(lab, ["import numpy as np, memshare_jupyter as ms, os", "ms.Panel()", ""])
    book.run(0)
    book.run(1)
    pid = int(book.execute(2, REGISTER_ONE))
    book.has_pages("rna.X")
    assert book.panel().get_by_role("button", name="Release rna.X").is_enabled()
    if how == "restart":
        book.page.evaluate(
            "() => { jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"
        )
    else:
        os.kill(pid, signal.SIGKILL)
    book.is_("stale", timeout_s=5)
    assert book.panel().get_by_role("button", name="Release rna.X").is_disabled()
    assert "un this cell again" in book.panel().locator(".ms-notice").inner_text()
    book.page.wait_for_function(
        "() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
    )
    book.run(0)
    book.run(1)
    book.is_("live")
    book.has_pages()


def test_a_kernel_that_stands_still_shows_as_stale_until_it_goes_on(lab, opened):
    book = opened(lab, ["import numpy as np, memshare_jupyter as ms, os", "ms.Panel()", ""])
    book.run(0)
    book.run(1)
    pid = int(book.execute(2, REGISTER_ONE))
    book.has_pages("rna.X")
    os.kill(pid, signal.SIGSTOP)
    try:
        book.is_("stale")
        assert "No sign from the kernel" in book.panel().locator(".ms-notice").inner_text()
    finally:
        os.kill(pid, signal.SIGCONT)
    book.is_("live")
    book.has_pages("rna.X")


def test_without_a_kernel_the_notebook_shows_the_stored_table(lab, opened):
    book = opened(lab, ["import numpy as np, memshare_jupyter as ms", "ms.Panel()", ""])
    book.run(0)
    book.execute(2, "ms.register_variables('rna', {'X': np.ones(9)})")
    book.run(1)
    book.has_pages("rna.X")
    book.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    book.page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")
    lab.end_sessions(book.name)
    book.open()
    assert ms.snapshot().pages == ()
    table = book.page.locator("[class^=memshare-twin]", has_text="rna 1 page")
    table.wait_for()
    assert table.is_visible()
