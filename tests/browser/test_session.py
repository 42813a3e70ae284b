"""The moving picture of the README: its cells, as they are typed and run in JupyterLab."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
CELLS = re.findall(
    r"^```ipython\n(.*?)\n```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)
UNSEEN = """
import socket
socket.gethostname = lambda: "workstation"  # pictures are for everybody
"""
WIDTH = 900
TYPED_MS, READ_MS = 600, 2200


class Film:
    """Frames of a notebook, and how long each is to be seen."""

    def __init__(self, book) -> None:
        self.book = book
        self.frames: list[Image.Image] = []
        self.shown_ms: list[int] = []

    def take(self, shown_ms: int) -> None:
        picture = self.book.page.locator(".jp-NotebookPanel-notebook").screenshot()
        frame = Image.open(io.BytesIO(picture)).convert("RGB")
        height = round(frame.height * WIDTH / frame.width)
        self.frames.append(frame.resize((WIDTH, height), Image.Resampling.LANCZOS))
        self.shown_ms.append(shown_ms)

    def save(self, path: Path) -> None:
        first, *others = self.frames
        first.save(
            path, save_all=True, append_images=others, duration=self.shown_ms,
            loop=0, quality=70, method=6,
        )  # fmt: skip


@pytest.fixture
def book(lab, opened):
    book = opened(lab, [""] * (len(CELLS) + 1))
    book.page.set_viewport_size({"width": 1000, "height": 820})
    book.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    book.page.evaluate(
        """(code) => jupyterapp.shell.currentWidget.sessionContext.session.kernel
            .requestExecute({ code, silent: true, store_history: false }).done.then(() => true)""",
        UNSEEN,
    )
    return book


def test_the_readme_is_a_session_in_a_notebook(book, screenshots, tmp_path):
    film = Film(book)
    shown = []
    for i, source in enumerate([*CELLS, "%memshare panel rna"]):
        lines = source.split("\n")
        for k in range(0, len(lines), 3):
            book.text(i, "\n".join(lines[: k + 3]))
            film.take(TYPED_MS)
        book.text(i, source)
        shown.append(book.run(i))
        if i == len(CELLS):
            book.has_pages("rna.X", "rna.diagnosis")
            book.page.locator(".memshare-panel").scroll_into_view_if_needed()
        else:
            book.cell(i + 1).scroll_into_view_if_needed()
        film.take(READ_MS)
    assert "rna.X" in shown[1]
    assert "gene 7" in "".join(shown[2:])
    path = (ROOT / "docs" if screenshots else tmp_path) / "session.webp"
    film.save(path)
    with Image.open(path) as saved:
        assert saved.n_frames >= len(CELLS)
    assert path.stat().st_size < 1_000_000
