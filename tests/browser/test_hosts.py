"""The panel's section of hosts, in JupyterLab; what they would say is said by the kernel itself."""

from __future__ import annotations

import pytest

SAID = """
from memshare_jupyter.engines.hosts import Seen, Told
from memshare_jupyter.panel import _feed
ms.register_variables("rna", {"X": np.zeros(1_000_000)})
(page,) = ms.snapshot().pages
replicas = [("rna.X", 8_000_000), *((f"rna.v{i}", 1000 * i) for i in range(1, 9))]
said = [
    Seen("node1", [0, 1, 2, 3], "", Told(1, 8_000_000, 12_300_000_000, [], [])),
    Seen("node2", [4, 5, 7], "", Told(9, 8_036_000, 9_800_000_000, replicas, [])),
    Seen("node3", [8], "no route to host",
         Told(0, 0, 15_000_000_000, [], [(page.uuid, 3_000_000, 8_000_000)])),
    Seen("node4", [9], "", None),
]
_feed.seen = lambda: said
"""


@pytest.fixture
def hosts(book):
    book.execute(2, SAID)
    book.panel().locator(".ms-of-host").nth(3).wait_for()
    yield book.panel().locator(".ms-hosts")
    book.execute(2, "_feed.seen = lambda: []\nms.release_variables('rna')")


def test_each_host_says_what_it_has_and_what_is_on_its_way(book, hosts, take):
    texts = [" ".join(text.split()) for text in hosts.locator(".ms-of-host").all_inner_texts()]
    first, second, third, last = (text.replace("\N{EN DASH}", " to ") for text in texts)
    assert first == "node1 engines 0 to 3 · 1 page, 8.0 MB · 12.3 GB free"
    begin = "node2 engines 4 to 5, 7 · 9 pages, 8.0 MB · 9 replicas, 8.0 MB · 9.8 GB free "
    assert second.startswith(begin + "Replicas: rna.X 8.0 MB, rna.v1 1.0 kB, ")
    assert second.endswith(", rna.v5 5.0 kB, 3 more")
    begin = "node3 by messages engine 8 · 0 pages, 0 B · 15.0 GB free"
    assert third == f"{begin} rna.X → 3.0 MB of 8.0 MB"
    assert last == "node4 engine 9 · not heard of yet"
    bar = hosts.get_by_role("progressbar", name="rna.X to node3")
    assert (bar.get_attribute("aria-valuenow"), bar.get_attribute("aria-valuemax")) == (
        "3000000",
        "8000000",
    )
    take(book.panel(), "panel-hosts")


def test_what_is_over_goes(book, hosts):
    book.execute(2, "said[2:] = [said[2]._replace(told=said[2].told._replace(transfers=[]))]")
    book.panel().locator(".ms-of-host").nth(3).wait_for(state="detached")
    assert hosts.get_by_role("progressbar").count() == 0
    book.execute(2, "said.clear()")
    hosts.wait_for(state="hidden")


def test_axe_finds_nothing(book, hosts):
    from axe_playwright_python.sync_playwright import Axe

    hosts.wait_for()
    found = Axe().run(book.page, context=".memshare-panel").response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
