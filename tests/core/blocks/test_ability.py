"""Where the system refuses what memfds need, pages are files, and everything else goes on."""

from __future__ import annotations

import errno
import fcntl
import os
import platform

import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.blocks import _ability, _block, _memfd

NUMBERS = {
    "x86_64": {"memfd_create": 319, "linkat": 265},
    "aarch64": {"memfd_create": 279, "linkat": 37},
}
FILTER = """
import struct
def deny(number, error):
    # load the call's number; is it that one? then fail, else allow
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number)]
    code += [(6, 0, 0, 0x50000 | error), (6, 0, 0, 0x7fff0000)]
    global lines
    lines = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
    program = struct.pack("@HP", len(code), ctypes.addressof(lines))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)
    if libc.prctl(22, 2, program) != 0:
        raise OSError(ctypes.get_errno(), "no filter")
"""


@pytest.fixture
def without(child, tmp_path):
    """Make children to which the kernel denies a system call, as containers' filters do."""

    def make(call, error):
        if platform.machine() not in NUMBERS:
            pytest.skip(f"the number of {call} on {platform.machine()} is not known here")
        one = child(FILTER)
        try:
            one.run(f"deny({NUMBERS[platform.machine()][call]}, {error})")
        except OSError as refused:
            pytest.skip(f"no seccomp filter can be made: {refused}")
        return one

    return make


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_without_memfds_a_page_is_a_file_that_everybody_attaches(without, child, error):
    owner = without("memfd_create", error)
    with pytest.raises(OSError, match=os.strerror(error)):
        owner.run("os.memfd_create('x')")
    owner.run("ms.register_variables('n', {'x': np.arange(5)})")
    assert ms.Namespace("n")["x"].tolist() == [0, 1, 2, 3, 4]
    assert owner.eval("segment.anonymous()[0]") == "file"
    owner.exit()


def test_a_memfd_that_was_asked_for_is_refused_with_the_reason(without):
    owner = without("memfd_create", errno.EPERM)
    with pytest.raises(ValueError, match=r"no memfds: the system refuses them.*choose 'file'"):
        owner.run("segment.choose('memfd')")


@pytest.mark.parametrize("error", [errno.EPERM, errno.EACCES, errno.ENOSYS])
def test_where_a_file_cannot_be_given_a_name_later_it_has_one_from_the_start(without, error):
    owner = without("linkat", error)
    owner.run("ms.register_variables('n', {'x': np.arange(5)})")
    assert ms.Namespace("n")["x"].sum() == 10
    owner.exit()


# --- what is found out -------------------------------------------------------------------


@pytest.fixture
def unknown(monkeypatch):
    monkeypatch.setattr(_ability, "_known", [])


def test_here_memfds_can_be_had(unknown):
    if not hasattr(os, "memfd_create"):
        pytest.skip("this system has no memfds")
    assert _ability.why_no_memfds() == ""
    assert _memfd.available()


def test_a_kernel_without_the_seal_is_found_out_before_a_page_needs_it(unknown, monkeypatch):
    real = fcntl.fcntl

    def old(fd, command, argument=0):
        if command == fcntl.F_ADD_SEALS and argument & _ability.F_SEAL_FUTURE_WRITE:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", old)
    assert "before 5.1" in _ability.why_no_memfds()
    assert _block.choose()[0] == "file"


def test_without_proc_nobody_could_reach_one(unknown, monkeypatch):
    real = os.open

    def without_proc(path, *args, **kwargs):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", without_proc)
    assert "no /proc" in _ability.why_no_memfds()


def test_it_is_tried_once_and_leaves_nothing(unknown, monkeypatch):
    made = []
    real = os.memfd_create
    monkeypatch.setattr(os, "memfd_create", lambda *args: made.append(args) or real(*args))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        _ability.why_no_memfds()
    assert len(made) == 1
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOMEM])
def test_what_may_pass_is_not_taken_for_an_inability(unknown, monkeypatch, error):
    def refuse(*args):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert _ability.why_no_memfds() == ""
    assert _ability._known == []
