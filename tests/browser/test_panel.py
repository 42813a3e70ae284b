"""The panel in JupyterLab: what one sees, and what a click does, with a kernel that is idle."""

from __future__ import annotations

import re

import pytest

import memshare_jupyter as ms

REGISTER = """
rng = np.random.default_rng(0)
ms.register_variables("rna", {"X": np.asfortranarray(rng.normal(size=(300, 200))),
                              "y": np.arange(300), "labels": ["a", "b"]})
ms.register_variables("study.v2", {"out": np.zeros(5000)}, writable=True)
"""


TEXTS = r"""row => Object.fromEntries([...row.cells].map(
    (cell) => [cell.dataset.column, cell.innerText.trim().replace(/\s+/g, ' ')]))"""


def cell_texts(book, name):
    """Text of each column of a page's row."""
    return book.page.locator(f"tr.ms-page[data-page='{name}']").evaluate(TEXTS)


def shared():
    return [page.name for page in ms.snapshot().pages]


def test_an_empty_panel_shows_a_line_that_registers_something(book):
    lines = book.panel().locator(".ms-empty code").all_inner_texts()
    assert len(lines) == 2
    for i, line in enumerate(lines):
        book.panel().locator(".ms-empty button").nth(i).click()
        assert book.page.evaluate("() => navigator.clipboard.readText()") == line
        book.execute(2, f"%load_ext memshare_jupyter\nX = np.eye(3)\n{line}")
        book.has_pages("rna.X")
        assert not book.panel().locator(".ms-empty").is_visible()
        assert shared() == ["rna.X"]
        book.execute(2, "registry().gc()")
        book.has_pages()


def test_an_empty_panel_of_a_namespace_with_blanks_shows_lines_that_work(book):
    book.text(1, "panel = ms.Panel('my \"own\" study')\npanel")
    try:
        book.run(1)
        book.panel().locator(".ms-empty").wait_for()
        for line in book.panel().locator(".ms-empty code").all_inner_texts():
            book.execute(2, f"%load_ext memshare_jupyter\nX = np.eye(3)\n{line}")
            assert shared() == ['my "own" study.X']
            book.execute(2, "registry().gc()")
    finally:
        book.text(1, "panel = ms.Panel()\npanel")


def test_a_row_says_what_a_page_holds_and_who_holds_it(book):
    book.page.set_viewport_size({"width": 2000, "height": 1000})
    try:
        book.execute(2, REGISTER + "X = ms.retrieve_views('rna', 'X')['X']")
        book.has_pages("rna.X", "rna.labels", "rna.y", "study.v2.out")
        book.page.locator("tr.ms-page td[data-column=mode]").first.wait_for()
        found = cell_texts(book, "rna.X")
        assert re.fullmatch(r"\d+ s", found.pop("age"))
        assert found == {
            "name": "X", "kind": "array", "shape": "300 × 200", "dtype": "float64", "order": "F",
            "size": "480.0 kB", "owner": "this notebook", "views": "1", "handles": "2",
            "holders": "◆ this notebook (owner)", "mode": "r", "state": "● active",
            "actions": "Release Detach",
        }  # fmt: skip
        found = cell_texts(book, "study.v2.out")
        assert (found["mode"], found["state"]) == ("r+", "✎ writable")
        assert cell_texts(book, "rna.labels")["kind"] == "list"
    finally:
        book.page.set_viewport_size({"width": 1400, "height": 1000})


