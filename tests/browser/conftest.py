"""A Jupyter server and a browser, and what a user does with them. All of it is slow."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest

PATIENCE_S = 30.0
DOCS = Path(__file__).parents[2] / "docs"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update"),
]


def settings(folder: Path, extra: dict[str, dict[str, object]]) -> Path:
    """Write JupyterLab's settings: no news, all cells in the document, and `extra`."""
    every = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},
        **extra,
    }
    for name, values in every.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    return folder


_prctl = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG = 1


def _end_with_the_tests() -> None:
    """Have the server end when the tests do, however they end; its kernels end with it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Server:
    """A Jupyter application on loopback, in a process group and with settings of its own."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        app: str = "jupyterlab",
        extra_settings: dict[str, dict[str, object]] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.root = folder / "notebooks"
        self.root.mkdir(parents=True)
        self.token = secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        own = {
            name: str(folder / name.lower())
            for name in (
                *("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"),
                "JUPYTERLAB_WORKSPACES_DIR",
            )
        }
        own["JUPYTERLAB_SETTINGS_DIR"] = str(settings(folder / "settings", extra_settings or {}))
        command = [
            *(sys.executable, "-m", app, "--no-browser", "--allow-root", "--ip=127.0.0.1"),
            *(f"--port={self.port}", "--ServerApp.port_retries=0"),
            *(f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={self.root}"),
            "--LabApp.expose_app_in_browser=True",
            *("--JupyterNotebookApp.expose_app_in_browser=True", *options),
        ]
        self.log = folder / "server.log"
        with self.log.open("w") as log:
            ends = {"stdout": log, "stderr": log, "start_new_session": True}
            self._process = subprocess.Popen(
                command,
                env=environment | own,
                preexec_fn=_end_with_the_tests,  # noqa: PLW1509 -- one system call
                **ends,
            )

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError):
                self.request("GET", "api/status")
                return
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def request(self, method: str, path: str):
        """Call the server's API."""
        request = urllib.request.Request(  # noqa: S310 -- our own server
            f"{self.url}/{path}",
            method=method,
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            return json.loads(answer.read() or "null")

    def notebook(self, name: str, cells: list[str]) -> str:
        """Write a notebook and return its name."""
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(book, self.root / f"{name}.ipynb")
        return f"{name}.ipynb"

    def end_sessions(self, name: str = "") -> None:
        """Shut all kernels down, or that of a notebook."""
        for session in self.request("GET", "api/sessions"):
            if session["path"].endswith(name):
                with contextlib.suppress(OSError):
                    self.request("DELETE", f"api/sessions/{session['id']}")

    def stop(self) -> None:
        """End the server and all it started."""
        kernels = []
        try:
            with contextlib.suppress(OSError):
                kernels = self._kernel_groups()
                self.end_sessions()
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        finally:
            for group in (self._process.pid, *kernels):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            self._process.wait(10)

    def _kernel_groups(self) -> list[int]:
        """Process groups of the kernels: each leads one of its own."""
        groups = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent, group = stat.read_text().rpartition(")")[2].split()[1:3]
                if int(parent) == self._process.pid and int(group) != self._process.pid:
                    groups.add(int(group))
        return sorted(groups)


LINE = """
// The line to the kernel, as a test wants it: slow, losing messages, or cut (close what is open).
window.line = { delay: 0, lose: 0, which: '"comm_msg"', renewed: 0, open: new Set() };
window.WebSocket = class extends WebSocket {
    constructor(...address) {
        super(...address);
        line.open.add(this);
    }
    send(data) {
        if (line.delay) setTimeout(() => super.send(data), line.delay);
        else super.send(data);
    }
    set onmessage(hear) {
        super.onmessage = (event) => {
            const text = typeof event.data === 'string' ? event.data
                : new TextDecoder().decode(event.data);
            if (text.includes('"update_display_data"')) line.renewed += 1;
            if (line.lose && text.replaceAll('": ', '":').includes(line.which)) {
                line.lose -= 1;
                return;
            }
            if (line.delay) setTimeout(() => hear(event), line.delay);
            else hear(event);
        };
    }
};
"""


class Notebook:
    """An open notebook: its cells, its kernel's state, its panel."""

    def __init__(self, page, server: Server, name: str, path: str = "lab/tree") -> None:
        self.page = page
        self.server = server
        self.name = name
        self.path = path
        self.faults: list[str] = []
        page.on("pageerror", self._fault)
        self.open()

    def _fault(self, error) -> None:
        # JupyterLab and Notebook have faults of their own; our module comes from a blob.
        if "blob:" in (error.stack or "") or "ResizeObserver" in str(error):
            self.faults.append(f"{error}\n{error.stack}")

    def open(self) -> None:
        """Load it, or load it again, and wait for its kernel."""
        # A workspace of its own, and none of what an earlier test had open.
        address = f"{self.server.url}/{self.path}/{self.name}?reset&token={self.server.token}"
        self.page.goto(address)
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.isReady"
        )
        self.page.wait_for_function(
            "() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
        )

    @property
    def kernel_id(self) -> str:
        return self.page.evaluate(
            "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.id"
        )

    def cell(self, i: int):
        return self.page.locator(".jp-CodeCell").nth(i)

    def panel(self, i: int = 0):
        return self.page.locator(".memshare-panel").nth(i)

    def save(self) -> None:
        """Save it."""
        self.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
        self.page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")

    def second_tab(self) -> Notebook:
        """Save it, and open it in another tab of the browser."""
        self.save()
        return Notebook(self.page.context.new_page(), self.server, self.name, self.path)

    def restart(self) -> None:
        """Restart its kernel."""
        self.page.evaluate(
            "() => { jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"
        )

    def start(self, i: int) -> str:
        """Begin to run cell `i`; return its prompt of before."""
        # After a restart it may have the number again that it had, and too soon to be seen without.
        self.page.evaluate(
            """(i) => {
                const cell = jupyterapp.shell.currentWidget.content.widgets[i];
                cell.model.executionCount = null;
            }""",
            i,
        )
        before = self.cell(i).locator(".jp-InputPrompt").first.inner_text()
        self.page.evaluate(
            """(i) => {
                jupyterapp.shell.currentWidget.content.activeCellIndex = i;
                jupyterapp.commands.execute('notebook:run-cell');
            }""",
            i,
        )
        self.page.wait_for_function(
            """([i, before]) => {
                const cell = document.querySelectorAll('.jp-CodeCell')[i];
                return cell.querySelector('.jp-InputPrompt').innerText !== before;
            }""",
            arg=[i, before],
        )
        return before

    def finished(self, i: int, timeout_s: float = 60.0) -> str:
        """Wait until cell `i` has run; return what it printed."""
        self.page.wait_for_function(
            r"""(i) => {
                const cell = document.querySelectorAll('.jp-CodeCell')[i];
                return /\[\d+\]/.test(cell.querySelector('.jp-InputPrompt').innerText);
            }""",
            arg=i,
            timeout=timeout_s * 1000,
        )
        return self.cell(i).locator(".jp-OutputArea").first.inner_text()

    def run(self, i: int) -> str:
        """Run cell `i`; return what it printed."""
        self.start(i)
        return self.finished(i)

    def text(self, i: int, source: str) -> None:
        """Write another source into cell `i`."""
        self.page.evaluate(
            """([i, source]) => jupyterapp.shell.currentWidget.content.widgets[i]
                .model.sharedModel.setSource(source)""",
            [i, source],
        )

    def execute(self, i: int, source: str) -> str:
        """Run other code in cell `i`."""
        self.text(i, source)
        return self.run(i)

    def pages(self) -> list[str]:
        """Return the pages in sight, as the panel names them."""
        return self.page.eval_on_selector_all(
            "tr.ms-page", "rows => rows.map((row) => row.dataset.page)"
        )

    def has_pages(self, *names: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until exactly these pages are in sight."""
        self.page.wait_for_function(
            """(names) => JSON.stringify(names) === JSON.stringify(
                [...document.querySelectorAll('tr.ms-page')].map((row) => row.dataset.page))""",
            arg=list(names),
            timeout=timeout_s * 1000,
        )

    def says(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the line at the foot says so."""
        message = self.page.locator(".ms-message", has_text=text).first
        message.wait_for(timeout=timeout_s * 1000)

    def is_(self, status: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait for a badge: live, paused, stale, error."""
        self.page.locator(f".ms-badge[data-status={status}]").first.wait_for(
            timeout=timeout_s * 1000
        )

    def press(self, name: str) -> None:
        """Press a button of the panel's."""
        self.panel().get_by_role("button", name=name, exact=True).click()

    def confirm(self, verb: str) -> str:
        """Agree to the question that is asked; return its text."""
        dialog = self.panel().locator("dialog")
        dialog.wait_for()
        text = dialog.inner_text()
        dialog.get_by_role("button", name=verb, exact=True).click()
        return text


# --- fixtures ----------------------------------------------------------------------------


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)
    # Last, because Playwright keeps an event loop running in this thread from then on.
    items.sort(key=lambda item: here in item.path.parents)


@pytest.fixture(scope="session")
def chromium():
    """A browser. Where there is none these tests are skipped, but not where they must run."""
    try:
        from playwright.sync_api import sync_playwright

        path = shutil.which("chromium") or shutil.which("chromium-browser")
        lacking = "" if path else "there is no chromium; apt-get install chromium"
    except ImportError:
        lacking = "there is no playwright; pip install playwright"
    if lacking:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="session")
