"""The terminal's view: right also while a notebook is stuck or dead."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter import cli


@pytest.fixture
def memshare(child_environment):
    """Run the command in a process of its own."""

    def run(*arguments):
        command = [sys.executable, "-W", "error", "-m", "memshare_jupyter", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=child_environment
        )
        assert done.stderr == ""
        assert done.returncode == 0
        return done.stdout

    return run


@pytest.fixture
def study():
    with ms.Namespace("study") as namespace:
        namespace["X"] = np.zeros((100, 50))
        yield namespace


def test_ls_lists_the_pages_of_every_process(study, memshare):
    listed = memshare("ls")
    assert re.search(r"study\.X +array +100 × 50 +float64 +C +40\.0 kB", listed)
    assert "1 page in 1 namespace, 40.0 kB shared" in listed
    assert re.search(r"study\.X +array +100 × 50", memshare())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["ls", "stdy"], "nothing is shared in namespace 'stdy'; did you mean study?"),
        (["ls", "other"], "nothing is shared in namespace 'other'"),
        (["info", "study.Y"], "there is no page study.Y; did you mean study.X?"),
    ],
)
def test_what_is_not_there_is_an_error_that_names_what_is_like_it(study, capsys, line, said):
    assert cli.main(line) == 1
    assert capsys.readouterr().err == f"memshare: {said}\n"


def test_info_shows_all_about_a_page(study, memshare):
    said = memshare("info", "study.X")
    assert f"{os.getpid()}  owner" in said
    assert "study.X: array 100 × 50 float64 C 40.0 kB, read-only for viewers" in said
    assert json.loads(memshare("info", "study.X", "--json"))[0]["variable"] == "X"


def test_the_version_is_that_of_the_package(memshare):
    assert memshare("--version") == f"memshare {ms.__version__}\n"


def test_top_fits_its_window_and_q_ends_it(child_environment, child):
    import fcntl
    import pty
    import struct
    import termios

    owner = child("ms.register_variables('many', {f'long_name_{i}': i for i in range(40)})")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
    command = [sys.executable, "-m", "memshare_jupyter", "top", "-d", "60"]
    ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    # What the tests were started from may say how large its own window is.
    own = {k: v for k, v in child_environment.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}}
    own["TERM"] = "xterm"
    with subprocess.Popen(command, env=own, **ends) as top:
        try:
            os.close(theirs)
            shown = b""
            while b"more; q ends this" not in shown:
                shown += os.read(ours, 10_000)
            os.write(ours, b"q")
            assert top.wait(10) == 0
        finally:
            top.kill()
            os.close(ours)
    painted = shown.decode().partition("\x1b[2J")[2]
    assert painted.startswith("\x1b[1m")  # in colour
    lines = re.sub(r"\x1b\[\d+m", "", painted).split("\r\n")
    assert max(map(len, lines)) <= 60
    assert len(lines) <= 12
    assert lines[0].endswith("…")
    owner.kill()


def test_ls_names_the_holders_and_what_they_have_in_memory(study, memshare, child):
    viewer = child("X = ms.retrieve_views('study', 'X')['X']; X.sum()")
    listed = memshare("ls", "--holders")
    assert f"owner  pid {os.getpid()}" in listed
    assert re.search(rf"view   pid {viewer.pid} .* resident 41\.0 kB", listed)


def test_ls_speaks_json(study, memshare):
    (page,) = json.loads(memshare("ls", "--json"))
    assert (page["namespace"], page["variable"], page["shape"]) == ("study", "X", [100, 50])
    assert page["holders"][0]["pid"] == os.getpid()


def test_a_stopped_process_does_not_stop_the_list(memshare, child):
    import signal

    stuck = child("ms.register_variables('stuck', {'X': np.zeros(3)})")
    stuck.signal(signal.SIGSTOP)
    assert "stuck.X" in memshare("ls")


def test_gc_says_who_keeps_a_page_whose_owner_died(memshare, child):
    owner = child("ms.register_variables('study', {'X': np.zeros(3)})")
    viewer = child("X = ms.retrieve_views('study', 'X')['X']")
    owner.kill()
    said = memshare("gc")
    assert "study.X  24 B  orphaned" in said
    assert f"view   pid {viewer.pid}" in said
    viewer.kill()
    assert memshare("gc") == "nothing is left behind\n"


def test_top_shows_totals_as_often_as_it_is_told(study, memshare):
    shown = memshare("top", "-n", "2", "-d", "0.01")
    assert shown.count("1 page, 40.0 kB shared, 40.0 kB as copies; ") == 2


def test_an_unknown_command_is_explained(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["nope"])
    assert ended.value.code == 2
    assert "invalid choice: 'nope'" in capsys.readouterr().err


def test_an_error_is_one_line(monkeypatch, tmp_path, child_environment):
    runtime = tmp_path / "memshare"
    runtime.mkdir(mode=0o755)
    runtime.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "memshare_jupyter", "ls"],
        capture_output=True, text=True, timeout=60,
        env=child_environment | {"MEMSHARE_RUNTIME_DIR": str(runtime)},
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"memshare: the runtime directory .* has mode 755.*\n", done.stderr)


def test_the_command_line_needs_no_notebook(interpreter):
    loaded = "import sys, memshare_jupyter.cli; print(*sys.modules)"
    assert not {"IPython", "ipyparallel", "ipywidgets", "scipy"} & set(interpreter(loaded).split())


def test_the_doctor_tells_backend_memory_and_limits(memshare):
    said = memshare("doctor")
    for what in ("system", "runtime directory", "memfd", "open files", "memory"):
        assert what in said.lower()
    checks = json.loads(memshare("doctor", "--json"))
    assert {check["state"] for check in checks} <= {"ok", "warn"}
    assert all(check["advice"] for check in checks if check["state"] != "ok")


RUN = """
import threading
def slow(column):
    import time
    time.sleep(0.2)