def test_the_totals_are_those_of_the_registry(book):
    book.execute(2, REGISTER + "X = ms.retrieve_views('rna', 'X')['X']")
    book.has_pages("rna.X", "rna.labels", "rna.y", "study.v2.out")
    now = ms.snapshot()
    figures = dict(
        line.split("\n")[:2]
        for line in book.panel().locator(".ms-figures > [data-figure]").all_inner_texts()
    )
    handles = sum(page.handles for page in now.pages)
    assert figures["pages"] == "4"
    assert figures["views"] == "1"
    assert figures["handles"] == str(handles) == "5"
    assert figures["shared"] == f"{now.shared_bytes / 1e3:.1f} kB"
    assert figures["as copies"] == f"{now.copies_bytes / 1e3:.1f} kB"
    assert re.search(r"machine free\s+[\d.]+ GB of [\d.]+ GB", book.panel().inner_text())
    shared, machine = book.panel().locator(".ms-bar").all()
    assert "Shared: rna 482" in shared.get_attribute("aria-label")
    assert "shared: 522" in machine.get_attribute("aria-label")
    assert shared.locator(".ms-part").all_inner_texts()[0].startswith("rna 482")
    assert shared.locator(".ms-part").count() == 2
    assert re.fullmatch(
        r"last 60 s, at most 522\.\d kB", book.panel().locator(".ms-trend div").inner_text()
    )
    history = book.panel().locator(".ms-spark").get_attribute("aria-label")
    assert "now 522" in history


def test_a_group_has_the_sums_of_its_namespace(book):
    book.execute(2, REGISTER + "X = ms.retrieve_views('rna', 'X')['X']")
    book.has_pages("rna.X", "rna.labels", "rna.y", "study.v2.out")
    groups = book.panel().locator("tr.ms-group").all_inner_texts()
    assert [group.split()[0] for group in groups] == ["rna", "study.v2"]
    size = sum(p.size_bytes for p in ms.snapshot().pages if p.namespace == "rna")
    assert f"{size / 1e3:.1f} kB" in groups[0]
    assert "3 pages" in groups[0]


def test_a_panel_of_one_namespace_shows_no_other(book):
    book.execute(2, REGISTER)
    book.text(1, "panel = ms.Panel('study.v2')\npanel")
    try:
        book.run(1)
        book.has_pages("study.v2.out")
        assert "Shared memory of study.v2" in book.panel().inner_text()
    finally:
        book.text(1, "panel = ms.Panel()\npanel")


def test_opening_a_row_lists_each_holder_with_what_it_has_in_memory(book, child):
    book.execute(2, "ms.register_variables('rna', {'X': np.ones(1_000_000)})")
    viewer = child("X = ms.retrieve_views('rna', 'X')['X']; total = float(X.sum())")
    book.page.locator(".ms-chip", has_text=f"{viewer.pid}").wait_for()
    book.press("X")
    holders = book.panel().locator("[data-details='rna.X'] .ms-holders tbody tr")
    holders.nth(1).wait_for()
    assert f"{book.pid}" in holders.nth(0).inner_text()
    assert "owner, this kernel" in holders.nth(0).inner_text()
    # It has read all of it, and nobody else has mapped it in: its share is the whole.
    book.page.locator(".ms-holders td", has_text="8.0 MB").wait_for()
    assert f"{viewer.pid}" in holders.nth(1).inner_text()
    viewer.kill()
    book.page.wait_for_function(
        "() => document.querySelectorAll('.ms-holders tbody tr').length === 1"
    )
    assert [p.handles for p in ms.snapshot().pages] == [1]


def test_filtering_leaves_what_contains_the_text(book):
    book.execute(2, REGISTER)
    book.has_pages("rna.X", "rna.labels", "rna.y", "study.v2.out")
    # Letters typed here are not shortcuts of JupyterLab: "dd" would delete the cell.
    book.panel().get_by_role("searchbox", name="Filter pages").press_sequentially("addb")
    book.has_pages()
    assert book.page.locator(".jp-CodeCell").count() == 3
    book.panel().get_by_role("searchbox").fill("study")
    book.has_pages("study.v2.out")
    book.panel().get_by_role("searchbox").fill("")
    book.has_pages("rna.X", "rna.labels", "rna.y", "study.v2.out")