def jupyter(chromium, child_environment, tmp_path_factory):
    """Start a Jupyter application; all are ended after the tests."""
    started = []

    def start(app: str = "jupyterlab", extra_settings=None, options=()) -> Server:
        folder = tmp_path_factory.mktemp(app)
        started.append(Server(folder, child_environment, app, extra_settings, options))
        started[-1].wait_until_up()
        return started[-1]

    try:
        yield start
    finally:
        for server in started:
            server.stop()


@pytest.fixture(scope="session")
def lab(jupyter):
    """JupyterLab as it is installed."""
    return jupyter()


@contextlib.contextmanager
def notebooks(chromium):
    """Open notebooks, each in a page of its own; in the end all are closed and without kernel."""
    books = []

    def open_notebook(server: Server, cells: list[str], path: str = "lab/tree") -> Notebook:
        context = chromium.new_context(
            viewport={"width": 1400, "height": 1000},
            permissions=["clipboard-read", "clipboard-write"],
        )
        ending.callback(context.close)
        context.set_default_timeout(PATIENCE_S * 1000)
        context.add_init_script(LINE)
        name = server.notebook(secrets.token_hex(4), cells)
        ending.callback(server.end_sessions, name)
        books.append(Notebook(context.new_page(), server, name, path))
        return books[-1]

    with contextlib.ExitStack() as ending:
        yield open_notebook
    assert [fault for book in books for fault in book.faults] == [], "errors in the page"


