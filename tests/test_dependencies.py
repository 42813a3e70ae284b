"""What we import is declared, what is declared is pinned, and what we override is there."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = packages_distributions()
LAZY = {"import_module", "find_spec"}
TESTS = {path.stem for path in (ROOT / "tests").rglob("*.py")} | {"edited_helpers", "late_module"}
OURS = {"memshare_jupyter", "tests", "__main__"} | TESTS  # some are made by a test
FRAMES = {"pyarrow"}  # those who have its tables have it
CONTENDERS = {
    "SharedArray",
    "ennemi",
    "fast_select",
    "mrmr",
}  # benchmarks leave out what is not installed


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][e] for e in extras)]
    names = {canonical(re.match(r"[\w.-]+", line)[0]) for group in groups for line in group}
    return names - {"memshare-jupyter"}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(name), level=0):
                yield name
            case ast.Call(
                func=ast.Name(called) | ast.Attribute(attr=called),
                args=[ast.Constant(str(name)), *_],
            ) if called in LAZY:
                yield name


def packages(*directories: str) -> set[str]:
    files = [path for directory in directories for path in (ROOT / directory).rglob("*.py")]
    found = {name for path in files for name in imports(ast.parse(path.read_text()))}
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names - OURS


def distributions(names: set[str]) -> set[str]:
    return {canonical(DISTRIBUTIONS.get(name, [name])[0]) for name in names}


def test_what_we_import_is_what_is_declared():
    imported = distributions(packages("memshare_jupyter"))
    assert imported - declared("all") == FRAMES, "imported, but not declared"
    assert declared() <= imported, "declared, but not imported"


def test_what_the_tests_import_is_declared():
    imported = distributions(packages("tests", "notebooks") - CONTENDERS)
    assert imported - declared("all", "test", "bench") == set()


def test_the_tested_versions_are_names_and_versions_of_all_that_is_declared():
    lines = (ROOT / "requirements/tested.txt").read_text().splitlines()
    pinned = [re.fullmatch(r"([\w.-]+)==[\w.+!]+( ; .+)?|#.*", line) for line in lines]
    assert all(pinned), "a line that is no name==version"
    missing = declared("all", "test", "update", "docs") - {canonical(m[1]) for m in pinned if m[1]}
    assert missing == set(), "make update"


# What the local cluster overrides or calls of ipyparallel that is not for its users, and of
# ipykernel. A new major version may do without; then this says what is to be written anew.
INSIDES = """
ipyparallel.controller.app.IPController.init_hub.heartmonitor_process
ipyparallel.controller.app.IPController.init_hub.hub
ipyparallel.controller.app.IPController.start.heartmonitor_process
ipyparallel.controller.app.IPController.save_connection_dict
ipyparallel.controller.app.IPController.cleanup_connection_files
ipyparallel.controller.app.IPController.engine_json_file
ipyparallel.controller.app.IPController.loop
ipyparallel.controller.app.IPController.use_threads
ipyparallel.controller.app.IPController.broadcast_scheduler_depth
ipyparallel.controller.app.IPController.launch_instance
ipyparallel.controller.app.start_heartmonitor
ipyparallel.controller.heartmonitor._setup_heartmonitor.HeartMonitor
ipyparallel.controller.heartmonitor.HeartMonitor.beat
ipyparallel.controller.heartmonitor.HeartMonitor.hearts
ipyparallel.controller.heartmonitor.HeartMonitor.start.caller
ipyparallel.controller.heartmonitor.HeartMonitor.period
ipyparallel.controller.heartmonitor.HeartMonitor.max_heartmonitor_misses
ipyparallel.controller.hub.Hub.incoming_registrations
ipyparallel.controller.hub.Hub.unregister_engine
ipyparallel.engine.app.IPEngine.connection_info_env
ipyparallel.engine.app.IPEngine.id
ipyparallel.engine.app.IPEngine.enable_nanny
ipyparallel.engine.app.IPEngine.max_heartbeat_misses
ipyparallel.engine.app.IPEngine.timeout
ipyparallel.engine.app.IPEngine.launch_instance
ipyparallel.client.client.Client.send_signal
ipyparallel.client.magics.ParallelMagics.px
ipyparallel.client.magics.ParallelMagics.view
ipykernel.debugger
ipykernel.ipkernel
ipykernel.zmqshell
ipykernel.kernelbase.Kernel.__init__.control_handlers
jupyter_client.session.Session.send
"""


def missing(name: str) -> str:
    """Return how far a name can be followed and what is not there, or nothing.

    A name that code uses counts as being in that code: instances get theirs in a method.
    """
    found, path = None, ""
    for part in name.split("."):
        code = getattr(found, "__code__", None)
        if code is not None and part in code.co_names:
            return ""
        if found is None or not hasattr(found, part):
            try:
                found = importlib.import_module(f"{path}.{part}" if path else part)
            except ImportError:
                return f"{path or 'Python'} has no {part}"
        else:
            found = getattr(found, part)
        path = f"{path}.{part}" if path else part
    return ""


@pytest.mark.parametrize("name", INSIDES.split())
def test_what_we_override_or_use_of_the_insides_of_others_is_there(name):
    assert missing(name) == ""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing_of_this_name.x", "Python has no nothing_of_this_name"),
        ("json.decoder.JSONDecoder.nope", "json.decoder.JSONDecoder has no nope"),
        ("json.decoder.JSONDecoder.decode.nope", "json.decoder.JSONDecoder.decode has no nope"),
        ("json.decoder.JSONDecoder.decode.raw_decode", ""),
    ],
)
def test_what_is_missing_is_named(name, says):
    assert missing(name) == says
