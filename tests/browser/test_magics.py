"""A new user's session with the magics, typed into JupyterLab; what it looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

SESSION = [
    "%load_ext memshare_jupyter\nimport numpy as np",
    (
        "%%memshare register rna\n"
        "X = np.random.default_rng(1).normal(size=(10_446, 400))\n"
        "y = np.arange(10_446) % 32"
    ),
    "%memshare register rna y --dtype int8 --replace",
    "def score(gene, y): return abs(float(np.corrcoef(gene, y)[0, 1]))",
    "res = %memapply rna.X --fn score --vars y",
    "%%memapply rna.X --vars y -o high\nfloat(v[y == 3].mean())",
    "%memshare attach rna.X --as genes --engines",
    "%%px\nprint(genes.shape, float(genes[0, 0]))",
    "%memshare",
    "%memshare info rna.X",
    "%memshare list rnaa",
    "%memshare attach rna.x",
    "%%memapply rna.X --margin rows -o res\nassert v[0] < 3.2, 'too high'\nv.max()",
]


class Typist:
    """Types cells into a notebook as a user does."""

    def __init__(self, book) -> None:
        self.book = book
        self.keys = book.page.keyboard

    def type(self, i: int, source: str) -> None:
        """Type into cell `i`, without what the editor would add by itself."""
        self.book.cell(i).locator(".cm-content").first.click()
        for k, line in enumerate(source.split("\n")):
            if k:
                self.keys.press("Enter")
            self.keys.type(line)

    def run(self, i: int, source: str) -> str:
        """Type a cell and run it; return what it shows."""
        self.type(i, source)
        self.keys.press("Shift+Enter")
        return self.book.finished(i)

    def tab(self) -> list[str]:
        """Press Tab and take the first proposal; return all."""
        self.keys.press("Tab")
        proposals = self.book.page.locator(".jp-Completer-item .jp-Completer-match")
        proposals.first.wait_for()
        found = proposals.all_inner_texts()
        self.keys.press("Enter")
        proposals.first.wait_for(state="hidden")
        return found


@pytest.fixture(scope="module")
def book(lab, module_opened):
    return module_opened(lab, [""] * (len(SESSION) + 1))


@pytest.fixture(scope="module")
def shown(book):
    """What each cell of the session shows."""
    typist = Typist(book)
    return [typist.run(i, source) for i, source in enumerate(SESSION)]


# First, because it needs the namespace for itself.
def test_the_session_is_the_same_in_notebook_7(jupyter, opened):
    typist = Typist(opened(jupyter("notebook"), [""] * (len(SESSION) + 1), path="notebooks"))
    check([typist.run(i, source) for i, source in enumerate(SESSION)])


def test_the_session_of_a_new_user_shows_what_it_should(shown):
    check(shown)


def check(shown: list[str]) -> None:
    load, register, replace, define, apply, cell, attach, px, table, info, wrong, near, fails = (
        shown
    )
    assert (load, define, cell) == ("", "", "")
    assert "33.4 MB" in register
    assert "X, y here are second copies" in register
    assert "second cop" not in replace
    assert "starting a local cluster" in apply
    assert "genes is a view on engine" in attach
    assert "(10446, 400)" in px
    assert "this notebook" in table
    assert "owner" in info
    assert "did you mean rna?" in wrong
    assert near.strip() == "UsageError: no page rna.x (namespace 'rna' has: X, y); did you mean X?"
    assert fails.count("AssertionError: too high") == 2  # in the traceback, and in our summary
    assert "MemApplyError: cell failed at index" in fails


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_session_reads_well_in_both_themes(book, shown, theme, screenshots):
    book.page.evaluate(
        "(theme) => jupyterapp.commands.execute('apputils:change-theme', { theme })", theme
    )
    light = theme.endswith("Light")
    book.page.wait_for_function(
        "(light) => document.body.dataset.jpThemeLight === light", arg=str(light).lower()
    )
    book.page.locator("#jupyterlab-splash").wait_for(state="detached")
    faint = book.page.evaluate(CONTRAST)
    assert faint == []
    if screenshots:
        name = f"magics-{'light' if light else 'dark'}.png"
        book.page.set_viewport_size({"width": 1150, "height": 1800})
        book.page.evaluate("() => jupyterapp.shell.collapseLeft()")
        book.cell(0).scroll_into_view_if_needed()
        book.cell(len(SESSION) - 1).scroll_into_view_if_needed()
        # Up to the last cell of the session.
        inner = book.page.locator(".jp-WindowedPanel-inner").first.bounding_box()
        end = book.cell(len(SESSION) - 1).bounding_box()
        clip = inner | {"height": end["y"] + end["height"] - inner["y"]}
        book.page.screenshot(path=DOCS / name, clip=clip)


def test_tab_completes_subcommands_pages_and_functions_in_the_browser(book, shown):
    typist = Typist(book)
    last = len(SESSION)
    typist.type(last, "%memshare regis")
    assert typist.tab() == ["register"]
    typist.keys.type(" rna")
    typist.keys.press("Enter")
    typist.keys.type("%memapply rna.")
    assert typist.tab() == ["rna.X", "rna.y"]
    typist.keys.type(" --fn sc")
    assert typist.tab() == ["score"]
    text = book.cell(last).locator(".cm-content").first.inner_text()
    assert text == "%memshare register rna\n%memapply rna.X --fn score"


# The WCAG contrast of each text of ours against what is behind it; those below 4.5.
CONTRAST = """
() => {
    const parse = (color) => color.match(/[\\d.]+/g).map(Number);
    const over = ([r, g, b, a = 1], behind) =>
        [r, g, b].map((c, k) => a * c + (1 - a) * behind[k]);
    const luminance = (color) => {
        const [r, g, b] = color.map((c) => c / 255)
            .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const own = parse(getComputedStyle(element).backgroundColor);
        if (own[3] === undefined || !element.parentElement) return own.slice(0, 3);
        return over(own, behind(element.parentElement));
    };
    const faint = [];
    for (const cell of document.querySelectorAll(
            '.jp-RenderedHTML th, .jp-RenderedHTML td, .jp-RenderedHTML div')) {
        const ground = behind(cell);
        const text = over(parse(getComputedStyle(cell).color), ground);
        const [a, b] = [luminance(text), luminance(ground)];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) faint.push([cell.innerText, contrast]);
    }
    return faint;
}
"""