@pytest.fixture
def opened(chromium):
    """Open a notebook for one test."""
    with notebooks(chromium) as open_notebook:
        yield open_notebook


@pytest.fixture(scope="module")
def module_opened(chromium):
    """Open a notebook for the tests of a module."""
    with notebooks(chromium) as open_notebook:
        yield open_notebook


@pytest.fixture(scope="session")
def screenshots():
    """Whether the pictures in docs/ shall be made anew: with ``MEMSHARE_SCREENSHOTS=1``."""
    return os.environ.get("MEMSHARE_SCREENSHOTS") == "1"


@pytest.fixture
def take(screenshots, tmp_path):
    """Take a picture, which replaces the one in docs/ if it shall."""
    folder = DOCS if screenshots else tmp_path

    def take_picture(locator, name: str) -> None:
        path = folder / f"{name}.png"
        locator.screenshot(path=path, animations="disabled")
        assert path.stat().st_size > 5000

    return take_picture


SETUP = """
import os, signal, threading, time
import numpy as np
import memshare_jupyter as ms
from memshare_jupyter.core.registry._process import registry
print(os.getpid())
"""


@pytest.fixture(scope="module")
def module_book(lab, module_opened):
    """A notebook for the tests of a module: setup, panel, and a cell to be filled in."""
    book = module_opened(lab, [SETUP, "panel = ms.Panel()\npanel", ""])
    book.pid = int(book.run(0))
    return book


@pytest.fixture
def book(module_book):
    """That notebook with nothing shared and a panel just made."""
    module_book.run(1)
    module_book.is_("live")
    module_book.has_pages()
    yield module_book
    module_book.finished(2)
    module_book.execute(2, "%reset -f out\nX = None\nms.local_cluster(1, quiet=True).stop() "
                           "if 'cluster' in globals() else None\nregistry().gc()")  # fmt: skip
