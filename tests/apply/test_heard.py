"""What the function says on the engines reaches whoever called."""

from __future__ import annotations

import logging
import sys
import time
import warnings

import numpy as np
import pytest

import memshare_jupyter as ms

X = np.arange(8.0).reshape(8, 1)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    cluster = ms.local_cluster(2, quiet=True)
    yield
    cluster.stop()


def talk(row):
    print("one of", row[0])
    print("two", file=sys.stderr)
    logging.getLogger("mine").warning("three")


def test_prints_and_logging_come_with_engine_and_item(capsys):
    ms.memapply(X, "rows", talk)
    said, wrong = capsys.readouterr()
    assert [line.partition("] ")[2] for line in said.splitlines()] == [
        f"one of {i}.0" for i in range(8)
    ]
    assert all(f", item {i}] " in line for i, line in enumerate(said.splitlines()))
    assert wrong.count("] two\n") == wrong.count("] three\n") == 8


def test_quiet_is_quiet_and_a_run_has_it_all(capsys):
    run = ms.memapply(X, "rows", talk, quiet=True, block=False)
    run.result(60)
    assert capsys.readouterr() == ("", "")
    assert [text for _, _, stream, text in run.output if stream == "stdout"] == [
        f"one of {i}.0\n" for i in range(8)
    ]
    assert {engine for engine, *_ in run.output} <= {*run.engines}


def test_much_is_cut_and_what_is_left_out_is_counted(capsys):
    ms.memapply(X, "rows", lambda row: print("\n" * 9_999 + "x" * 90_000))
    said = capsys.readouterr().out
    assert len(said) < 60_000
    assert "[engines] ... 79,900 lines more\n" in said


def test_a_warning_comes_once_for_each_place_with_a_count():
    def warn(row):
        np.log(-1 - row)
        if row[0] == 5:
            warnings.warn("odd", FutureWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        ms.memapply(X, "rows", warn)
    assert [w.category for w in heard] == [RuntimeWarning, FutureWarning]
    assert "(8 times, first at item 0, engine" in str(heard[0].message)
    assert "odd (item 5, engine" in str(heard[1].message)
    assert heard[1].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(FutureWarning, match="odd"):
            ms.memapply(X, "rows", warn)


def test_an_error_shows_what_the_item_had_printed_and_not_what_others_had():
    def fun(row):
        print("at", row[0])
        if row[0] == 3:
            raise ValueError("no")
        return 1

    with pytest.raises(ms.MemApplyError) as caught:
        ms.memapply(X, "rows", fun, max_cores=1)
    assert "The item had printed:\n  at 3.0" in caught.value.remote_traceback
    assert "at 2.0" not in caught.value.remote_traceback


def test_handlers_of_loggers_are_heard_in_later_calls(capsys):
    def set_up(row):
        log = logging.getLogger("kept")
        if not log.handlers:
            log.addHandler(logging.StreamHandler())
        log.error("heard")

    for _ in range(2):
        ms.memapply(X[:1], "rows", set_up, max_cores=1)
        assert capsys.readouterr().err.count("heard") >= 1


@pytest.mark.slow
def test_figures_and_displays_come_with_engine_and_item(capsys):
    pytest.importorskip("matplotlib")

    def plot(row):
        import matplotlib.pyplot as plt
        from IPython.display import display

        time.sleep(0.06)  # figures are looked for after each item that takes as long
        plt.plot(row)
        display({"text/plain": f"shown {row[0]}"}, raw=True)
        return len(plt.get_fignums())

    found = ms.memapply(X, "rows", plot)
    assert set(found) == {1}
    said = capsys.readouterr().out
    assert said.count("] <Figure") == 8
    assert all(f", item {i}] shown {i}.0" in said for i in range(8))
    ms.memapply(X, "rows", plot, quiet=True)
    assert capsys.readouterr().out == ""


def test_the_first_item_that_warned_is_the_first_in_their_order():
    from memshare_jupyter.worker._said import Listener

    items = iter([4, 6, 0, 2])
    listener = Listener(lambda: next(items))
    for _ in range(4):
        listener.warn("odd", UserWarning, "file", 1)
    assert [*listener.said.warned.values()] == [[4, 0]]
