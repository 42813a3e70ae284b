"""The magics, where engines are on several hosts."""

from __future__ import annotations

import re

import pytest

SHELL = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
shell.user_ns["c"] = c
def cell(text):
    found = shell.run_cell(text)
    found.raise_error()
    return repr(found.result)
cell("%load_ext memshare_jupyter")
cell("%memshare cluster c")
cell("import numpy as np; X = np.arange(12.0).reshape(3, 4)")
cell("%memshare register rna X")
"""


@pytest.fixture(scope="module")
def client(two):
    made = two.client()
    made.run(SHELL)
    yield made
    made.exit()


def test_pages_are_attached_on_engines_of_other_hosts(client):
    assert client.value("'on engines 0, 1, 2, 3' in cell('%memshare attach rna.X --engines')")
    client.run("c[:].execute('s = float(X.sum())', block=True)")
    assert client.value("c[:].pull('s', block=True)") == [66.0] * 4
    client.run("cell('%memshare detach rna.X --engines')")


def test_a_call_by_a_line(client):
    assert client.value("cell('%memapply rna.X --fn np.sum --margin cols')") == str(
        [12.0, 15.0, 18.0, 21.0]
    ) or client.value("[float(x) for x in shell.user_ns['_']]") == [12.0, 15.0, 18.0, 21.0]


def test_hosts_are_listed_with_what_they_have(client):
    client.run("cell('%memapply rna.X --fn np.sum --margin cols')")
    lines = client.value("cell('%memshare list --hosts')").splitlines()
    assert lines[0].split() == ["host", "engines", "pages", "size", "free"]
    assert {line.split()[0] for line in lines[1:]} == {"h1", "h2"}
    assert all(" 96 B" in line for line in lines[1:])


def test_the_doctor_says_which_hosts_reach_which_and_how_fast(client):
    client.run(
        "import contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()) as said:\n"
        "    cell('%memshare doctor')"
    )
    said = client.value("said.getvalue()")
    assert re.search(r"h1 from h2: [\d.]+ [MG]B/s", said)
    assert re.search(r"h2 from h1: [\d.]+ [MG]B/s", said)
