"""Invariants 5 and 6: other users are kept out, and the kernel keeps views read-only."""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.core.registry._page import Page
from memshare_jupyter.errors import PageNotFoundError

SIZE = 5_000
SUM = SIZE * (SIZE - 1) // 2
REGISTER = f"ms.register_variables('n', {{'x': np.arange({SIZE})}})"
ATTACH = "x = ms.retrieve_views('n', 'x')['x']"


# --- 5: other users ----------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_can_neither_see_nor_attach(child, runtime_directory, truth):
    ms.register_variables("n", {"x": np.arange(SIZE)})
    (page,) = ms.snapshot().pages
    fd = next(iter(process.registry()._handles.pages.values())).page.block.fd
    other = child("os.setgroups([]); os.setgid(65534); os.setuid(65534)")
    for path in (runtime_directory, *runtime_directory.glob("*")):
        with pytest.raises(PermissionError):
            other.run(f"os.listdir({str(path)!r}); open({str(path)!r})")
    for access in ("O_RDONLY", "O_RDWR", "O_PATH"):
        with pytest.raises(PermissionError):
            other.run(f"os.open('/proc/{os.getpid()}/fd/{fd}', os.{access})")
    other.run("from memshare_jupyter.core.blocks import _block as segment")
    where = f"bytes.fromhex({page.uuid!r}), {os.getpid()}, segment._proc.pid_namespace(), {fd}"
    with pytest.raises(Exception, match="Permission denied"):
        other.run(f"segment.attach(segment.Address({where}))")
    with pytest.raises(PageNotFoundError):
        other.run(ATTACH)
    other.exit()
    ms.release_variables("n", "x")
    assert truth() == {}


def test_no_pickle_is_loaded_from_a_page_that_the_kernel_calls_anothers(child):
    ms.register_variables("n", {"x": np.arange(SIZE), "pickled": {1, 2}})
    other = child("mine, os.geteuid = os.geteuid, lambda: 65534")
    with pytest.raises(ms.HeaderMismatchError, match="the page was not made by this user"):
        other.run("ms.Namespace('n')['pickled']")
    assert other.eval("ms.Namespace('n')['x'].sum()") == SUM  # which runs no code
    other.run("os.geteuid = mine")
    assert other.eval("ms.Namespace('n')['pickled']") == {1, 2}
    ms.release_variables("n", ["x", "pickled"])


# --- 6: read-only by the kernel's hand ---------------------------------------------------


@pytest.fixture
def shared():
    ms.register_variables("n", {"x": np.arange(SIZE)})
    yield
    ms.release_variables("n", "x")


def test_a_view_cannot_be_made_writable(shared):
    view = ms.Namespace("n")["x"]
    assert not view.flags.writeable
    assert memoryview(view).readonly
    for array in (view, view[3:], np.asarray(view), view.base):
        if isinstance(array, np.ndarray):
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.setflags(write=True)


def test_mprotect_cannot_make_a_view_writable(shared):
    view = ms.Namespace("n")["x"]
    libc = ctypes.CDLL(None, use_errno=True)
    address = view.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    both = mmap.PROT_READ | mmap.PROT_WRITE
    assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), both) == -1
    assert ctypes.get_errno() == 13
    assert view.sum() == SUM


def test_the_descriptor_of_a_view_cannot_be_written(shared):
    view = ms.Namespace("n")["x"]
    (handle,) = process.registry()._handles.views.values()
    page: Page = handle.page
    with pytest.raises(OSError, match=r"Bad file descriptor"):
        os.pwrite(page.block.fd, b"x", 0)
    writable = os.open(f"/proc/self/fd/{page.block.fd}", os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(writable, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(writable, 10)
        with pytest.raises(PermissionError):
            mmap.mmap(writable, SIZE)
    finally:
        os.close(writable)
    assert view.sum() == SUM


def test_a_write_from_compiled_code_hits_only_the_writer(child, listed, truth):
    ms.register_variables("n", {"x": np.arange(SIZE)})
    writer = child(ATTACH)
    writer.run("import faulthandler; faulthandler.disable()")
    writer.dies("ctypes.memmove(x.ctypes.data, b'12345678', 8)")
    assert ms.Namespace("n")["x"].sum() == SUM
    assert listed() == truth()
    ms.release_variables("n", "x")


def test_a_page_cannot_shrink_under_its_viewers(child):
    child(REGISTER)
    view = ms.Namespace("n")["x"]
    (handle,) = process.registry()._handles.views.values()
    fd = os.open(f"/proc/self/fd/{handle.page.block.fd}", os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)
    assert view.sum() == SUM
