"""What lists call a process of which nobody said more."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from memshare_jupyter.core.registry import what_this_is


@pytest.fixture
def shell(monkeypatch):
    """A shell of a kernel, without one."""
    made = SimpleNamespace(kernel=SimpleNamespace(), user_ns={})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: made))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    return made


@pytest.mark.parametrize(
    ("session", "called"),
    [
        ("papers/rna_analysis.ipynb", "rna_analysis.ipynb"),
        ("papers/rna_analysis.md", "rna_analysis.md"),
        ("console-1-2f6", "kernel"),
        ("", "kernel"),
    ],
)
def test_a_kernel_is_called_by_its_notebook(shell, monkeypatch, session, called):
    monkeypatch.setenv("JPY_SESSION_NAME", session)
    assert what_this_is() == called


def test_a_kernel_of_vs_code_is_called_by_its_notebook(shell):
    shell.user_ns["__vsc_ipynb_file__"] = "/home/ada/rna.ipynb"
    assert what_this_is() == "rna.ipynb"


def test_an_engine_is_called_by_its_number_and_a_terminal_by_its_name(shell):
    shell.kernel.engine_id = 3
    assert what_this_is() == "engine 3"
    del shell.kernel
    assert what_this_is() == "ipython"
