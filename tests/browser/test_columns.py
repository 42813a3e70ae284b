"""The columns of the panel's table: what is in them is seen where there is room for it."""

from __future__ import annotations

import pytest

from tests.browser.test_look import narrowed

LONG = """
import pandas as pd
ms.register_variables("leukemia_of_children", {
    "expression": pd.DataFrame(np.zeros((5000, 50), "f4")), "diagnosis": pd.Categorical(["a", "b"]),
    **{f"normalised_expression_matrix_of_replicate_{i}": np.zeros(9) for i in range(13)},
})
"""


@pytest.fixture(scope="module")
def long_names(lab, module_opened):
    """A notebook whose panel shows long names and kinds."""
    pytest.importorskip("pandas")
    book = module_opened(lab, ["import numpy as np, memshare_jupyter as ms", "ms.Panel()", LONG])
    for i in range(3):
        book.run(i)
    book.page.locator("tr[data-page$=replicate_12]").wait_for()
    return book


@pytest.mark.parametrize(
    ("width", "least"), [(230, 8), (467, 12), (718, 20), (960, 30), (1220, 34), (1700, 41)]
)
def test_the_variable_has_the_free_space_and_other_columns_what_they_need(long_names, width, least):
    with narrowed(long_names, width):
        panel = long_names.panel()
        cut = panel.evaluate(
            """(panel) => [...panel.querySelectorAll('.ms-page td, .ms-page .ms-chip')]
                .filter((element) => element.scrollWidth > element.clientWidth)
                .map((element) => element.innerText)"""
        )
        assert cut == []
        scroller = panel.locator(".ms-scroller")
        assert scroller.evaluate("(scroller) => scroller.scrollWidth <= scroller.clientWidth")
        # Of a name as many characters are seen, head and end, as are said here.
        name = panel.locator("tr[data-page$=replicate_12] .ms-name")
        px = name.evaluate("(name) => [...name.children].map((part) => part.clientWidth)")
        assert sum(px) / 7.3 >= least
        # What is left over is the variable's.
        assert panel.locator("thead th").evaluate_all(
            "(all) => all.filter((one) => !one.style.width).map((one) => one.dataset.column)"
        ) == ["name"]