@pytest.mark.parametrize(
    ("column", "up", "down"),
    [
        ("Variable", "rna.X rna.labels rna.y study.v2.out", "study.v2.out rna.y rna.labels rna.X"),
        ("Size", "study.v2.out rna.labels rna.y rna.X", "rna.X rna.y rna.labels study.v2.out"),
        ("Dtype", "rna.labels rna.X rna.y study.v2.out", "rna.y rna.X rna.labels study.v2.out"),
        ("State", "rna.X rna.labels rna.y study.v2.out", "rna.X rna.labels rna.y study.v2.out"),
    ],
)
def test_a_click_on_a_heading_sorts_by_it_and_another_turns_it_round(book, column, up, down):
    from playwright.sync_api import expect

    book.execute(2, REGISTER)
    book.has_pages("rna.X", "rna.labels", "rna.y", "study.v2.out")
    heading = book.panel().locator("thead th", has_text=column)
    for _ in range(2):  # numbers begin with the largest
        if heading.get_attribute("aria-sort") != "ascending":
            before = heading.get_attribute("aria-sort")
            heading.get_by_role("button").click()
            expect(heading).not_to_have_attribute("aria-sort", before or "")
    book.has_pages(*up.split())
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    book.has_pages(*down.split())


def test_releasing_asks_who_holds_it_and_then_frees_the_page(book, child, eventually):
    book.execute(2, REGISTER)
    viewer = child("X = ms.retrieve_views('rna', 'X')['X']")
    book.page.locator(".ms-chip", has_text=f"{viewer.pid}").wait_for()
    book.press("Release rna.X")
    assert book.panel().locator("dialog").is_visible()
    book.confirm("Keep")
    assert "rna.X" in shared()
    book.press("Release rna.X")
    asked = book.confirm("Release")
    assert f"this notebook, pid {book.pid}: owner, this kernel" in asked
    assert f"pid {viewer.pid}: view" in asked
    book.says("released rna.X; 1 view keeps its memory until it ends")
    page = next(page for page in ms.snapshot().pages if page.name == "rna.X")
    assert (page.state, page.handles) == ("draining", 1)
    book.page.locator("tr[data-page='rna.X'] .ms-draining").wait_for()
    assert book.panel().get_by_role("button", name="Release rna.X").is_disabled()
    viewer.kill()
    book.has_pages("rna.labels", "rna.y", "study.v2.out")


def test_detaching_ends_the_view_of_this_kernel(book):
    book.execute(2, REGISTER + "X = ms.retrieve_views('rna', ['X', 'y'])['X']")
    book.panel().get_by_role("button", name="Detach rna.y").and_(
        book.page.locator(":enabled")
    ).wait_for()
    book.press("Detach rna.y")
    assert "this notebook" in book.confirm("Detach")
    book.says("detached rna.y")
    assert next(p for p in ms.snapshot().pages if p.name == "rna.y").views == 0
    book.press("Detach rna.X")
    book.confirm("Detach")
    book.says("the view ends with the arrays here that still use it")
    book.execute(2, "del X")
    book.page.locator("tr.ms-group", has_text="rna").first.wait_for()
    assert sum(p.views for p in ms.snapshot().pages) == 0


def test_gc_lets_go_of_a_namespace_and_of_no_other(book, child):
    book.execute(2, REGISTER)
    other = child("ms.register_variables('rna', {'theirs': np.ones(10)})")
    book.has_pages("rna.X", "rna.labels", "rna.theirs", "rna.y", "study.v2.out")
    book.press("Release all of rna")
    asked = book.confirm("Release all")
    assert "releases 3 pages" in asked
    assert "X, 480.0 kB: this notebook (owner)" in asked
    assert "theirs" not in asked
    book.says("let go of rna.X, rna.labels, rna.y")
    book.has_pages("rna.theirs", "study.v2.out")
    assert shared() == ["rna.theirs", "study.v2.out"]
    assert book.panel().get_by_role("button", name="Release all of rna").is_disabled()
    other.kill()


def test_a_page_that_another_owns_can_be_looked_at_only(book, child):
    owner = child("ms.register_variables('theirs', {'X': np.ones(10)})")
    book.has_pages("theirs.X")
    release = book.panel().get_by_role("button", name="Release theirs.X")
    assert release.is_disabled()
    assert f"Owned by pid {owner.pid}" in release.get_attribute("title")
    owner.kill()
    book.has_pages()


def test_a_page_whose_owner_died_is_orphaned(book, child):
    owner = child("ms.register_variables('theirs', {'X': np.ones(10)})")
    book.has_pages("theirs.X")
    book.execute(2, "X = ms.retrieve_views('theirs', 'X')['X']")
    owner.kill()
    book.page.locator("tr[data-page='theirs.X'] .ms-orphaned").wait_for()


