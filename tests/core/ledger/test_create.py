"""Session files on a file system that cannot make a file without a name."""

from __future__ import annotations

import errno
import os

import pytest

import memshare_jupyter as ms
from memshare_jupyter.core._opened import Opened
from memshare_jupyter.core.ledger import _create

REGISTER = "ms.register_variables('n', {'x': np.arange(9)})"
NO_UNNAMED = """
def no_unnamed(original=os.open):
    def opening(path, flags, *args, **kwargs):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError({number}, "not here")
        return original(path, flags, *args, **kwargs)
    os.open = opening
no_unnamed()
"""
STEPS = {
    "1 no file yet": ("memshare_jupyter.core.ledger._create._create_hidden", 1, "before"),
    "1 file half filled": ("os.pwrite", 1, "half"),
    "1 file filled": ("os.pwrite", 1, "after"),
    "2 locked": ("fcntl.lockf", 1, "after"),
    "3 renamed": ("memshare_jupyter.core.ledger._create._create_hidden", 1, "after"),
}


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL])
def test_a_session_begins_without_o_tmpfile(child, listed, truth, runtime_directory, number):
    owner = child(NO_UNNAMED.format(number=number))
    owner.run(REGISTER)
    assert listed() == truth() != {}
    assert ms.Namespace("n")["x"].sum() == 36
    owner.kill()
    assert listed() == truth() == {}
    assert not list(runtime_directory.glob(".*"))


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_kill_before_the_rename_leaves_nothing(child, listed, truth, runtime_directory, step):
    victim = child(NO_UNNAMED.format(number=errno.EOPNOTSUPP))
    victim.run(f"at_call(*{step!r})")
    victim.dies(REGISTER)
    assert listed() == truth() == {}
    assert not list(runtime_directory.glob(f"*{victim.pid}-*"))
    assert not list(runtime_directory.glob(f".*{victim.pid}-*"))


def test_a_hidden_file_that_was_swept_too_early_is_made_again(child, listed, truth):
    owner = child(NO_UNNAMED.format(number=errno.EOPNOTSUPP))
    owner.run(
        "import glob\n"
        "directory = os.environ['XDG_RUNTIME_DIR'] + '/memshare'\n"
        "sweep = lambda: [os.unlink(f) for f in glob.glob(directory + '/.*')]\n"
        "at_call('fcntl.lockf', 1, 'before', sweep)"
    )
    owner.run(REGISTER)
    assert listed() == truth() != {}
    owner.exit()


def test_a_locked_hidden_file_is_left_alone(child, tmp_path):
    hidden = tmp_path / ".1.session.new"
    maker = child("from memshare_jupyter.core._locks import try_lock")
    maker.run(f"fd = os.open({str(hidden)!r}, os.O_RDWR | os.O_CREAT); try_lock(fd)")
    _create.sweep_hidden(hidden)
    assert hidden.exists()
    maker.kill()
    _create.sweep_hidden(hidden)
    assert not hidden.exists()


def test_both_ways_make_the_same_file(tmp_path):
    unnamed, hidden = Opened(), Opened()
    _create._create_unnamed(unnamed, tmp_path / "a", b"image")
    _create._create_hidden(hidden, tmp_path / "b", b"image")
    for opened in (unnamed, hidden):
        assert os.pread(opened.fd, 9, 0) == b"image"
        assert os.fstat(opened.fd).st_mode & 0o777 == 0o600
        opened.close()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert all((tmp_path / name).read_bytes() == b"image" for name in "ab")
