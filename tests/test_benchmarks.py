"""The apply benchmark gives figures for right results only, and leaves nothing running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.benchmarks import report
from tests.benchmarks.contenders import CONTENDERS, SERIAL, Entry
from tests.benchmarks.race import Race, Size, WrongResultError, check
from tests.benchmarks.session import ROOT, ContenderError, Session
from tests.benchmarks.workloads import Matrix, Spin, chunks, count_of, part, workloads

pytestmark = pytest.mark.slow

SMALL = Size(rows=12, cols=8, large=10, rounds=1, limit_s=60.0)


@pytest.fixture
def contender(tmp_path, monkeypatch):
    """Make a contender of a module's text."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def make(text):
        (tmp_path / "made_up.py").write_text(textwrap.dedent(text))
        return Entry("made_up")

    return make


def run(*names, **others):
    said = []
    results = Race(SMALL, said.append).run({name: CONTENDERS[name] for name in names} | others)
    return results, said


def lives(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def quick():
    """Results of the contenders that start at once."""
    return run(SERIAL, "threads", absent=Entry("made_up", "no_such_package"))[0]


def test_every_workload_is_timed_for_each_contender(quick):
    assert list(quick["contenders"]) == [SERIAL, "threads"]
    for found in quick["contenders"].values():
        assert found["errors"] == []
        assert found["left"] == []
        assert list(found["apply_s"]) != []
        assert found["apply_s"].keys() == quick["workloads"].keys()
        for times in (*found["apply_s"].values(), *found["share_s"].values(), found["large_s"]):
            assert len(times) == 1
            assert times[0] > 0
        assert set(found["memory"]) == {"idle", "matrix", "large"}


def test_memapply_is_right_and_all_its_processes_and_its_memory_are_counted(quick):
    matrix = Matrix(1200, 1000, "C")
    with Session(CONTENDERS["memapply"].module, limit_s=60.0) as session:
        assert session.ask("start", 2) > 0
        processes = session.family.look()
        session.ask("make", matrix)
        before = session.family.memory_bytes()
        seconds, results = session.ask("share_and_apply", "cols", np.std, watch=True)
        session.ask("unshare")
        session.ask("close")
    assert session.left == []
    assert len(processes) >= 4  # its own, a controller and two engines
    assert quick["contenders"][SERIAL]["processes"] == 1
    assert before > 2 * quick["contenders"][SERIAL]["memory"]["idle"]
    assert session.peak_bytes - before > 0.9 * matrix.make().nbytes
    assert seconds > 0
    check(results, [float(np.std(column)) for column in matrix.make().T])


def test_results_are_json_that_names_no_path_and_no_host(quick):
    text = json.dumps(quick)
    assert json.loads(text) == quick
    assert "/" not in text.replace(quick["machine"]["cpu"], "")
    assert os.uname().nodename not in text


def test_table_and_plot_are_written_from_the_results(quick, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}old\n{report.END}after\n")
    report.write(quick, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    for row in (*quick["workloads"], *quick["contenders"]):
        assert f"\n| {row} |" in text
    assert text.count("(1.00)**") == len(quick["workloads"])
    picture = page.with_suffix(".svg").read_text()
    assert all(f">{workload}<" in picture for workload in quick["workloads"])


WRONG = """
    from tests.benchmarks.contenders import serial

    class Contender(serial.Contender):
        def apply(self, margin, fun):
            results = super().apply(margin, fun)
            if margin == "rows":
                results[3] += 1.0
            return results
"""


def test_wrong_results_get_no_time_and_the_reason_is_told(contender):
    results, said = run(SERIAL, wrong=contender(WRONG))
    found = results["contenders"]["wrong"]
    wrong = {workload for workload, times in found["apply_s"].items() if not times}
    assert wrong == {workload for workload in results["workloads"] if "rows" in workload}
    assert len(found["errors"]) == len(wrong)
    assert all("the first of them item 3" in error for error in found["errors"])
    assert any("item 3" in line for line in said)
    table = report.tables(results)
    assert table.count(f"| {report.MISSING} |") == 2 * len(wrong)  # times and efficiencies
    assert f"- wrong: {found['errors'][0]}" in table


def test_without_the_serial_loops_results_nobody_gets_a_time(contender):
    failing = contender("raise RuntimeError('cannot start')")
    results, _ = run(**{SERIAL: failing, "threads": CONTENDERS["threads"]})
    found = results["contenders"]["threads"]
    assert not any(found["apply_s"].values())
    assert found["large_s"] == []
    assert "large: the serial loop gave no results to compare with" in found["errors"]


def test_results_must_be_all_of_them_in_order_and_equal_to_nine_digits():
    check([1.0, 2.0 + 1e-12], [1.0, 2.0])
    for wrong in ([2.0, 1.0], [1.0], [1.0, 2.0, 3.0], [1.0, np.nan], (1.0, 2.0), [1.0, 2.0 + 1e-8]):
        with pytest.raises(WrongResultError):
            check(wrong, [1.0, 2.0])


def test_figures_of_few_rounds_or_a_busy_machine_are_called_preliminary(quick):
    for rounds, load, preliminary in ((5, 0.1, False), (4, 0.1, True), (5, 1.0, True)):
        said = report.tables(
            quick
            | {"size": quick["size"] | {"rounds": rounds}}
            | {"machine": quick["machine"] | {"load_average": load}}
        )
        assert ("Preliminary" in said) is preliminary


def test_the_serial_loop_has_to_come_first(contender):
    with pytest.raises(ValueError, match="serial loop"):
        run("threads", SERIAL)


def test_what_is_not_installed_is_left_out_and_named(quick):
    assert "absent" not in quick["contenders"]
    assert quick["not_installed"] == ["absent"]
    assert "left out: absent" in report.tables(quick)


STUCK = """
    import subprocess, sys, time

    class Contender:
        def __init__(self, workers):
            pass

        def share(self, X):
            pass

        def apply(self, margin, fun):
            code = "import time; time.sleep(600)"
            self.child = subprocess.Popen([sys.executable, "-S", "-c", code])

        def unshare(self):
            time.sleep(600)
"""


def test_a_stuck_contender_is_given_up_and_ended_with_all_it_started(contender, monkeypatch):
    from tests.benchmarks import session

    monkeypatch.setattr(session, "LINGER_S", 0.1)
    with Session(contender(STUCK).module, limit_s=1.0) as stuck:
        with pytest.raises(ContenderError, match="no answer to 'start' in 1 s"):
            stuck.ask("start", 2)
        pids = [process.pid for process in stuck.family.look()]
    assert len(pids) == 2
    assert len(stuck.left) == 2
    assert not any(map(lives, pids))
    assert not Path(stuck.scratch).exists()


def test_an_orphan_of_a_contender_that_died_is_found_and_ended(contender, monkeypatch):
    from tests.benchmarks import session

    monkeypatch.setattr(session, "LINGER_S", 0.1)
    orphaned = """
        import os, subprocess, sys

        class Contender:
            def __init__(self, workers):
                code = "import time; time.sleep(600)"
                subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
                os._exit(1)
    """
    with (
        Session(contender(orphaned).module, limit_s=60.0) as died,
        pytest.raises(ContenderError, match="it died during 'start'"),
    ):
        died.ask("start", 2)
    assert len(died.left) == 1
    assert not any(map(lives, [process.pid for process in died.family.look()]))


def test_a_failing_contender_does_not_stop_the_others(contender):
    failing = contender("raise RuntimeError('cannot read /home/us/it.npy')")
    results, _ = run(SERIAL, failing=failing, threads=CONTENDERS["threads"])
    assert set(results["contenders"]["failing"]["errors"]) == {
        "'start' failed: RuntimeError: cannot read it.npy"
    }
    assert results["contenders"]["threads"]["errors"] == []
    assert "- failing: 'start' failed" in report.tables(results)


def test_matrices_are_the_same_each_time_and_have_dear_rows_and_columns():
    for order in ("C", "F"):
        X = Matrix(600, 700, order).make()
        assert X.flags[f"{order}_CONTIGUOUS"]
        assert (X[0] > 1).sum() == 1
        assert (X[:, 0] > 1).sum() == 1
        np.testing.assert_array_equal(X, Matrix(600, 700, order).make())


def test_dear_items_take_so_many_turns_more(monkeypatch):
    calls = []
    monkeypatch.setattr(np, "cos", lambda values: calls.append(1) or values)
    Spin(3, dear=200)(np.array([0.5, 0.5]))
    assert len(calls) == 3
    Spin(3, dear=200)(np.array([2.0, 0.5]))
    assert len(calls) == 603


def test_chunks_cover_every_item_once():
    for count in (1, 31, 32, 33, 5000):
        found = chunks(count, 2)
        assert [item for chunk in found for item in chunk] == list(range(count))
        assert len(found) <= 32
    assert len({workload.key for workload in workloads(10)}) == 12


SLOW = [
    name
    for name in CONTENDERS
    if name not in {SERIAL, "threads"}
    # These are of an extra of their own: large, or built here. Everything else has to be here.
    and (name not in {"ray", "mpire", "SharedArray"} or CONTENDERS[name].installed)
]


@pytest.mark.parametrize("name", SLOW)
def test_contenders_are_right_in_every_workload_and_end(name):
    with Session(CONTENDERS[name].module, limit_s=60.0) as session:
        session.ask("start", 2)
        for matrix in (Matrix(40, 70, "C"), Matrix(40, 70, "F")):
            X = matrix.make()
            session.ask("make", matrix)
            session.ask("share")
            for workload in workloads(matrix.rows):
                _, results = session.ask("apply", workload.margin, workload.fun)
                items = range(count_of(X, workload.margin))
                check(results, part(X, workload.margin, workload.fun, items))
            session.ask("unshare")
        session.ask("close")
    assert session.left == []


def test_the_command_writes_results_and_report(tmp_path):
    results = tmp_path / "figures.json"
    results.with_suffix(".md").write_text(report.BEGIN + report.END)
    sizes = ["--rows", "12", "--cols", "8", "--large", "10", "--rounds", "2"]
    written = []
    for command in (["apply", *sizes, "--contenders", "threads"], ["report"], ["report"]):
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks", *command, "--results", results],
            cwd=ROOT, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        if command == ["report"]:
            written.append([results.with_suffix(end).read_text() for end in (".md", ".svg")])
    assert written[0] == written[1]
    assert "| threads |" in written[0][0]
