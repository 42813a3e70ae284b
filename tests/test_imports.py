"""The house: who imports whom, by which doors, how large a module is, what comes unasked for."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import statistics
from pathlib import Path

import pytest

import memshare_jupyter

ROOT = Path(memshare_jupyter.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
JUPYTER = {"IPython", "ipywidgets", "ipyparallel", "traitlets", "ipykernel", "anywidget"}
HEAVY = {*JUPYTER, "scipy", "cloudpickle"}
DOORS = [path for path in MODULES if path.name == "__init__.py" and path.parent != ROOT]

MOST_LINES = 350

# A room may import those named, and itself.
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

# The same inside the core; its modules with an underscore are what all of that stands on.
INSIDE_CORE = {
    "names": set(),
    "quantities": set(),
    "blocks": {"names", "quantities"},
    "values": {"names"},
    "ledger": {"names"},
    "registry": {"names", "quantities", "blocks", "values", "ledger"},
    "api": {"names", "blocks", "values", "registry"},
    "views": {"names", "blocks", "registry"},
    "namespace": {"names", "quantities", "values", "registry"},
    "doctor": {"names", "quantities", "blocks", "ledger", "registry"},
}


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("memshare_jupyter", {*HEAVY, "numpy"}),
        ("memshare_jupyter.errors", {*HEAVY, "numpy"}),
        ("memshare_jupyter.core", HEAVY),
        ("memshare_jupyter.core.api", HEAVY),
        ("memshare_jupyter.cli", HEAVY),
        ("memshare_jupyter.display", HEAVY),
        ("memshare_jupyter.worker", {*JUPYTER, "scipy"}),
        ("memshare_jupyter.engines", {*HEAVY, "numpy"}),
        ("memshare_jupyter.engines.local._tether", {*HEAVY, "numpy"}),
        # What engines are told to call, and what they unpickle.
        ("memshare_jupyter.engines._names", HEAVY),
        ("memshare_jupyter.engines._gc", HEAVY),
        ("memshare_jupyter.information", {*HEAVY, "numpy"}),
        ("memshare_jupyter.information._mutual_info", HEAVY - {"scipy"}),
        ("memshare_jupyter.information._columns", HEAVY - {"scipy"}),
        ("memshare_jupyter.information._permuted", HEAVY - {"scipy"}),
        # What a panel looks at.
        ("memshare_jupyter.apply", {*HEAVY, "numpy"}),
        ("memshare_jupyter.apply._run", {*HEAVY, "numpy"}),
        ("memshare_jupyter.panel", {*HEAVY, "numpy"}),
        ("memshare_jupyter.panel._panel", {"ipyparallel", "scipy", "cloudpickle"}),
        ("memshare_jupyter.magics", {"ipyparallel", "ipywidgets", "anywidget", "scipy"}),
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
        "import memshare_jupyter.core.api, memshare_jupyter.worker\n"
        "after = [signal.getsignal(s) for s in (2, 15, 17)], set(os.listdir('/proc/self/fd'))\n"
        "from memshare_jupyter.core.registry import _process as process\n"
        "print(before == after, threading.active_count(), process._registry)"
    )
    assert out.split() == ["True", "1", "None"]


def test_every_public_name_is_listed_in_order_and_resolves(interpreter):
    listed = memshare_jupyter.__all__
    assert list(listed) == sorted(listed)
    assert len(set(listed)) == len(listed)
    assert "__version__" in listed
    interpreter("import memshare_jupyter as m; [getattr(m, name) for name in m.__all__]")
    interpreter("from memshare_jupyter import *; register_variables, Namespace, View")
    with pytest.raises(AttributeError, match="attribute nothing"):
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


@pytest.mark.parametrize("path", DOORS, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_door_says_what_its_room_is_for_and_what_it_shows_is_there(path):
    room = importlib.import_module(
        ".".join(("memshare_jupyter", *path.relative_to(ROOT).parts[:-1]))
    )
    assert "mport" in room.__doc__  # and which way it imports
    for name in getattr(room, "__all__", ()):
        assert not name.startswith("_")
        getattr(room, name)


def imports(path: Path) -> tuple[set[str], set[str]]:
    """All modules, and names in them, that a module of ours imports of ours.

    First those when it runs, then those for type checkers only.
    """
    tree = ast.parse(path.read_text())
    only_for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: tuple[set[str], set[str]] = set(), set()
    for node in ast.walk(tree):
        names = set()
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides its direction"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        found[node in only_for_types].update(n for n in names if n.startswith("memshare_jupyter."))
    return found


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_in_one_direction(path):
    room = room_of(path)
    if room == "__init__":
        return  # the public face enters rooms when it is asked
    when_run, _ = imports(path)
    entered = {name.split(".")[1] for name in when_run} - {room, "__version__"}
    assert entered <= MAY[room]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_are_entered_by_their_doors(path):
    here = ".".join(("memshare_jupyter", *path.relative_to(ROOT).parts[:-1]))
    for name in set().union(*imports(path)):
        room, opened, _ = name.partition("._")
        below = room == "memshare_jupyter.core" and here.startswith(room)
        if opened and not below:  # what all rooms of the core stand on
            assert room == here, f"{name} is that room's own"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "core").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_imports_inside_the_core_go_in_one_direction(path):
    room = path.relative_to(ROOT / "core").parts[0].removesuffix(".py")
    if room == "__init__":
        return  # the door
    entered = {name.split(".")[2] for name in imports(path)[0] if name.count(".") > 1}
    entered = {name for name in entered if name in INSIDE_CORE} - {room}
    assert entered <= INSIDE_CORE.get(room, {"names"})


def test_the_numerics_of_information_import_nothing_of_ours_but_errors():
    on_top = {
        *(
            "__init__.py",
            "_blocks.py",
            "_matrix.py",
            "_pairs.py",
            "_plots.py",
            "_repeated.py",
            "_selection.py",
        ),
        *("_selector.py", "_shared_codes.py", "_together.py"),
    }
    for path in (ROOT / "information").glob("*.py"):
        if path.name not in on_top:
            entered = {".".join(name.split(".")[1:3]) for name in set().union(*imports(path))}
            entered = {name for name in entered if not name.startswith("information._")}
            assert entered <= {"errors"}, path.name


def test_modules_can_be_read_in_one_sitting():
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in MODULES}
    assert statistics.median(lines.values()) < 150
    assert {name for name, count in lines.items() if count > MOST_LINES} == set()


def test_there_are_only_rooms():
    found = {found.name for found in pkgutil.iter_modules([str(ROOT)])}
    assert found == set(MAY)


def test_the_core_imports_nothing_in_the_middle_of_an_act(interpreter):
    # An interrupt or a fork in an import leaves its lock taken, and the next import waits for ever.
    value = "{'x': np.arange(3), 'l': [np.ones(2)], 'o': {'a': {1, 2}, 'b': np.ones(3)}}"
    printed = interpreter(
        "import sys, numpy as np, memshare_jupyter as ms\n"
        "ms.view_list()\n"
        "before = {*sys.modules}\n"
        f"for _ in range(2): ms.register_variables('n', {value})\n"
        "ms.snapshot(); ms.retrieve_views('n', ['x', 'l', 'o'])\n"
        "ms.release_views('n', ['x', 'l', 'o']); ms.release_variables('n', ['x', 'l', 'o'])\n"
        "print(*sorted({*sys.modules} - before))"
    )
    assert printed.split() == []
