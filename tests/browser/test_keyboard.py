"""The panel by keyboard only: nothing in this file touches the mouse. Axe looks at each step."""

from __future__ import annotations

import pytest

from tests.browser.test_look import violations

CELLS = [
    """
import numpy as np, memshare_jupyter as ms
ms.register_variables('rna', {'X': np.ones((30, 20)), 'y': np.arange(30)})
ms.register_variables('other', {f'x{i}': np.ones(3) for i in range(40)})
view = ms.retrieve_views('rna', 'X')['X']
""",
    "ms.Panel()",
    """
def slow(v):
    import time
    time.sleep(0.1)
cluster = ms.local_cluster(1, quiet=True)
run = ms.memapply(np.ones((2, 900)), 'cols', slow, cluster=cluster, block=False)
""",
]
FOCUS = """
() => {
    const one = document.activeElement;
    if (!one?.closest('.memshare-panel')) return '';
    return one.getAttribute('aria-label') ?? one.innerText.trim();
}
"""


class Keys:
    """Hands on the keyboard."""

    def __init__(self, book) -> None:
        self.book = book
        self.press = book.page.keyboard.press
        self.type = book.page.keyboard.type

    def at(self) -> str:
        return self.book.page.evaluate(FOCUS)

    def to(self, name: str, key: str = "Tab", most: int = 150) -> None:
        """Press Tab until something of the panel has the focus that is called so."""
        seen = []
        for _ in range(most):
            if (here := self.at()) == name:
                # Whoever cannot see a pointer must see where they are.
                assert self.book.page.evaluate(
                    "() => getComputedStyle(document.activeElement).outlineStyle !== 'none'"
                )
                return
            seen.append(here)
            self.press(key)
        pytest.fail(f"{name} cannot be reached; there were {list(dict.fromkeys(seen))}")


@pytest.fixture
def keys(lab, opened):
    book = opened(lab, CELLS)
    for i in range(2):
        book.page.keyboard.press("Shift+Enter")
        book.finished(i)
    book.is_("live")
    return Keys(book)


def test_everything_can_be_done_without_a_mouse(keys):
    book = keys.book
    keys.press("Escape")  # from the cell's editor into its notebook
    keys.to("Filter pages")
    keys.type("rna")
    book.has_pages("rna.X", "rna.y")
    assert violations(book) == []

    keys.to("Size")
    keys.press("Enter")
    book.page.locator("th[data-column=size][aria-sort=descending]").wait_for()
    keys.to("X")
    keys.press("Enter")
    book.page.locator("[data-details='rna.X'] .ms-holders td", has_text="owner").wait_for()
    assert violations(book) == []

    keys.to("Detach rna.X")
    keys.press("Space")
    book.panel().locator("dialog").wait_for()
    assert keys.at() == "Keep"  # nothing is done by a second Enter
    assert violations(book) == []
    keys.press("Escape")
    book.panel().locator("dialog").wait_for(state="hidden")
    assert keys.at() == "Detach rna.X"  # one goes on from where one was

    keys.to("Release rna.y")
    keys.press("Enter")
    keys.to("Release")
    keys.press("Enter")
    book.has_pages("rna.X")
    book.says("released rna.y")
    assert keys.at() != ""  # in the panel still

    keys.to("Filter pages", "Shift+Tab")
    for _ in "rna":
        keys.press("Backspace")
    book.page.locator("tr[data-page='other.x0']").wait_for()
    scroller = book.panel().locator(".ms-scroller")
    before = scroller.bounding_box()["height"]
    keys.to("Height of the table")
    keys.press("ArrowDown")
    assert scroller.bounding_box()["height"] > before + 90
    keys.to("Shared pages, scrollable", "Shift+Tab")
    keys.press("End")
    book.page.wait_for_function("() => document.querySelector('.ms-scroller').scrollTop > 100")
    assert violations(book) == []

    keys.to("Release all of other", "Shift+Tab")
    keys.press("Enter")
    keys.to("Release all")
    keys.press("Enter")
    book.has_pages("rna.X")

    book.run(2)
    cancel = "Cancel slow over 900 columns of slow.X"
    book.panel().get_by_role("button", name=cancel).wait_for()
    keys.press("Escape")
    keys.to(cancel)
    assert violations(book) == []
    keys.press("Enter")
    book.panel().locator(".ms-run[data-state=cancelled]").wait_for()
    assert keys.at() != ""
    assert violations(book) == []
