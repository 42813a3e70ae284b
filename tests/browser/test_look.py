"""How the panel looks: contrast and labels, narrow outputs, other front ends, and the pictures."""

from __future__ import annotations

import contextlib

import pytest

DOCS_CELLS = [
    """
import socket
import numpy as np
import memshare_jupyter as ms
socket.gethostname = lambda: "workstation"  # pictures are for everybody
cluster = ms.local_cluster(2, quiet=True)
rng = np.random.default_rng(0)
""",
    "ms.Panel()",
    """
def score(gene, diagnosis):
    import time
    time.sleep(0.004)
    return float(np.corrcoef(gene, diagnosis)[0, 1])

X = np.asfortranarray(rng.normal(size=(10_446, 19_637 // 10)).astype("f4"))
ms.register_variables("rna", {"X": X, "diagnosis": rng.integers(0, 32, 10_446)})
ms.register_variables("survival", {"months": rng.exponential(30, 10_446), "site": ["lung", "skin"]})
ms.register_variables("scratch", {"out": np.zeros((32, 19_637))}, writable=True)
view = ms.retrieve_views("rna", "X")["X"]
ms.memapply("rna.X", "cols", np.sum, cluster=cluster)
cluster.view().push({"X": view}, block=True)
cluster.view().execute("X.sum()", block=True)
""",
    "ms.memapply('rna.X', 'cols', score, vars=['diagnosis'], cluster=cluster)",
]
THEMES = ["JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"]


@pytest.fixture(scope="module")
def shown(lab, module_opened):
    """A notebook whose panel has something of everything."""
    book = module_opened(lab, DOCS_CELLS)
    for i in range(3):
        book.run(i)
    book.has_pages("rna.X", "rna.diagnosis", "scratch.out", "survival.months", "survival.site")
    book.page.locator("tr[data-page='rna.X'] .ms-chip", has_text="engines 0-1").wait_for()
    return book


@contextlib.contextmanager
def theme(book, name):
    change = """async (theme) => {
        await jupyterapp.commands.execute('apputils:change-theme', { theme }); }"""
    book.page.evaluate(change, name)
    book.page.wait_for_function("(name) => document.body.dataset.jpThemeName === name", arg=name)
    try:
        yield
    finally:
        book.page.evaluate(change, THEMES[0])


