"""What an open panel costs in JupyterLab: the kernel, the page of the browser, and the line.

Run ``python -m tests.benchmarks.bench_panel_page``; it needs Chromium. Kernel and tab are shares of
a processor, the line is everything that the server sends over the notebook's websocket.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.benchmarks.bench_panel import OWNER
from tests.browser.conftest import FLAGS, Notebook, Server

ATTACH = """
import os, threading, time
import memshare_jupyter as ms
found = ms.snapshot().pages
if {views}:
    for namespace in {{page.namespace for page in found}}:
        names = [page.variable for page in found if page.namespace == namespace]
        _ = ms.retrieve_views(namespace, names)
print(os.getpid())
"""
TICK_S = os.sysconf("SC_CLK_TCK")


class Meter:
    """Adds up what a notebook costs from one reading to the next."""

    def __init__(self, page, kernel: int) -> None:
        self._kernel = kernel
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self._session.send("Network.enable")
        self._received = 0
        self._session.on("Network.webSocketFrameReceived", self._hear)

    def _hear(self, event) -> None:
        self._received += len(event["response"]["payloadData"])

    def read(self) -> dict[str, float]:
        fields = Path(f"/proc/{self._kernel}/stat").read_text().rpartition(")")[2].split()
        found = self._session.send("Performance.getMetrics")["metrics"]
        page = {one["name"]: one["value"] for one in found}
        return {
            "at": time.monotonic(),
            "kernel": (int(fields[11]) + int(fields[12])) / TICK_S,
            "tab": page["TaskDuration"],
            "heap": page["JSHeapUsedSize"],
            "bytes": float(self._received),
        }


def scene(
    open_notebook, owner: subprocess.Popen, seconds: int, *, views=False, opened=False, changes=0
) -> dict[str, object]:
    """Measure one scene, in a notebook of its own."""
    book = open_notebook([ATTACH.format(views=views), "ms.Panel()"])
    kernel = int(book.run(0))
    book.run(1)
    book.is_("live")
    if opened:
        book.page.locator(".ms-open").first.click()
    meter = Meter(book.page, kernel)
    book.page.wait_for_timeout(8000)  # the unasked messages are over
    if changes:
        owner.stdin.write(f"1 {changes} {seconds + 3}\n")
        owner.stdin.flush()
        book.page.wait_for_timeout(1000)
    before = meter.read()
    book.page.wait_for_timeout(1000 * seconds)
    after = meter.read()
    if changes:
        owner.stdout.readline()
    took = after["at"] - before["at"]
    return {
        "views": views,
        "opened": opened,
        "changes_per_s": changes,
        "kernel_percent": round(100 * (after["kernel"] - before["kernel"]) / took, 2),
        "tab_percent": round(100 * (after["tab"] - before["tab"]) / took, 1),
        "kB_per_s": round((after["bytes"] - before["bytes"]) / took / 1000, 1),
        "heap_MB": round(after["heap"] / 1e6),
    }


def measure(browser, server: Server, pages: int, seconds: int) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(pages)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    scenes = [{}]
    if pages:
        scenes += [{"changes": 50}, {"views": True, "opened": True}]
        scenes += [{"views": True, "opened": True, "changes": 50}]
    try:
        owner.stdout.readline()
        for i, one in enumerate(scenes):
            context = browser.new_context(viewport={"width": 1400, "height": 1000})
            context.set_default_timeout(60_000)

            def open_notebook(cells, context=context, name=f"panel{pages}-{i}"):
                return Notebook(context.new_page(), server, server.notebook(name, cells))

            print(json.dumps({"pages": pages, **scene(open_notebook, owner, seconds, **one)}))
            context.close()
            server.end_sessions()
    finally:
        owner.stdin.close()
        owner.stdout.close()
        owner.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, nargs="+", default=[0, 5000])
    parser.add_argument("--seconds", type=int, default=20, help="of each scene")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        server = Server(Path(folder, "lab"), dict(os.environ))
        try:
            server.wait_until_up()
            for pages in arguments.pages:
                measure(browser, server, pages, arguments.seconds)
        finally:
            server.stop()
            browser.close()


if __name__ == "__main__":
    main()
