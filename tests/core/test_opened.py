"""Descriptors that nothing loses: neither an interrupt nor an error nor a fork."""

from __future__ import annotations

import gc
import os
import threading

import pytest

from memshare_jupyter.core import _opened
from memshare_jupyter.core._opened import Opened


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def one():
    made = Opened()
    yield made
    made.close()


def test_it_has_no_descriptor_before_and_after(one):
    assert one.fd == -1
    fd = one.open(os.open, os.devnull, os.O_RDONLY)
    assert one.fd == fd
    assert is_open(fd)
    one.close()
    assert one.fd == -1
    assert not is_open(fd)
    one.close()


def test_closing_again_closes_nobody_elses_descriptor(one):
    fd = one.open(os.open, os.devnull, os.O_RDONLY)
    one.close()
    other = os.open(os.devnull, os.O_RDONLY)
    assert other == fd
    one.close()
    assert is_open(other)
    os.close(other)


def test_a_call_that_fails_leaves_it_as_it_was(one):
    with pytest.raises(FileNotFoundError):
        one.open(os.open, "/nonexistent", os.O_RDONLY)
    assert one.fd == -1


def test_what_is_in_use_is_known_and_what_was_closed_is_not(one):
    assert one not in list(_opened.known())
    one.open(os.open, os.devnull, os.O_RDONLY)
    assert one in list(_opened.known())
    one.close()
    assert one not in list(_opened.known())


def test_one_that_was_forgotten_is_closed_by_the_next_act():
    made = Opened()
    fd = made.open(os.open, os.devnull, os.O_RDONLY)
    del made
    gc.collect()
    assert _opened.lost()
    assert is_open(fd)
    _opened.close_lost()
    assert not is_open(fd)
    assert not _opened.lost()


def test_one_that_was_closed_and_forgotten_closes_nothing_more():
    made = Opened()
    fd = made.open(os.open, os.devnull, os.O_RDONLY)
    made.close()
    other = os.open(os.devnull, os.O_RDONLY)
    assert other == fd
    del made
    _opened.close_lost()
    assert is_open(other)
    os.close(other)


def test_a_descriptor_that_was_given_is_the_others_alone(one):
    first = Opened()
    fd = first.open(os.open, os.devnull, os.O_RDONLY)
    first.give(one)
    assert (first.fd, one.fd) == (-1, fd)
    del first
    _opened.close_lost()
    assert is_open(fd)


def test_interrupts_at_any_moment_lose_no_descriptor(child):
    one = child("""
from memshare_jupyter.core import _opened
def deed():
    made = _opened.Opened()
    made.open(os.open, os.devnull, os.O_RDONLY)
    other = _opened.Opened()
    made.give(other)
    other.close()
    again = _opened.Opened()
    again.open(os.open, os.devnull, os.O_RDONLY)
def interrupt():
    untraced()
    raise KeyboardInterrupt
def count():
    return len(os.listdir('/proc/self/fd'))
seen = at_bytecode(-1, None); deed(); untraced()
_opened.close_lost()
before, struck = count(), 0
for event in range(1, seen[0] + 1):
    try:
        at_bytecode(event, interrupt)
        deed()
    except KeyboardInterrupt:
        struck += 1
    untraced()
    _opened.close_lost()
    assert count() == before, event
""")
    assert one.eval("struck == seen[0] > 20")


def test_a_fork_waits_for_no_more_than_a_system_call(child):
    one = child("""
from memshare_jupyter.core import _opened
_opened._PATIENCE_S = 20
begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
made = _opened.Opened()
def slow():
    begun.set(); go_on.wait(20)
    return os.open(os.devnull, os.O_RDONLY)
thread = threading.Thread(target=lambda: made.open(slow)); thread.start(); begun.wait(20)
def fork():
    if (pid := os.fork()) == 0:
        os._exit(0 if made.fd >= 0 else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])); done.set()
codes = []
forking = threading.Thread(target=fork); forking.start()
early = done.wait(0.2)
go_on.set(); thread.join(); forking.join()
""")
    # The child finds the descriptor in its list.
    assert one.eval("early, codes") == (False, [0])


def test_threads_that_close_one_at_once_close_it_once(one):
    for _ in range(200):
        one.open(os.open, os.devnull, os.O_RDONLY)
        threads = [threading.Thread(target=one.close) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert one.fd == -1


def test_a_handler_may_close_what_is_lost_while_that_is_being_done(child):
    one = child("""
from memshare_jupyter.core import _opened
def lose():
    for _ in range(3):
        _opened.Opened().open(os.open, os.devnull, os.O_RDONLY)
def handler():
    untraced()
    lose()
    _opened.close_lost()
lose()
seen = at_bytecode(-1, None); _opened.close_lost(); untraced()
before = len(os.listdir('/proc/self/fd'))
for event in range(1, seen[0] + 1):
    lose()
    at_bytecode(event, handler)
    _opened.close_lost()
    untraced()
    assert not _opened.lost(), event
    assert len(os.listdir('/proc/self/fd')) == before, event
""")
    assert one.eval("seen[0] > 20")