cluster = ms.local_cluster(1, quiet=True)
run = ms.memapply(np.ones((2, 400)), 'cols', slow, cluster=cluster, block=False)
"""


@pytest.mark.slow
def test_top_shows_the_runs_of_every_kernel_and_how_far_they_are(memshare, child, eventually):
    kernel = child(RUN)

    def runs():
        (look,) = map(json.loads, memshare("top", "-n", "1", "-d", "0", "--json").splitlines())
        assert look["pages"]
        return look["runs"]

    eventually(runs)
    (run,) = runs()
    assert (run["pid"], run["total"], run["state"]) == (kernel.pid, 400, "running")
    assert run["title"] == "slow over 400 columns of slow.X"
    assert 0 < run["done"] < 400
    shown = memshare("top", "-n", "1", "-d", "0")
    assert re.search(
        rf"\({kernel.pid}\)  slow over 400 columns of slow.X  [#-]{{20}}  \d+ of 400  [45]\.\d/s",
        shown,
    )
    kernel.run("run.cancel()\nrun.exception(9)\ncluster.stop()")
    assert memshare("top", "-n", "1", "-d", "0", "--json")
    kernel.kill()
    assert memshare("gc") == "nothing is left behind\n"


def test_in_a_terminal_states_have_colours_and_what_is_cut_has_them_whole():
    from memshare_jupyter.display import fitted

    lines = ["heading", "rna.X  active  r", "my-active.draining  orphaned"]
    plain = fitted(lines, 20, 10, colour=False)
    assert plain.splitlines()[2] == "my-active.draining …"
    painted = fitted(lines, 40, 10, colour=True)
    assert painted.splitlines() == [
        "\x1b[1mheading\x1b[0m",
        "rna.X  \x1b[32mactive\x1b[0m  r",
        "my-active.draining  \x1b[31morphaned\x1b[0m",
    ]


def test_json_may_stand_before_a_command_and_without_one(study, memshare):
    for line in (["--json"], ["--json", "ls"], ["ls", "--json"], ["--json", "gc"]):
        assert isinstance(json.loads(memshare(*line)), list)
