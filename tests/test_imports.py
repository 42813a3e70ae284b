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

# A room may import those named, and itself; "inside the core" likewise.
MAY = {
    "errors": set(),
    "core": {"errors"},
    "worker": {"errors", "core"},
    "engines": {"errors", "core", "worker"},
    "apply": {"errors", "core", "worker", "engines"},
    "information": {"errors", "core", "worker", "engines", "apply"},
    "display": {"errors", "core"},
    "cli": {"errors", "core", "display"},
    "panel": {"errors", "core", "display", "engines", "apply"},
    "magics": {
        *("errors", "core", "worker", "engines", "apply"),
        *("information", "display", "panel"),
    },
    "__main__": {"cli"},
}


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("memshare_jupyter", {*JUPYTER, "scipy", "cloudpickle", "numpy"}),
        ("memshare_jupyter.errors", {*JUPYTER, "scipy", "cloudpickle", "numpy"}),
        ("memshare_jupyter.core", {*JUPYTER, "scipy", "cloudpickle"}),
        ("memshare_jupyter.core.api", {*JUPYTER, "scipy", "cloudpickle"}),
        ("memshare_jupyter.worker._work", JUPYTER),
        ("memshare_jupyter.information._mutual_info", JUPYTER),
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
        "import memshare_jupyter.core.api, memshare_jupyter.worker._work\n"
        "after = [signal.getsignal(s) for s in (2, 15, 17)], set(os.listdir('/proc/self/fd'))\n"
        "from memshare_jupyter.core.registry import _process as process\n"
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


def imports(path: Path) -> set[str]:
    """All modules, and names in them, that a module of ours imports of ours when it runs."""
    tree = ast.parse(path.read_text())
    only_for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in set(ast.walk(tree)) - only_for_types:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides its direction"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("memshare_jupyter.")}


def room_of(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_in_one_direction(path):
    room = room_of(path.relative_to(ROOT).parts)
    if room == "__init__":
        return  # the public face names all rooms, and enters them when asked
    entered = {name.split(".")[1] for name in imports(path)} - {room, "__version__"}
    assert entered <= MAY[room]


def test_there_are_only_rooms():
    found = {found.name for found in pkgutil.iter_modules([str(ROOT)])}
    assert found == set(MAY)
