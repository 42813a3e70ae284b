"""Limits: descriptors run out, and the limit is raised as far as it goes."""

from __future__ import annotations

import numpy as np
import pytest

import memshare_jupyter as ms


@pytest.mark.parametrize("pages_as", ["memfd", "file on tmpfs"], indirect=True)
def test_the_soft_limit_of_open_files_is_raised_when_pages_come_close(
    child, listed, truth, pages_as
):
    one = child("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 4096))")
    one.run("ms.register_variables('n', {f'v{i}': np.ones(1) for i in range(400)})")
    assert listed() == truth()
    assert len(truth()) == 400
    one.run("ms.release_variables('n', [f'v{i}' for i in range(400)])")
    assert listed() == truth() == {}


def limited_to(hard):
    return f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({hard}, {hard}))"


@pytest.mark.parametrize("pages_as", ["memfd", "file on tmpfs"], indirect=True)
def test_running_out_of_descriptors_in_register_says_what_to_do_and_leaves_nothing(
    child, listed, truth, pages_as
):
    one = child("process.registry()")
    one.run(limited_to(256))
    with pytest.raises(ms.TooManyFilesError, match=r"may have 256 files open.*Release.*ulimit -n"):
        one.run("ms.register_variables('n', {f'v{i}': np.ones(1) for i in range(300)})")
    assert listed() == truth() == {}
    one.run("ms.register_variables('n', {'x': np.ones(1)})")
    assert listed() == truth() != {}
    one.kill()


def test_running_out_of_descriptors_in_attach_leaves_the_views_there_were(child, listed, truth):
    ms.register_variables("n", {f"v{i}": np.ones(1) for i in range(300)})
    one = child(limited_to(256))
    one.run("x = ms.retrieve_views('n', 'v7')['v7']")
    with pytest.raises(ms.TooManyFilesError, match="share many small arrays as one page"):
        one.run("ms.retrieve_views('n', [f'v{i}' for i in range(300)])")
    assert listed() == truth()
    assert one.eval("(ms.view_list(), x.sum())") == (["n.v7"], 1)
    ms.release_variables("n", [f"v{i}" for i in range(300)])


def test_with_no_descriptor_left_pages_can_be_released_and_lists_are_refused(child, listed, truth):
    one = child("ms.register_variables('n', {'x': np.ones(1), 'y': np.ones(1)})")
    rest = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))"
    one.run("soft, hard, more = 64, 64, []; " + rest)
    none_left = """
with contextlib.suppress(OSError):
    while True:
        more.append(os.dup(0))
"""
    one.run(none_left)
    newcomer = child("ms.register_variables('m', {'z': np.ones(1)})")
    one.run("with contextlib.suppress(ms.TooManyFilesError): ms.snapshot()")
    one.run(none_left)  # with what was kept open for sessions known before
    with pytest.raises(ms.TooManyFilesError):
        one.run("ms.snapshot()")
    assert one.eval("ms.page_list()") == ["n.x", "n.y"]
    one.run("ms.release_variables('n', 'x')")
    assert one.eval("process.registry().gc('n')") == (["n.y"], [])
    newcomer.kill()
    assert listed() == truth() == {}


def test_a_session_that_cannot_be_opened_is_an_error_and_not_missing_from_lists(child):
    one = child("process.registry(); " + limited_to(64))
    other = child("ms.register_variables('n', {'x': np.ones(1)})")
    one.run("""
more = []
with contextlib.suppress(OSError):
    while True:
        more.append(os.dup(0))
os.close(more.pop())
""")
    # One descriptor is enough to list the directory, but that is free again; so keep it.
    one.run("at_call('os.listdir', 1, 'after', lambda: more.append(os.dup(0)))")
    with pytest.raises(ms.TooManyFilesError):
        one.run("ms.snapshot()")
    one.run("for fd in more: os.close(fd)")  # this process may have a session, too
    assert one.eval("[page.owner_pid for page in ms.snapshot().pages]") == [other.pid]