def test_the_attach_snippet_attaches(book):
    book.execute(2, "ms.register_variables('rna', {'X': np.arange(7.0)})")
    book.has_pages("rna.X")
    book.press("Copy attach snippet of rna.X")
    book.says("copied:")
    snippet = book.page.evaluate("() => navigator.clipboard.readText()")
    assert "21.0" in book.execute(2, f"{snippet}\nprint(float(X.sum()))")


def test_a_page_that_cannot_be_attached_any_more_offers_no_snippet(book):
    book.execute(
        2,
        "ms.register_variables('rna', {'X': np.arange(7.0), 'y': 1.0})\n"
        "X = ms.retrieve_views('rna', 'X'); ms.release_variables('rna', 'X')",
    )
    book.page.locator("tr[data-page='rna.X'] .ms-draining").wait_for()
    book.press("X")
    for button in (
        book.panel().get_by_role("button", name="Copy attach snippet of rna.X", exact=True),
        book.panel().get_by_role("button", name="Copy attach snippet", exact=True),
    ):
        assert button.is_disabled()
        assert "cannot be attached" in button.get_attribute("title")
    assert book.panel().get_by_role("button", name="Copy attach snippet of rna.y").is_enabled()
    book.execute(2, "del X")


def test_what_the_foot_says_goes_after_some_seconds_and_is_said_again(book):
    book.execute(2, "ms.register_variables('rna', {'X': np.arange(7.0)})")
    book.has_pages("rna.X")
    message = book.panel().locator(".ms-message")
    book.page.evaluate(
        """() => { window.announced = 0;
            const told = (all) => { announced += all.some((one) => one.addedNodes.length); };
            new MutationObserver(told).observe(
                document.querySelector('.ms-message'), { childList: true }); }"""
    )
    for times in (1, 2):
        book.press("Copy attach snippet of rna.X")
        book.page.wait_for_function("(times) => announced === times", arg=times)
        assert message.inner_text().startswith("copied: ")
    book.page.wait_for_function("() => !document.querySelector('.ms-message').textContent")
    assert message.get_attribute("role") == "status"


def test_with_a_filter_the_panel_says_how_much_is_found(book):
    book.execute(2, "ms.register_variables('rna', {'X': np.zeros(125), 'y': 1.0})\n"
                    "ms.register_variables('other', {'X': np.zeros(250)})")  # fmt: skip
    book.has_pages("other.X", "rna.X", "rna.y")
    found = book.panel().locator(".ms-found")
    assert not found.is_visible()
    search = book.panel().get_by_role("searchbox")
    search.fill(".x")
    book.has_pages("other.X", "rna.X")
    assert found.inner_text() == "2 of 3 pages, 3.0 kB"
    groups = book.panel().locator("tr.ms-group th")
    assert [text.strip() for text in groups.all_inner_texts()] == [
        "other 1 page",
        "rna 1 of 2 pages",
    ]
    search.fill("")
    book.has_pages("other.X", "rna.X", "rna.y")
    assert not found.is_visible()


def test_a_question_is_in_order_and_looks_as_if_enter_kept(book):
    book.execute(2, "ms.register_variables('q', {f'v{i}': np.ones(1) for i in (13, 2, 1)})")
    book.has_pages("q.v1", "q.v2", "q.v13")
    book.panel().locator("tr.ms-group button").click()
    dialog = book.panel().locator("dialog")
    lines = dialog.locator("li").all_inner_texts()
    assert [line.split(",")[0] for line in lines] == ["v1", "v2", "v13"]
    style = (
        "(button) => [getComputedStyle(button).outlineStyle, getComputedStyle(button).fontWeight]"
    )
    keep, release = (dialog.get_by_role("button", name=name) for name in ("Keep", "Release all"))
    assert keep.evaluate("(button) => document.activeElement === button")
    assert (keep.evaluate(style), release.evaluate(style)) == (["solid", "400"], ["none", "400"])
    book.page.keyboard.press("Tab")
    assert (keep.evaluate(style)[0], release.evaluate(style)[0]) == ("none", "solid")
    keep.click()


