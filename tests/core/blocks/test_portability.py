"""A system with none of what only Linux has: the package must import, and share by files."""

from __future__ import annotations

import subprocess
import sys

ELSEWHERE = """
import builtins, fcntl, os, pathlib, socket, sys

for module, names in {
    os: ["memfd_create", "MFD_CLOEXEC", "MFD_ALLOW_SEALING", "O_TMPFILE", "O_PATH",
         "posix_fallocate", "pidfd_open"],
    fcntl: ["F_ADD_SEALS", "F_GET_SEALS", "F_SEAL_SEAL", "F_SEAL_GROW", "F_SEAL_SHRINK"],
    socket: ["SO_PEERCRED", "MSG_CMSG_CLOEXEC"],
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

def without_proc(original):
    def call(path, *args, **kwargs):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "No such file or directory", os.fspath(path))
        return original(path, *args, **kwargs)
    return call

for name in ("open", "stat", "lstat", "readlink", "listdir", "scandir"):
    setattr(os, name, without_proc(getattr(os, name)))
builtins.open = without_proc(builtins.open)
import io
io.open = builtins.open
"""
OWNER = """
import numpy as np, memshare_jupyter as ms
from memshare_jupyter.core.blocks import _room as memory
from memshare_jupyter.apply._queue import Queue
from memshare_jupyter.worker._arena import Arena
from memshare_jupyter.worker._claims import Claims
from memshare_jupyter.worker._layout import Address, shares
assert memory.room().free_bytes > 0
ms.register_variables("n", {"x": np.arange(9_000_000)})
assert ms.Namespace("n")["x"].sum() == 40499995500000
print("there", flush=True)
assert sys.stdin.readline() == "fork\\n"
if (pid := os.fork()) == 0:
    assert ms.view_list() == ["n.x"]
    ms.core.registry._process.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
queue = Queue(1, shares(10, 1))
arena = Arena()
claims = Claims(arena, Address(queue.address, queue.address, None, 10, 1), 0)
assert sum(map(len, claims)) == 10
claims.close(); arena.close(); queue.close()
sys.stdin.read()
"""
VIEWER = """
import memshare_jupyter as ms
print(ms.retrieve_views("n", "x")["x"].sum(), ms.snapshot().pages[0].handles)
"""


def test_pages_are_shared_by_files_where_there_are_no_memfds(child_environment, tmp_path):
    environment = {**child_environment, "XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment["MEMSHARE_DIR"] = str(tmp_path / "pages")
    python = [sys.executable, "-W", "error", "-c"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    owner = subprocess.Popen([*python, ELSEWHERE + OWNER], env=environment, **pipes)
    try:
        assert owner.stdout.readline() == "there\n"
        viewer = subprocess.run(
            [*python, ELSEWHERE + VIEWER], env=environment, capture_output=True, text=True
        )
        assert viewer.returncode == 0, viewer.stderr
        assert viewer.stdout == "40499995500000 2\n"
        owner.communicate("fork\n", timeout=30)
        assert owner.returncode == 0
    finally:
        owner.kill()
        owner.wait()
    assert list((tmp_path / "pages").iterdir()) == []


def test_without_memfds_a_file_needs_no_asking(child_environment, tmp_path):
    code = (
        ELSEWHERE
        + "from memshare_jupyter.core.blocks import _block as segment; print(segment.choose())"
    )
    environment = {**child_environment, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.startswith("('file', "), done.stderr


def test_layouts_of_record_locks_read_alike(tmp_path):
    import fcntl
    import struct

    from memshare_jupyter.core import _locks

    assert struct.calcsize("@qqihh") == 24  # struct flock of macOS and the BSDs
    with open(tmp_path / "f", "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
        assert not _locks.is_locked(file.fileno())  # one's own is no hindrance
