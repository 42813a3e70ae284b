"""Calls on engines of several hosts: as on one host, whatever is asked for."""

from __future__ import annotations

import time

import numpy as np
import pytest

DATA = """
rng = np.random.default_rng(0)
A = rng.standard_normal((400, 300))
ms.register_variables("study", {"X": A, "w": np.arange(400.0)})
def cols(fun, X="study.X", **options):
    return ms.memapply(X, "cols", fun, cluster=c, **options)
"""


@pytest.fixture(scope="module")
def client(two):
    made = two.client()
    made.run(DATA)
    yield made
    made.exit()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("ms.memapply('study.X', 'cols', np.std, cluster=c)", "[np.std(v) for v in A.T]"),
        ("ms.memapply('study.X', 'rows', np.sum, cluster=c)", "[np.sum(v) for v in A]"),
        ("ms.memapply(A, 'cols', np.median, cluster=c)", "[np.median(v) for v in A.T]"),
        (
            "cols(lambda v, w: float((v > 0) @ w), vars=['w'])",
            "[float((v > 0) @ np.arange(400.0)) for v in A.T]",
        ),
        (
            "ms.memlapply([np.ones(i) for i in range(1, 90)], np.sum, cluster=c)",
            "[float(i) for i in range(1, 90)]",
        ),
        (
            "cols(lambda b: b.max(axis=0).tolist(), batch=True)",
            "A.max(axis=0).tolist()",
        ),
        ("ms.memapply('study.X', 'rows', np.sort, out='array', cluster=c)", "np.sort(A)"),
        (
            "ms.memapply('study.X', 'cols', lambda v, rng: rng.random(), seed=3, cluster=c)",
            "ms.memapply('study.X', 'cols', lambda v, rng: rng.random(), seed=3)",
        ),
        (
            "ms.memapply('study.X', 'cols', lambda v: {'a': v[0]}, cluster=c)",
            "[{'a': x} for x in A[0]]",
        ),
        (
            "cols(np.sum, X=ms.retrieve_views('study', 'X')['X'][:50, 10:20])",
            "[np.sum(v) for v in A[:50, 10:20].T]",
        ),
        ("ms.memapply(A[:3, :0], 'cols', np.sum, cluster=c)", "[]"),
    ],
)
def test_results_are_those_of_a_loop(client, call, expected):
    found, wanted = client.value(f"({call}, {expected})")
    assert type(found) is type(wanted)
    np.testing.assert_equal(found, wanted)
    assert client.value("warned") == []


def test_both_hosts_work_and_progress_is_told_by_engine(client):
    client.run(
        "run = ms.memapply(A, 'cols', lambda v: time.sleep(0.02), cluster=c, block=False)\n"
        "run.result(60)"
    )
    assert client.value("(run.progress, run.total)") == (300, 300)
    done = client.value("dict(zip(run.engines, run.done_by_engine()))")
    for host in ("h1", "h2"):
        assert sum(done[i] for i in client.value(f"on({host!r})")) > 30


def test_an_array_that_stays_and_one_that_is_given(client):
    client.run(
        "s = ms.memapply('study.X', 'cols', np.std, out='study.s', cluster=c)\n"
        "given = np.zeros(300)\n"
        "same = ms.memapply('study.X', 'cols', np.std, out=given, cluster=c) is given"
    )
    assert client.value("same and np.allclose(s, A.std(0)) and (given == s).all()")
    assert client.value("s.page") == "study.s"


def test_results_of_several_kinds_for_an_array(client):
    # Whichever host is first, the other one's are of another dtype.
    client.run(
        "def kind(v):\n"
        "    import socket\n"
        "    return np.float64(v[0]) if socket.gethostname() == 'h1' else np.float32(v[0])\n"
        "found = ms.memapply(A, 'cols', kind, out='array', cluster=c)"
    )
    np.testing.assert_allclose(*client.value("(found, A[0])"), rtol=1e-6)


def test_frames_have_their_labels(client):
    pytest.importorskip("pandas")
    client.run(
        "import pandas as pd\n"
        "df = pd.DataFrame(A[:, :6], columns=list('abcdef'))\n"
        "s = ms.memapply(df, 'cols', np.mean, out='series', cluster=c)"
    )
    assert client.value("list(s.index)") == list("abcdef")
    assert client.value("np.allclose(s, A[:, :6].mean(0))")


def test_a_large_array_in_a_closure_comes_along(client):
    client.run("big = np.arange(2e5)\nfound = ms.memapply(A, 'cols', lambda v: big[7], cluster=c)")
    assert client.value("found == [7.0] * 300")


def test_an_error_names_the_item_and_the_engines_are_free_at_once(client):
    client.run(
        "def bad(v):\n"
        "    time.sleep(0.005)\n"
        "    if abs(v[0] - A0) < 1e-12:\n        raise ValueError('no good')\n"
        "A0 = A[0, 250]\n"
        "try:\n    ms.memapply('study.X', 'cols', bad, cluster=c)\n"
        "except ms.MemApplyError as e:\n    error = e\n"
        "c[:].apply_async(len, ()).get(5)"
    )
    assert client.value("(error.index, 'no good' in str(error))") == (250, True)
    assert client.value("'in bad' in error.remote_traceback")


def test_errors_in_place_of_results(client):
    client.run(
        "found = ms.memapply('study.X', 'cols', lambda v: 1 // int(v[0] > 0), on_error='return',"
        " cluster=c)"
    )
    assert client.value(
        "all(x == 1 if a > 0 else type(x) is ZeroDivisionError for x, a in zip(found, A[0]))"
    )


def test_what_the_function_says_is_said_here(client):
    client.run(
        "def loud(v):\n    import warnings\n    print('hello')\n    warnings.warn('careful')\n"
        "run = ms.memapply(A[:, :40], 'cols', loud, cluster=c, block=False)\nrun.result(60)"
    )
    assert client.value("sorted({item for _, item, _, text in run.output})") == list(range(40))


def test_a_run_can_be_cancelled_and_leaves_the_engines_idle(client):
    client.run(
        "run = ms.memapply(A, 'cols', lambda v: time.sleep(30), cluster=c, block=False)\n"
        "while not any(run.done_by_engine()) and time.time() - run.began < 1.5: time.sleep(0.05)\n"
        "run.cancel()\n"
        "error = run.exception(20)\nbegun = time.monotonic()\n"
        "c[:].apply_async(len, ()).get(20)"
    )
    assert client.value("type(error).__name__") == "CancelledError"
    assert client.value("time.monotonic() - begun") < 10


def test_two_calls_at_once_wait_for_each_other(client):
    client.run(
        "runs = [ms.memapply(A, 'cols', lambda v: time.sleep(0.005), cluster=c, block=False)"
        " for _ in range(2)]\n[run.result(60) for run in runs]"
    )
    assert client.value("[run.progress for run in runs]") == [300, 300]


def test_nothing_of_a_call_is_left_on_another_host(two, client):
    client.run("ms.memapply(A, 'cols', np.sum, out='array', cluster=c)")
    kept = client.value("{p.uuid for p in ms.snapshot().pages}")
    deadline = time.monotonic() + 10
    while not set(two.blocks("h2")) <= kept:
        assert time.monotonic() < deadline
        time.sleep(0.1)