def test_the_foot_and_an_opened_row_explain_host_and_share(book):
    book.execute(2, "ms.register_variables('rna', {'X': np.zeros(125)})")
    book.has_pages("rna.X")
    assert book.panel().locator(".ms-host").inner_text().startswith("host ")
    book.press("X")
    share = book.page.locator(".ms-holders td", has_text="0 B")
    share.wait_for()
    assert "mapped in" in share.get_attribute("title")


def test_a_paused_panel_keeps_what_it_shows_until_it_resumes(book):
    book.execute(2, "ms.register_variables('rna', {'X': np.arange(7.0)})")
    book.has_pages("rna.X")
    book.press("Pause")
    book.is_("paused")
    # The second view of the same panel is not paused, and tells that the change has come.
    book.execute(2, "ms.register_variables('rna', {'later': np.arange(7.0)})\npanel")
    later = book.panel(1).locator("tr[data-page='rna.later']")
    later.wait_for()
    assert book.pages() == ["rna.X", "rna.X", "rna.later"]
    book.press("Resume")
    book.has_pages("rna.X", "rna.later", "rna.X", "rna.later")


def test_a_second_output_and_a_reloaded_page_show_the_same(book):
    book.execute(2, "ms.register_variables('rna', {'X': np.arange(7.0)})\npanel")
    book.panel(1).locator("tr.ms-page").wait_for()
    book.has_pages("rna.X", "rna.X")
    book.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    book.page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")
    book.open()
    book.panel(1).locator("tr.ms-page").wait_for()
    book.has_pages("rna.X", "rna.X")
    book.execute(0, "ms.register_variables('rna', {'y': np.arange(7.0)})")
    book.has_pages("rna.X", "rna.y", "rna.X", "rna.y")
    book.text(0, "print('as before')")


THREADS = "print(sum(t.name == 'memshare panel' for t in threading.enumerate()))"


def test_running_the_cell_ten_times_leaves_one_publisher(book):
    for _ in range(10):
        book.run(1)
        book.panel().locator(".ms-empty").wait_for()
    wait = "while sum(t.name == 'memshare panel' for t in threading.enumerate()) > 1:"
    printed = book.execute(2, f"{wait} time.sleep(0.05)\n{THREADS}")
    assert printed.strip() == "1"
    book.is_("live")


def test_clearing_the_output_ends_the_publisher_and_showing_it_again_begins_anew(book):
    book.page.evaluate(
        """() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 1;
                   jupyterapp.commands.execute('notebook:clear-cell-output'); }"""
    )
    wait = "while any(t.name == 'memshare panel' for t in threading.enumerate()):"
    assert book.execute(2, f"{wait} time.sleep(0.05)\n{THREADS}").strip() == "0"
    book.execute(2, "ms.register_variables('rna', {'X': np.arange(7.0)})\npanel")
    book.has_pages("rna.X")


def test_closing_the_panel_takes_it_from_every_output_and_ends_its_thread(book):
    book.execute(2, "panel")
    book.panel(1).locator(".ms-empty").wait_for()
    wait = "while any(t.name == 'memshare panel' for t in threading.enumerate()):"
    assert book.execute(2, f"panel.close()\n{wait} time.sleep(0.05)\n{THREADS}").strip() == "0"
    book.panel().wait_for(state="detached")


def test_a_registry_that_cannot_be_read_shows_the_cause_and_the_cure(book):
    book.execute(
        2,
        "real = type(registry()).snapshot\n"
        "def broken(self): raise ms.RegistryCorruptError('the runtime directory is a link')\n"
        "type(registry()).snapshot = broken",
    )
    book.is_("error")
    notice = book.panel().locator(".ms-notice").inner_text()
    assert "the runtime directory is a link" in notice
    assert "%memshare doctor" in notice
    book.execute(2, "type(registry()).snapshot = real; ms.register_variables('a', {'b': 1.0})")
    book.is_("live")
    book.has_pages("a.b")


