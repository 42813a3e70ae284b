"""What a run says of itself: how far it is, how it ended, and where that is shown."""

from __future__ import annotations

import gc
import signal
import threading
import weakref
from concurrent.futures import CancelledError

import pytest

from memshare_jupyter.apply import Run, _run, _shown, last_run


@pytest.fixture
def run():
    run = Run("score over 5,000 columns of rna.X", 5000, [0, 1])
    run.begin()
    yield run
    run.end()


@pytest.fixture
def outputs(monkeypatch):
    """What a notebook is told to show: (new or not, text)."""
    import IPython.display

    shown = []
    for name in ("display", "update_display"):
        monkeypatch.setattr(
            IPython.display,
            name,
            lambda bundle, name=name, **_: shown.append((name, bundle["text/plain"])),
        )
    monkeypatch.setattr(_run, "in_kernel", lambda: True)
    return shown


def test_the_speed_is_that_since_it_was_first_seen_to_work(run, monkeypatch):
    assert run.rate() is None
    run.watch(lambda: [10, 10])
    assert run.progress == 20
    since, done = run.started
    assert done == 20
    run.watch(lambda: [30, 20])
    monkeypatch.setattr(_run.time, "time", lambda: since + 5)
    assert run.rate() == pytest.approx(6)
    assert _shown.about(run) == "score over 5,000 columns of rna.X: 50 of 5,000, 6.0/s, 14 min left"


def test_a_run_behind_another_on_its_engines_is_queued(run):
    second = Run("second", 10, [1, 2])
    second.begin()
    try:
        assert (run.state, second.state) == ("running", "queued")
        assert "queued behind score over" in _shown.about(second)
        second.watch(lambda: [1, 0])  # it came first all the same
        assert second.progress == 1
        assert (run.state, second.state) == ("queued", "running")
        second.watch(lambda: [0, 0])
        run.end()
        assert second.state == "running"
    finally:
        second.end()


def test_an_interrupt_and_a_cancel_are_one_line_and_others_a_traceback(run):
    run.watch(lambda: [1000, 227])
    for error in (KeyboardInterrupt(), CancelledError()):
        stopped = Run(run.title, run.total, run.engines)
        stopped.watch(lambda: [1000, 227])
        stopped.set_exception(error)
        (line,) = error._render_traceback_()
        assert line == (
            f"{type(error).__name__}: stopped score over 5,000 columns of rna.X after 1,227; "
            "the engines are idle"
        )
        assert stopped.state == "cancelled"
    deaf = Run(run.title, run.total, run.engines)
    deaf.idle = False  # as after an item in C code, which no interrupt reaches
    deaf.set_exception(error := CancelledError())
    assert error._render_traceback_()[0].endswith("after 0; an engine goes on with its item")
    run.set_exception(error := ValueError("no\nmore"))
    assert not hasattr(error, "_render_traceback_")
    assert (run.state, run.failure) == ("failed", "no")


def test_what_is_remembered_of_a_run_keeps_no_results(run):
    class Result:
        pass

    result = Result()
    kept = weakref.ref(result)
    run.watch(lambda: [2500, 2500])
    run.set_result(result)
    ended = last_run()
    assert (ended.id, ended.title, ended.state) == (run.id, run.title, "done")
    assert (ended.done, ended.total) == ([2500, 2500], 5000)
    assert ended.ended >= ended.began
    run._result = None
    del result
    gc.collect()
    assert kept() is None


def test_a_run_that_is_shown_is_renewed_until_it_ends(run, outputs, monkeypatch):
    run._ipython_display_()
    run.watch(lambda: [1, 0])
    monkeypatch.setattr(_shown, "_STEP_S", 0.0)
    run.shown[0].update(at_once=True)
    run.set_exception(ValueError("no such gene"))
    assert [name for name, _ in outputs] == ["display", "update_display", "update_display"]
    assert outputs[0][1].endswith("0 of 5,000")
    assert "failed after 1 of 5,000" in outputs[-1][1]
    assert outputs[-1][1].endswith("no such gene")
    assert run.shown == []
    run._ipython_display_()  # and afterwards as it ended
    assert outputs[-1] == ("display", outputs[-2][1])


def test_one_who_waits_for_a_result_in_a_notebook_is_shown_how_far_it_is(run, outputs, monkeypatch):
    monkeypatch.setattr(_run, "_PATIENCE_S", 0.01)
    with pytest.raises(TimeoutError):
        run.result(timeout=0.05)
    assert [name for name, _ in outputs] == ["display"]
    run.set_result(7)
    assert run.result() == 7


def test_a_result_that_is_there_is_not_waited_for(run, outputs):
    run.set_result(7)
    assert run.result() == 7
    assert outputs == []
    failed = Run("x", 1, [0])
    failed.set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        failed.result()


@pytest.mark.parametrize("patience_s", [0.05, 60.0])  # it is shown by then, or not yet
def test_an_interrupt_of_who_waits_for_a_run_is_one_line_and_the_run_goes_on(
    run, outputs, monkeypatch, patience_s
):
    monkeypatch.setattr(_run, "_PATIENCE_S", patience_s)
    interrupting = threading.Timer(
        0.4, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
    )
    interrupting.start()
    with pytest.raises(KeyboardInterrupt) as interrupted:
        run.result()
    interrupting.join()
    assert len(outputs) == (patience_s < 1)
    (line,) = interrupted.value._render_traceback_()
    said = f"stopped waiting: {run.title} goes on; cancel() of its run stops it"
    assert line == f"KeyboardInterrupt: {said}"
    assert run.state == "running"