def violations(book):
    """What axe-core finds in the panel, in short."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(book.page, context=".memshare-panel").response["violations"]
    return [
        (rule["id"], node["target"], node["any"][:1], node["html"][:200])
        for rule in found
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("name", THEMES)
def test_axe_finds_nothing_in_a_theme_whatever_is_shown(shown, name):
    with theme(shown, name):
        assert violations(shown) == []
        shown.press("X")
        shown.page.locator(".ms-holders tbody tr").nth(2).wait_for()
        assert violations(shown) == []
        shown.press("Release rna.X")
        assert violations(shown) == []
        shown.confirm("Keep")
        shown.press("X")
        shown.start(3)
        shown.panel().locator(".ms-run:not([data-state])").wait_for()
        assert violations(shown) == []
        shown.panel().locator(".ms-run:not([data-state])").get_by_role("button").click()
        shown.finished(3)
        shown.panel().get_by_role("searchbox").fill("nothing at all")
        shown.has_pages()
        assert violations(shown) == []
        shown.panel().get_by_role("searchbox").fill("")


def test_axe_finds_nothing_in_forced_colours(shown):
    shown.page.emulate_media(forced_colors="active")
    try:
        assert violations(shown) == []
    finally:
        shown.page.emulate_media(forced_colors="none")


def test_axe_finds_nothing_in_an_empty_a_stale_and_a_paused_panel(lab, opened):
    book = opened(lab, ["import memshare_jupyter as ms", "ms.Panel('nowhere')"])
    book.run(0)
    book.run(1)
    book.panel().locator(".ms-empty").wait_for()
    assert violations(book) == []
    book.press("Pause")
    book.is_("paused")
    assert violations(book) == []
    book.press("Resume")
    book.page.evaluate(
        "() => { jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"
    )
    book.is_("stale")
    assert violations(book) == []


@pytest.mark.parametrize("width", [230, 320, 480, 600, 700, 780, 968, 1000, 1300, 1440, 1700])
def test_nothing_that_is_shown_is_cut_off_at_any_width(shown, width):
    with narrowed(shown, width):
        # All but long names.
        cut = shown.panel().evaluate(
            """(panel) => ['.ms-chips', '.ms-summary', '.ms-figures', '.ms-figures dd', '.ms-sort',
                           '.ms-page td:not([data-column=holders])', '.ms-group td', '.ms-head']
                .flatMap((kind) => [...panel.querySelectorAll(kind)])
                .filter((element) => element.scrollWidth > element.clientWidth)
                .map((element) => element.innerText)"""
        )
        assert cut == []
        if width >= 480:
            heads = shown.panel().locator("tr.ms-group th")
            assert heads.evaluate_all("(all) => all.every((e) => e.scrollWidth <= e.clientWidth)")
        box = shown.panel().bounding_box()
        assert abs(box["width"] - width) <= 1
        scroller = shown.panel().locator(".ms-scroller")
        assert scroller.evaluate("(scroller) => scroller.scrollWidth <= scroller.clientWidth")


def test_chips_for_which_there_is_no_room_are_counted(shown):
    chips = shown.page.locator("tr[data-page='rna.X'] .ms-chip")
    with narrowed(shown, 1400):
        assert [text.strip() for text in chips.all_inner_texts()][1:] == ["engines 0-1"]
    with narrowed(shown, 440):
        assert chips.all_inner_texts()[1:] == ["+1"]
        assert "engines" in chips.nth(1).get_attribute("title")


def test_all_buttons_of_the_table_end_at_one_line(shown):
    with narrowed(shown, 1100):
        rights = shown.panel().evaluate(
            """(panel) => ['tr.ms-group button', 'tr.ms-page .ms-icon path', '.ms-head button']
                .map((kind) => panel.querySelector(kind).getBoundingClientRect().right)"""
        )
        assert max(rights) - min(rights) <= 1.5


@contextlib.contextmanager
def narrowed(book, width):
    """Give the panel a width, in pixels."""
    book.page.set_viewport_size({"width": 2300, "height": 1000})
    book.panel().evaluate("(panel, width) => { panel.style.width = `${width}px`; }", width)
    book.page.wait_for_function(
        "(width) => Math.abs(document.querySelector('.memshare-panel').clientWidth - width) <= 2",
        arg=width,
    )
    book.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => "
                       "requestAnimationFrame(() => requestAnimationFrame(done))))")  # fmt: skip
    try:
        yield
    finally:
        book.panel().evaluate("(panel) => { panel.style.width = ''; }")
        book.page.set_viewport_size({"width": 1400, "height": 1000})


@pytest.mark.parametrize(
    ("picture", "name", "width"),
    [
        ("panel-light", "JupyterLab Light", 1100),
        ("panel-dark", "JupyterLab Dark", 1100),
        ("panel-contrast", "JupyterLab Dark High Contrast", 1100),
        ("panel-narrow", "JupyterLab Light", 480),
    ],
)
def test_a_picture_for_the_documentation(shown, take, picture, name, width):
    with theme(shown, name), narrowed(shown, width):
        shown.press("X")
        shown.page.locator(".ms-holders tbody tr").nth(2).wait_for()
        shown.page.locator(".ms-holders td", has_text="MB").first.wait_for()
        shown.page.mouse.move(0, 0)
        take(shown.panel(), picture)
        shown.press("X")


def test_a_picture_of_a_run_for_the_documentation(shown, take):
    with narrowed(shown, 1100):
        shown.start(3)
        run = shown.panel().locator(".ms-run:not([data-state])")
        run.wait_for()
        shown.page.wait_for_function(
            "() => Number(document.querySelector('.ms-run [role=progressbar]').ariaValueNow) > 500"
        )
        shown.page.mouse.move(0, 0)
        take(shown.panel(), "panel-run")
        run.get_by_role("button").click()
        shown.finished(3)


def test_jupyter_notebook_shows_the_panel(jupyter, opened):
    book = opened(
        jupyter("notebook"),
        ["import numpy as np, memshare_jupyter as ms", "ms.Panel('other')", ""],
        path="notebooks",
    )
    book.run(0)
    book.run(1)
    book.execute(2, "ms.register_variables('other', {'X': np.ones(9)})")
    book.has_pages("other.X")
    book.press("Release other.X")
    book.confirm("Release")
    book.has_pages()


def test_voila_shows_the_panel(lab, chromium):
    register = "ms.register_variables('other', {'X': np.ones(9)})"
    cells = [f"import numpy as np\nimport memshare_jupyter as ms\n{register}", "ms.Panel('other')"]
    name = lab.notebook("voila", cells)
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(f"{lab.url}/voila/render/{name}?token={lab.token}")
        page.locator("tr[data-page='other.X']").wait_for()
        page.get_by_role("button", name="Release other.X").click()
        page.locator("dialog").get_by_role("button", name="Release").click()
        page.locator("tr[data-page='other.X']").wait_for(state="detached")
        assert not page.locator("[class^=memshare-twin]").is_visible()
    finally:
        context.close()
