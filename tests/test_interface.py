"""The public interface is the one written down in data/interface.txt.

Whoever means to change it changes that list too, and the changelog.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np

import memshare_jupyter as ms

WRITTEN = Path(__file__).parent / "data" / "interface.txt"


def described(name: str, value: object) -> list[str]:
    """A line for a name, and below a class's one for each thing of its own."""
    if not inspect.isclass(value):
        return [f"{name}{inspect.signature(value)}" if callable(value) else name]
    # Of arrays, numpy's version decides how they are made and what they can do besides.
    theirs = dir(np.ndarray) if issubclass(value, np.ndarray) else ()
    lines = [f"class {name}{'' if theirs else inspect.signature(value)}"]
    for own, kept in sorted(vars(value).items()):
        if not own.startswith("_") and own not in theirs:
            parameters = inspect.signature(getattr(value, own)) if inspect.isfunction(kept) else ""
            lines.append(f"    {name}.{own}{parameters}")
    return lines


def test_the_public_interface_is_what_is_written_down():
    names = [*ms.__all__, "load_ipython_extension", "unload_ipython_extension"]
    found = [line for name in names for line in described(name, getattr(ms, name))]
    assert found == WRITTEN.read_text().splitlines()
