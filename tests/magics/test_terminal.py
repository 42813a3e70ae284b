"""A new user's session in a terminal's IPython: typed on a keyboard, read from the screen."""

from __future__ import annotations

import re
import sys
import time

import pexpect
import pytest

import memshare_jupyter as ms

PATIENCE_S = 30
ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[=>()][0-9A-Z]?)")


class Terminal:
    """An IPython behind a pseudo-terminal."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = ["-m", "IPython", "--no-banner", "--colors=nocolor", "--no-confirm-exit"]
        self._child = pexpect.spawn(
            *(sys.executable, [*command, "--HistoryManager.enabled=False"]),
            # It cannot be asked where its cursor is.
            env=environment | {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"},
            dimensions=(50, 116),
            timeout=PATIENCE_S,
            encoding="utf-8",
        )
        self._cell = 0
        self._await_prompt()

    def type(self, keys: str) -> None:
        """Press keys."""
        self._child.send(keys)

    def sees(self, text: str) -> None:
        """Wait until a text has been written to the screen."""
        seen = ""
        deadline = time.monotonic() + PATIENCE_S
        while text not in ESCAPE.sub("", seen):
            assert time.monotonic() < deadline, seen
            seen += self._child.read_nonblocking(4096, timeout=PATIENCE_S)

    def run(self, cell: str = "") -> str:
        """Type the rest of a cell, and Enter; return what is on the screen afterwards."""
        # A cell magic's body ends with two empty lines.
        ending = "\r\r\r" if "\n" in cell else "\r"
        self._child.send(cell.replace("\n", "\r") + ending)
        return self._await_prompt()

    def _await_prompt(self) -> str:
        self._cell += 1
        self._child.expect_exact(f"In [{self._cell}]:")
        return ESCAPE.sub("", self._child.before)

    def close(self) -> None:
        self._child.close(force=True)


@pytest.fixture
def terminal(child_environment, tmp_path):
    made = Terminal(child_environment | {"IPYTHONDIR": str(tmp_path)})
    try:
        yield made
    finally:
        made.close()


@pytest.mark.slow
def test_a_session_in_a_terminal(terminal):
    terminal.run("%load_ext memshare_jupyter")
    terminal.run("import numpy as np")
    said = terminal.run("%%memshare register rna\nX = np.ones((30, 4))\ny = np.arange(30)\nX.sum()")
    assert "120.0" in said
    assert "rna.X" in said
    table = terminal.run("%memshare")
    assert re.search(r"page +kind +shape +dtype .* state", table)
    assert "this ipython" in table
    terminal.run("def score(column, y): return float(column @ y)")
    terminal.type("res = %memapply rna.\t")
    terminal.sees("rna.y")  # the menu that Tab opens
    terminal.type("X --fn sco\t")
    terminal.sees("score")
    terminal.run(" --vars y")
    assert "[435.0, 435.0, 435.0, 435.0]" in terminal.run("res")
    said = terminal.run("%memshare atach rna.X")
    assert "has no subcommand 'atach'; did you mean attach?" in said
    assert "Traceback" not in said
    said = terminal.run(
        "%%memshare register rna\nimport asyncio\nawait asyncio.sleep(0)\nz = X + 1"
    )
    assert "rna.z" in said
    said = terminal.run("%%memapply rna.X\n1 / 0")
    assert said.count("Traceback") == 1
    assert "MemApplyError: cell failed at index" in said
    assert "memshare_jupyter/" not in said
    terminal.run("%unload_ext memshare_jupyter")
    assert ms.snapshot().pages == ()
