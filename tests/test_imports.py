"""What imports what: layers in one direction, nothing heavy before it is asked for."""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path

import pytest

import memshare_jupyter

ROOT = Path(memshare_jupyter.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
JUPYTER = {"IPython", "ipywidgets", "ipyparallel", "traitlets", "ipykernel", "anywidget"}

# A layer may import itself and any layer to its left.
LAYERS = [
    {"errors"},
    {"core"},
    {"compute"},
    {"_local", "_members", "_tether", "_tether_link", "interrupts", "plots", "runs"},
    {"arguments", "cluster", "progress"},
    {"execution"},
    {"apply"},
    {"information"},
    {"selection"},
    {
        *("__main__", "binding", "cells", "cli", "display", "magics"),
        *("_panel_actions", "_panel_feed", "_panel_publisher", "_panel_twin", "panel"),
    },
]


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("memshare_jupyter", {*JUPYTER, "scipy", "cloudpickle", "numpy"}),
        ("memshare_jupyter.errors", {*JUPYTER, "scipy", "cloudpickle", "numpy"}),
        ("memshare_jupyter.core", {*JUPYTER, "scipy", "cloudpickle"}),
        ("memshare_jupyter.core.api", {*JUPYTER, "scipy", "cloudpickle"}),
        ("memshare_jupyter.compute", JUPYTER),
        ("memshare_jupyter.compute.apply", JUPYTER),
        ("memshare_jupyter.compute.mutual_info", JUPYTER),
    ],
)
def test_importing_brings_nothing_unasked_for(interpreter, module, without):
    loaded = interpreter(f"import sys, {module}; print(*sys.modules)").split()
    assert module in loaded
    assert {name.partition(".")[0] for name in loaded} & without == set()


def test_importing_begins_no_session_and_starts_nothing(interpreter, runtime_directory):
    out = interpreter(
        "import os, threading, signal\n"
        "before = [signal.getsignal(s) for s in (2, 15, 17)], set(os.listdir('/proc/self/fd'))\n"
        "import memshare_jupyter.core.api, memshare_jupyter.compute.apply\n"
        "after = [signal.getsignal(s) for s in (2, 15, 17)], set(os.listdir('/proc/self/fd'))\n"
        "from memshare_jupyter.core import process\n"
        "print(before == after, threading.active_count(), process._registry)"
    )
    assert out.split() == ["True", "1", "None"]


def test_every_public_name_is_listed_in_order_and_resolves(interpreter):
    listed = memshare_jupyter.__all__
    assert list(listed) == sorted(listed)
    assert len(set(listed)) == len(listed)
    assert set(listed) == {*memshare_jupyter._MODULE_OF, "__version__"}
    interpreter("import memshare_jupyter as m; [getattr(m, name) for name in m.__all__]")
    interpreter("from memshare_jupyter import *; register_variables, Namespace, View")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        memshare_jupyter.nothing  # noqa: B018 -- raises
    assert set(listed) <= set(dir(memshare_jupyter))


def test_every_error_is_public():
    from memshare_jupyter import errors

    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.MemshareError)
    }
    assert defined <= set(memshare_jupyter.__all__)


def layer_of(module: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if module in layer)


def imported(tree: ast.AST) -> set[str]:
    """First parts, below our package, of everything of ours that a module imports."""
    found = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level < 2, "an import from above hides its direction"
            if node.level == 0:  # else it is from the same layer
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("memshare_jupyter.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_in_one_direction(path):
    own = path.relative_to(ROOT).with_suffix("").parts[0]
    if own == "__init__":
        return  # the public face names all layers, and imports them when asked
    above = {name for name in imported(ast.parse(path.read_text())) if name != "__version__"}
    assert {name for name in above if layer_of(name) > layer_of(own)} == set()
    if own == "core":
        assert above <= {"core", "errors"}
    if own == "compute":
        assert above <= {"compute", "core", "errors"}


def test_private_modules_of_the_core_stay_private():
    for path in MODULES:
        if "core" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert not node.module.startswith("memshare_jupyter.core._"), path


def test_every_module_is_in_a_layer():
    for found in pkgutil.iter_modules([str(ROOT)]):
        assert any(found.name in layer for layer in LAYERS), found.name
