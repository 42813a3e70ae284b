"""What is known of this process and of others by their numbers."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time

import pytest

from memshare_jupyter.core import _proc


@pytest.fixture
def sleeper():
    made = []

    def make(*command):
        made.append(subprocess.Popen([*command, "sleep", "60"]))
        return made[-1]

    yield make
    for one in made:
        one.kill()
        one.wait()


def test_a_process_is_told_from_its_successor_by_its_start_time(sleeper):
    first = sleeper()
    began = _proc.start_time(first.pid)
    assert _proc.start_time(first.pid) == began
    time.sleep(2.5 / os.sysconf("SC_CLK_TCK"))
    assert _proc.start_time(sleeper().pid) > began


def test_the_start_time_is_that_of_the_process_and_not_of_the_boot(sleeper):
    with open("/proc/uptime") as file:
        uptime_s = float(file.read().split()[0])
    began_s = _proc.start_time(os.getpid()) / os.sysconf("SC_CLK_TCK")
    now_s = _proc.start_time(sleeper().pid) / os.sysconf("SC_CLK_TCK")
    assert began_s < now_s
    assert abs(now_s - uptime_s) < 5


def test_a_name_with_brackets_and_blanks_does_not_hide_the_start_time(child):
    one = child()
    began = _proc.start_time(one.pid)
    one.run("ctypes.CDLL(None).prctl(15, b') R 1 2 (3', 0, 0, 0)")  # PR_SET_NAME
    with open(f"/proc/{one.pid}/stat") as file:
        assert ") R 1 2 (3" in file.read()
    assert _proc.start_time(one.pid) == began


def test_that_nothing_lives_is_known_without_a_descriptor(child, sleeper):
    ended, lives = sleeper(), sleeper()
    ended.kill()
    ended.wait()
    one = child(
        "import resource\nfrom memshare_jupyter.core import _proc\n"
        "limits = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))\n"
    )
    assert one.eval(f"_proc.start_time({ended.pid})") is None
    with pytest.raises(OSError, match="Too many open files"):
        one.eval(f"_proc.start_time({lives.pid})")


def test_there_is_no_start_time_of_what_does_not_live(sleeper):
    ended = sleeper()
    ended.kill()
    ended.wait()
    assert _proc.start_time(ended.pid) is None


def test_where_nothing_can_be_read_no_start_time_is_known(monkeypatch):
    def no_proc(*args):
        raise FileNotFoundError

    monkeypatch.setattr(_proc, "open", no_proc, raising=False)
    assert _proc.start_time(os.getpid()) is None


@pytest.mark.parametrize(("number", "kind"), [("pid_namespace", "pid"), ("user_namespace", "user")])
def test_a_namespace_is_known_by_the_kernels_number_of_it(number, kind):
    link = os.readlink(f"/proc/self/ns/{kind}")
    assert link == f"{kind}:[{getattr(_proc, number)()}]"


def test_another_user_namespace_has_another_number(child_environment):
    code = "from memshare_jupyter.core import _proc; print(_proc.user_namespace())"
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", code]
    inside = subprocess.run(command, env=child_environment, capture_output=True, text=True)
    if inside.returncode and "unshare failed" in inside.stderr:
        pytest.skip(f"no user namespace can be made: {inside.stderr.strip()}")
    assert inside.returncode == 0, inside.stderr
    assert int(inside.stdout) not in (0, _proc.user_namespace())


def test_a_child_of_a_fork_is_not_told_its_parents_namespace():
    if os.getuid() != 0 and not hasattr(os, "unshare"):
        pytest.skip("no pid namespace can be made")
    mine = _proc.pid_namespace()
    libc = ctypes.CDLL(None, use_errno=True)
    read, write = os.pipe()
    if (parent := os.fork()) == 0:
        if libc.unshare(0x20000000) == 0 and os.fork() == 0:  # CLONE_NEWPID
            os.write(write, str(_proc.pid_namespace()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    os.waitpid(parent, 0)
    if not said:
        pytest.skip("no pid namespace can be made")
    assert int(said) not in (0, mine)