def test_five_thousand_pages_are_a_few_rows_in_the_document(book):
    book.execute(
        2,
        "for i in range(10): ms.register_variables(f'n{i}', {f'x{k:03d}': k for k in range(500)})",
    )
    book.panel().locator("[data-figure=pages] dd", has_text="5,000").wait_for()
    scroller = book.panel().locator(".ms-scroller")
    assert book.page.locator("tr.ms-page").count() < 60
    assert book.panel().get_by_role("table", name="Shared pages").get_attribute(
        "aria-rowcount"
    ) == str(5000 + 10 + 1)
    worst = scroller.evaluate(
        """async (scroller) => {
            let worst = 0;
            for (let step = 1; step <= 60; step += 1) {
                scroller.scrollTop = (step / 60) * scroller.scrollHeight;
                await new Promise(requestAnimationFrame);
                await new Promise(requestAnimationFrame);
                worst = Math.max(worst, document.querySelectorAll('tr.ms-page').length);
            }
            return worst;
        }"""
    )
    assert worst < 60
    book.page.locator("tr[data-page='n9.x499']").wait_for()
    book.panel().get_by_role("searchbox").fill("n4.x123")
    book.has_pages("n4.x123")


def test_the_keyboard_opens_a_row_and_answers_a_question(book):
    book.execute(2, "ms.register_variables('rna', {'X': np.arange(7.0)})")
    book.has_pages("rna.X")
    book.panel().get_by_role("searchbox").focus()
    for _ in range(40):
        book.page.keyboard.press("Tab")
        if book.page.evaluate("() => document.activeElement.matches('.ms-open')"):
            break
    book.page.keyboard.press("Enter")
    book.panel().locator("[data-details='rna.X']").wait_for()
    assert book.page.evaluate("() => document.activeElement.matches('.ms-open')")
    book.page.keyboard.press("Tab")  # Release, the first of the row's buttons
    book.page.keyboard.press("Enter")
    book.panel().locator("dialog[open]").wait_for()
    book.page.keyboard.press("Escape")
    book.panel().locator("dialog[open]").wait_for(state="detached")
    assert shared() == ["rna.X"]
    book.page.keyboard.press("Space")
    book.page.keyboard.press("Tab")
    book.page.keyboard.press("Space")
    book.says("released rna.X")
    assert shared() == []


def test_the_notebook_keeps_a_table_for_when_there_is_no_kernel(book, tmp_path):
    import nbconvert
    import nbformat

    book.execute(2, "ms.register_variables('rna', {'<X>': np.arange(7.0)})")
    book.has_pages("rna.<X>")
    # The stored table is renewed by the panel, some seconds later.
    book.page.wait_for_function(
        """() => JSON.stringify(jupyterapp.shell.currentWidget.content.model.toJSON())
            .includes('rna.&lt;X&gt;')"""
    )
    assert not book.page.locator("[class^=memshare-twin]").first.is_visible()
    book.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    book.page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")
    saved = nbformat.read(book.server.root / book.name, as_version=4)
    html, _ = nbconvert.HTMLExporter().from_notebook_node(saved)
    assert "Shared memory, as of" in html
    assert "rna.&lt;X&gt;" in html


@pytest.mark.parametrize("width", [700, 1000])
def test_the_stored_table_is_grouped_and_as_wide_as_the_page(book, tmp_path, width):
    import nbconvert
    import nbformat

    book.execute(2, "for space in ('atlas', 'rna'): ms.register_variables(space, {"
                    "f'normalised_expression_matrix_of_the_healthy_donor_{i}': np.ones((99, 9))"
                    " for i in range(25)})")  # fmt: skip
    book.page.locator("tr[data-page$='donor_0']").first.wait_for()
    book.run(1)  # the table is that of when the panel was shown
    book.save()
    saved = nbformat.read(book.server.root / book.name, as_version=4)
    html, _ = nbconvert.HTMLExporter().from_notebook_node(saved)
    (tmp_path / "saved.html").write_text(html)
    page = book.page.context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"file://{tmp_path}/saved.html")
    table = page.locator("[class^=memshare-twin] table")
    assert table.locator("th[scope=rowgroup]").all_inner_texts() == [
        "atlas 25 pages", "rna 25 pages"
    ]  # fmt: skip
    widths = "(t) => [t.scrollWidth, t.closest('.jp-OutputArea-output').clientWidth]"
    of_table, of_page = table.evaluate(widths)
    assert of_table <= of_page
    page.screenshot(path=tmp_path / "saved.png")
    page.close()


