"""The magics through a real kernel, as a notebook's front end talks to it."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest

import memshare_jupyter as ms

SETUP = "%load_ext memshare_jupyter\nimport asyncio, numpy as np, memshare_jupyter as ms"


class Frontend:
    """A front end: what cells show, and what Tab proposes."""

    def __init__(self, client) -> None:
        self._client = client

    def run(self, code: str) -> list[dict]:
        """Run a cell; return what it shows, in order, each as its MIME types."""
        shown = []

        def look(message):
            kind, content = message["msg_type"], message["content"]
            if kind in ("execute_result", "display_data", "update_display_data"):
                display_id = content.get("transient", {}).get("display_id")
                shown.append({**content["data"], "kind": kind, "display_id": display_id})
            elif kind == "stream":
                shown.append({"text/plain": content["text"], "kind": content["name"]})
            elif kind == "error":
                text = "\n".join(content["traceback"])
                shown.append({"text/plain": text, "kind": "error", "name": content["ename"]})

        reply = self._client.execute_interactive(code, timeout=60, output_hook=look)
        self.status = reply["content"]["status"]
        return shown

    def text(self, code: str) -> str:
        return "\n".join(one["text/plain"] for one in self.run(code))

    def complete(self, code: str) -> list[str]:
        """Press Tab at the end of the code; return what the line may become."""
        reply = self._client.complete(code, reply=True, timeout=60)["content"]
        start, end = reply["cursor_start"], reply["cursor_end"]
        return [code[:start] + match + code[end:] for match in reply["matches"]]


@pytest.fixture(scope="module")
def kernel(child_environment):
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(env=child_environment, startup_timeout=60)
    try:
        frontend = Frontend(client)
        assert frontend.run(SETUP) == []
        yield frontend
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_a_registered_cell_may_await_and_shows_its_last_expression(kernel):
    shown = kernel.run(
        "%%memshare register rna\nawait asyncio.sleep(0.01)\nX = np.ones((2, 3))\nX.sum()"
    )
    assert kernel.status == "ok"
    assert [one["kind"] for one in shown] == ["execute_result", "display_data"]
    assert shown[0]["text/plain"] == "np.float64(6.0)"
    assert "rna.X" in shown[1]["text/plain"]
    assert "<table" in shown[1]["text/html"]
    assert kernel.text("_") == "np.float64(6.0)"  # as without the magic
    assert [page.name for page in ms.snapshot().pages] == ["rna.X"]
    kernel.run("%memshare release rna.X")


@pytest.mark.parametrize("before", ["", "await asyncio.sleep(0)\n"], ids=["", "awaiting"])
def test_an_error_in_a_registered_cell_is_shown_once_and_registers_nothing(kernel, before):
    shown = kernel.run(f"%%memshare register rna\n{before}X = np.ones(3)\n1 / 0")
    assert kernel.status == "error"
    text = "\n".join(one["text/plain"] for one in shown)
    assert text.count("Traceback (most recent call last)") == 1
    assert text.count("the cell failed, so nothing was registered") == 1
    assert ms.snapshot().pages == ()


def test_quiet_shows_nothing(kernel):
    assert kernel.run("%%memshare register rna -q\nX = np.ones(3)") == []
    assert kernel.run("%memshare attach rna.X -q") == []
    assert kernel.run("%memshare detach rna.X -q\n%memshare gc rna -q") == []


def test_what_the_user_can_mend_is_one_line(kernel):
    shown = kernel.run("%memshare attach rna.nope")
    assert kernel.status == "error"
    assert "".join(one["text/plain"] for one in shown).count("\n") <= 1


def test_tab_proposes_what_may_come_next(kernel):
    kernel.run("%%memshare register rna -q\nexpression = np.ones((3, 3))\ndef score(v): return 1")
    assert kernel.complete("%memshare rel") == ["%memshare release"]
    assert kernel.complete("%%memshare register rna --re") == ["%%memshare register rna --replace"]
    assert kernel.complete("%memshare attach rna.ex") == ["%memshare attach rna.expression"]
    assert kernel.complete("res = %memapply rn") == ["res = %memapply rna.expression"]
    assert kernel.complete("res = %memapply rna.expression --fn sc") == [
        "res = %memapply rna.expression --fn score"
    ]
    assert kernel.complete("x = 1\n%memshare info r") == ["x = 1\n%memshare info rna.expression"]
    kernel.run("%memshare gc rna -q")


@pytest.mark.slow
def test_an_apply_shows_the_engines_traceback_with_the_index_once(kernel):
    kernel.run("%%memshare register rna -q\nX = np.arange(12.0).reshape(3, 4)")
    text = kernel.text("%%memapply rna.X\nassert v[0] != 2, 'bad gene'\nfloat(v.sum())")
    assert text.count("AssertionError: bad gene") >= 1
    assert text.count("MemApplyError: cell failed at index 2") == 1
    assert kernel.run("%%memapply rna.X -q -o res\nfloat(v.sum())") == []
    assert kernel.text("res") == "[12.0, 15.0, 18.0, 21.0]"
    kernel.run("%memshare gc rna -q\n%memshare cluster stop -q")


@pytest.mark.slow
def test_the_extension_works_on_engines_by_px(kernel):
    kernel.run("%%memshare register rna -q\nX = np.ones((2, 3))")
    kernel.run("%memshare cluster start 1 -q\n%memshare attach rna.X --engines -q")
    assert "rna.X" in kernel.text("%%px\n%load_ext memshare_jupyter\n%memshare list rna")
    owners = {holder.label for page in ms.snapshot().pages for holder in page.holders}
    assert owners == {"kernel", "engine 0"}
    assert "6.0" in kernel.text("%px X.sum()")
    kernel.run("%px %unload_ext memshare_jupyter")
    assert "not found" in kernel.text("%px %memshare list")
    kernel.run("%memshare gc -q\n%memshare cluster stop -q")


@pytest.mark.slow
def test_a_notebook_runs_without_a_front_end_and_stops_at_an_error(child_environment, tmp_path):
    def execute(*cells):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        nbformat.write(book, tmp_path / "book.ipynb")
        command = [sys.executable, "-m", "jupyter", "execute", "--inplace", "book.ipynb"]
        pipes = {"capture_output": True, "text": True, "timeout": 100}
        done = subprocess.run(command, cwd=tmp_path, env=child_environment, **pipes)
        outputs = [cell.outputs for cell in nbformat.read(tmp_path / "book.ipynb", 4).cells]
        return done, outputs

    register = "%%memshare register rna\nawait asyncio.sleep(0)\nX = np.ones((3, 4))"
    done, outputs = execute(SETUP, register, "%memapply rna.X --fn len -q", "%memshare panel rna")
    assert done.returncode == 0, done.stderr
    assert {"text/plain", "text/html"} <= set(outputs[1][0].data)
    assert outputs[2][0].data["text/plain"] == "[3, 3, 3, 3]"
    # A front end without widgets shows the panel's table.
    shown = [output.data.get("text/plain", "") for output in outputs[3]]
    assert any("rna.X" in text for text in shown), shown
    done, _ = execute(SETUP, register, "%memshare attach rna.nope", "print('not reached')")
    assert done.returncode != 0
    assert "did you mean" not in done.stderr
    assert "no page rna.nope" in done.stderr
    assert ms.snapshot().pages == ()


def test_the_start_of_a_cluster_is_ordinary_output_which_the_progress_replaces(kernel):
    slow = "lambda column: __import__('time').sleep(0.4) or 1.0"
    shown = kernel.run(f"ms.memapply(np.ones((2, 2)), 'cols', {slow}, progress_after=0)")
    assert [one["kind"] for one in shown][:1] == ["display_data"]
    assert "starting a local cluster of" in shown[0]["text/plain"]
    assert {one["kind"] for one in shown} == {
        "display_data",
        "update_display_data",
        "execute_result",
    }
    updates = [one["text/plain"] for one in shown if one["kind"] == "update_display_data"]
    assert updates[0].endswith(" s")  # how long the start took
    assert "done in" in updates[-1]
    assert len({one["display_id"] for one in shown[:-1]}) == 1
    # Another cell leaves that output alone.
    again = kernel.run(f"ms.memapply(np.ones((2, 2)), 'cols', {slow}, progress_after=0)")
    assert again[0]["display_id"] != shown[0]["display_id"]
    kernel.run("ms.local_cluster(quiet=True).stop()")
