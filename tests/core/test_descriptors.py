"""How many files a process may have open, and what is said when it has as many."""

from __future__ import annotations

import errno
import resource

import pytest

from memshare_jupyter.core import _descriptors
from memshare_jupyter.errors import TooManyFilesError


@pytest.fixture
def limits(monkeypatch):
    """A process that may have 256 files open, and 1,000 if it asks for it."""
    now = [256, 1000]

    def setrlimit(which, pair):
        if pair[0] > pair[1]:
            raise ValueError("current limit exceeds maximum limit")
        now[:] = pair

    monkeypatch.setattr(resource, "getrlimit", lambda which: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    return now


def test_the_limit_grows_before_it_is_reached(limits):
    _descriptors.keep_spare(100)
    assert limits == [256, 1000]
    _descriptors.keep_spare(200)
    assert limits == [512, 1000]


def test_after_a_failure_there_is_more_room_until_there_is_none(limits):
    assert [_descriptors.make_room() for _ in range(4)] == [True, True, False, False]
    assert limits == [1000, 1000]


def test_what_the_system_does_not_allow_is_no_error(limits, monkeypatch):
    def refuse(which, pair):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    _descriptors.keep_spare(200)
    assert not _descriptors.make_room()


def test_the_number_that_is_told_is_the_one_that_was_reached(limits):
    with pytest.raises(TooManyFilesError, match=r"have 256 files open \(the hard limit is 1,000\)"):
        _descriptors.raise_if_run_out(OSError(errno.EMFILE, "Too many open files"))
    assert limits == [512, 1000]  # so that the next call can go on
    limits[:] = [1000, 1000]
    with pytest.raises(TooManyFilesError, match="have 1,000 files open, and has as many"):
        _descriptors.raise_if_run_out(OSError(errno.EMFILE, "Too many open files"))


def test_a_machine_that_has_none_left_is_told_from_a_process(limits):
    with pytest.raises(TooManyFilesError, match=r"no process on this machine.*fs.file-max"):
        _descriptors.raise_if_run_out(OSError(errno.ENFILE, "Too many open files in system"))


def test_other_errors_are_none_of_its_business(limits):
    _descriptors.raise_if_run_out(OSError(errno.ENOENT, "no"))
    assert limits == [256, 1000]