def test_ages_go_on(book):
    book.execute(2, "ms.register_variables('rna', {'X': np.arange(7.0)})")
    book.has_pages("rna.X")
    for age in ("1 s", "2 s", "3 s"):
        book.page.locator("td[data-column=age]", has_text=age).wait_for()


def test_the_magic_shows_the_panel_of_a_namespace_and_unloading_closes_it(book):
    book.execute(2, REGISTER + "get_ipython().run_line_magic('load_ext', 'memshare_jupyter')")
    book.execute(2, "%memshare panel study.v2")
    second = book.panel(1)
    second.locator("tr[data-page='study.v2.out']").wait_for()
    assert second.locator("tr.ms-page").count() == 1
    book.execute(2, "%unload_ext memshare_jupyter")
    book.panel().wait_for(state="detached")
    assert shared() == []


def test_numbers_in_names_are_numbers_to_the_order(book):
    book.execute(2, "ms.register_variables('w', {f'v{i}': 1.0 for i in (1, 13, 17, 9)})")
    book.has_pages("w.v1", "w.v9", "w.v13", "w.v17")


def test_a_filter_without_a_hit_says_so(book):
    book.execute(2, "ms.register_variables('w', {'a': 1.0})")
    book.has_pages("w.a")
    book.panel().get_by_role("searchbox").fill("zzz")
    book.panel().get_by_text("No page matches zzz").wait_for()
    book.panel().get_by_role("searchbox").fill("")
    book.has_pages("w.a")
    assert not book.panel().locator(".ms-none").is_visible()


def test_the_height_of_the_table_can_be_changed_and_shows_more_rows(book):
    book.execute(2, "ms.register_variables('w', {f'x{i}': np.ones(1) for i in range(100)})")
    book.page.locator("tr[data-page='w.x0']").wait_for()
    scroller = book.panel().locator(".ms-scroller")
    handle = book.panel().get_by_role("separator")
    before = scroller.bounding_box()["height"]
    box = handle.bounding_box()
    book.page.mouse.move(box["x"] + 50, box["y"] + 4)
    book.page.mouse.down()
    book.page.mouse.move(box["x"] + 50, box["y"] + 204, steps=4)
    book.page.mouse.up()
    book.page.mouse.move(box["x"] + 50, box["y"] + 300)  # let go of
    assert abs(scroller.bounding_box()["height"] - before - 200) < 12
    tall = scroller.bounding_box()["height"]
    handle.focus()
    book.page.keyboard.press("ArrowUp")
    assert abs(scroller.bounding_box()["height"] - tall + 104) < 2
    for _ in range(40):
        book.page.keyboard.press("ArrowDown")
    assert scroller.evaluate("(s) => s.scrollHeight <= s.clientHeight + 1")  # all there is
    assert len(book.pages()) == 100


def test_long_names_that_differ_at_their_ends_are_told_apart(book):
    long = "normalised_expression_matrix_of_the_cohort"
    book.execute(2, f"ms.register_variables('w', {{f'{long}_{{i}}': 1.0 for i in (24, 25)}})")
    book.page.locator("tr.ms-page").nth(1).wait_for()
    ends = book.page.locator(".ms-name > span:last-child")
    assert ends.all_inner_texts() == ["ohort_24", "ohort_25"]
    for name in book.page.locator(".ms-name").all():
        box, end = name.bounding_box(), name.locator("span").last.bounding_box()
        assert end["x"] + end["width"] <= box["x"] + box["width"] + 1


def test_many_pages_have_one_scrollbar(book):
    book.execute(2, "ms.register_variables('w', {f'v{i}': 1.0 for i in range(55)})")
    book.panel().locator("[data-figure=pages] dd", has_text="55").wait_for()
    full, seen = book.panel().evaluate(
        """(panel) => { const output = panel.closest('.jp-OutputArea-output');
                        return [output.scrollHeight, output.clientHeight]; }"""
    )
    assert full <= seen + 1
