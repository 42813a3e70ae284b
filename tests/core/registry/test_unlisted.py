"""When no file can be made, or somebody removed them: what needs no list goes on."""

from __future__ import annotations

import os
import shutil
import time

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process

ON_A_FULL_DISK = """
import resource
def full(bytes_):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, resource.RLIM_INFINITY))
def room():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
"""


# --- looking, and the first handle -------------------------------------------------------


def test_looking_makes_no_file(child, runtime_directory):
    ms.register_variables("n", {"x": np.ones(3)})
    one = child("ms.snapshot(); ms.page_list(); ms.view_list(); list(ms.Namespace('n'))")
    one.run("ms.retrieve_metadata('n', 'x')")
    assert not list(runtime_directory.glob(f"{one.pid}-*"))
    one.run("x = ms.Namespace('n')['x']")
    assert len(list(runtime_directory.glob(f"{one.pid}-*"))) == 1
    ms.release_variables("n", "x")


def test_a_full_file_system_stops_no_look_and_no_view(child, listed, truth):
    ms.register_variables("n", {"x": np.arange(5)})
    one = child(f"{ON_A_FULL_DISK}full(0)")
    assert one.eval("[p.name for p in ms.snapshot().pages]") == ["n.x"]
    one.run("x = ms.retrieve_views('n', 'x')['x']")
    assert one.eval("x.tolist(), ms.view_list()") == ([0, 1, 2, 3, 4], ["n.x"])
    one.run("room(); ms.view_list()")
    assert listed() == truth()
    assert one.pid in {pid for pid, _ in listed()}
    ms.release_variables("n", "x")


def test_a_page_on_a_full_file_system_is_refused_with_its_directory(child, runtime_directory):
    # Memory has no limit of that kind; only what is no memfd has.
    one = child(f"{ON_A_FULL_DISK}failing('os.link', 1)")
    with pytest.raises(ms.NotEnoughMemoryError, match=f"{runtime_directory} is full"):
        one.run("ms.register_variables('n', {'x': np.ones(3)})")
    assert one.eval("ms.page_list(), held_here()") == ([], [])
    one.run("ms.register_variables('n', {'x': np.ones(3)})")
    assert one.eval("ms.page_list()") == ["n.x"]


def test_a_file_that_is_written_again_has_all_pages_or_is_not_there(child, runtime_directory):
    one = child("ms.register_variables('n', {f'v{i}': np.ones(1) for i in range(40)})")
    reader = child()
    for room in (600, 5000, 15_000):
        os.unlink(one.eval("str(process.registry().session_file)"))
        one.run(f"{ON_A_FULL_DISK}full({room})")
        one.run("ms.page_list()")
        assert len(one.eval("ms.page_list()")) == 40
        seen = reader.eval("[p.name for p in ms.snapshot().pages]")
        assert len(seen) in (0, 40)
        one.run("room(); ms.page_list()")
        assert len(reader.eval("ms.snapshot().pages")) == 40
        assert len(list(runtime_directory.glob(f"{one.pid}-*"))) == 1
    one.run("process.registry().gc()")


def test_what_was_unlisted_for_a_while_can_be_released_meanwhile(child, listed, truth):
    one = child("ms.register_variables('n', {'x': np.ones(3), 'y': np.ones(3)})")
    os.unlink(one.eval("str(process.registry().session_file)"))
    one.run(f"{ON_A_FULL_DISK}full(0); ms.release_variables('n', 'x')")
    assert one.eval("ms.page_list(), ms.view_list()") == (["n.y"], [])
    with pytest.raises(ms.NotEnoughMemoryError):
        one.run("ms.register_variables('n', {'z': np.ones(3)}, backend='memfd')")
    one.run("room(); ms.page_list()")
    assert [page.name for page in ms.snapshot().pages] == ["n.y"]
    assert listed() == truth()


def test_a_child_forked_on_a_full_disk_is_listed_when_there_is_room(child, listed, truth):
    one = child("ms.register_variables('n', {'x': np.arange(3)}); x = ms.Namespace('n')['x']")
    one.run(
        f"{ON_A_FULL_DISK}full(0)\n"
        "wait, go = os.pipe(); told, tell = os.pipe()\n"
        "if (pid := os.fork()) == 0:\n"
        "    with_parent(); assert ms.view_list() == ['n.x']; os.write(tell, b'1')\n"
        "    os.read(wait, 1); room(); ms.snapshot()\n"
        "    assert held_here() == listed_here()\n"
        "    ms.register_variables('n', {'y': x + 1}); os.write(tell, b'2'); os.read(wait, 1)\n"
        "    os._exit(0)\n"
        "room(); said = os.read(told, 1)"
    )
    one.run("os.write(go, b'x'); said += os.read(told, 1)")
    assert one.eval("said") == b"12"
    assert listed() == truth()
    assert ms.Namespace("n")["y"].tolist() == [1, 2, 3]
    one.run("os.write(go, b'x'); os.waitpid(pid, 0)")


def test_a_removed_directory_in_a_removed_one_stops_no_end(child, tmp_path, truth):
    gone = tmp_path / "run"
    gone.mkdir(mode=0o700)
    one = child(f"os.environ['XDG_RUNTIME_DIR'] = {str(gone)!r}")
    one.run("ms.register_variables('n', {'x': np.ones(5), 'y': np.ones(5)})")
    one.run("x = ms.retrieve_views('n', 'x')['x']")
    shutil.rmtree(gone)
    assert one.eval("ms.page_list(), ms.view_list()") == (["n.x", "n.y"], ["n.x"])
    assert one.eval("[p.name for p in ms.snapshot().pages if p.namespace == 'n']") == ["n.x", "n.y"]
    assert one.eval("ms.retrieve_views('n', 'y')['y'].sum()") == 5
    one.run("ms.release_views('n', ['x', 'y']); ms.release_variables('n', ['x', 'y'])")
    one.run("del x; gc.collect()")
    assert one.eval("held_here()") == []
    assert truth() == {}
    one.exit()  # in order: it is listed where the user's own processes are


# --- rivals after a cleanup --------------------------------------------------------------


def test_an_owner_whose_name_was_taken_meanwhile_gives_it_up_with_a_warning(child, listed, truth):
    one = child("ms.register_variables('n', {'x': np.arange(3), 'y': np.arange(3)})")
    one.run("mine = ms.Namespace('n')['x']")
    os.unlink(one.eval("str(process.registry().session_file)"))
    rival = child("ms.register_variables('n', {'x': np.ones(7)})")
    one.run(
        "import warnings\nwith warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always'); ms.page_list()"
    )
    said = one.eval("[(one.category.__name__, str(one.message)) for one in told]")
    assert [kind for kind, _ in said] == ["RuntimeWarning"]
    assert "n.x is not a page of this process any more" in said[0][1]
    assert f"process {rival.pid}" in said[0][1]
    assert one.eval("ms.page_list()") == ["n.y"]
    assert one.eval("mine.tolist()") == [0, 1, 2]
    active = [(p.name, p.owner_pid) for p in ms.snapshot().pages if p.state == "active"]
    assert active == [("n.x", rival.pid), ("n.y", one.pid)]
    assert listed() == truth()
    assert child().eval("ms.Namespace('n')['x'].sum()") == 7


def test_a_warning_that_is_an_error_leaves_nothing_half_done(child, listed, truth):
    one = child("ms.register_variables('n', {'x': np.arange(3), 'y': np.arange(3)})")
    os.unlink(one.eval("str(process.registry().session_file)"))
    child("ms.register_variables('n', {'x': np.ones(7)})")
    with pytest.raises(RuntimeWarning):  # children run with -W error
        one.run("ms.page_list()")
    assert one.eval("ms.page_list()") == ["n.y"]
    assert listed() == truth()
    third = child()
    with pytest.raises(ms.PageExistsError):
        third.run("ms.register_variables('n', {'y': np.ones(2)})")
    third.run("ms.register_variables('n', {'z': np.ones(2)})")


def test_of_two_that_list_again_only_one_has_the_name(child, runtime_directory, listed, truth):
    names = "{f'v{i}': np.full(3, os.getpid()) for i in range(20)}"
    one = child(f"import warnings; ms.register_variables('n', {names})")
    two = child("import warnings")
    for _ in range(5):
        shutil.rmtree(runtime_directory)
        two.run(
            f"with contextlib.suppress(ms.PageExistsError): ms.register_variables('n', {names})"
        )
        shutil.rmtree(runtime_directory)
        for each in (one, two):
            each.send(
                "with warnings.catch_warnings():\n"
                "    warnings.simplefilter('ignore'); ms.page_list()"
            )
        for each in (one, two):
            each.result()
        pages = [p.name for p in ms.snapshot().pages if p.state == "active"]
        assert len(pages) == len(set(pages)) == 20
        assert sorted(one.eval("ms.page_list()") + two.eval("ms.page_list()")) == sorted(pages)
        assert listed() == truth()
        two.run("process.registry().gc()")
        one.run(f"ms.register_variables('n', {names})")


# --- an owner that ends in order ---------------------------------------------------------


@pytest.mark.parametrize("end", ["process.close()", "exit", "kill"])
def test_an_owner_that_ends_leaves_what_others_view_orphaned(child, listed, truth, end):
    owner = child("ms.register_variables('n', {'x': np.arange(5), 'y': np.ones(2)})")
    viewer = child("x = ms.retrieve_views('n', 'x')['x']")
    if "close" in end:
        owner.run(end)
    else:
        getattr(owner, end)()
    (page,) = ms.snapshot().pages
    assert (page.name, page.state, page.owner_pid) == ("n.x", "orphaned", owner.pid)
    late = child("x = ms.retrieve_views('n', 'x')['x']")
    assert late.eval("x.tolist()") == viewer.eval("x.tolist()") == [0, 1, 2, 3, 4]
    assert listed() == truth()
    for one in (late, viewer):
        one.kill()
    assert listed() == truth() == {}


@pytest.mark.parametrize("end", ["ms.release_variables('n', 'x')", "process.registry().gc()"])
@pytest.mark.parametrize("then", ["exit", "kill"])
def test_only_a_release_makes_them_draining(child, end, then):
    owner = child("ms.register_variables('n', {'x': np.arange(5)})")
    viewer, other = child("x = ms.retrieve_views('n', 'x')['x']"), child()
    owner.run(end)
    getattr(owner, then)()
    assert [page.state for page in ms.snapshot().pages] == ["draining"]
    for act in (
        "ms.Namespace('n')['x']",
        "ms.retrieve_views('n', 'x', mode='r+')",
        "ms.retrieve_metadata('n', 'x')",
        "ms.adopt('n', 'x')",
    ):
        for one in (viewer, other):
            with pytest.raises(ms.PageNotFoundError, match="its owner released it"):
                one.run(act)
    assert viewer.eval("x.sum()") == 10


def test_an_owner_that_closes_and_begins_anew_can_have_the_name_again(child):
    owner = child("ms.register_variables('n', {'x': np.arange(5)})")
    viewer = child("x = ms.retrieve_views('n', 'x')['x']")
    owner.run("process.close()")
    assert owner.eval("ms.Namespace('n')['x'].tolist()") == [0, 1, 2, 3, 4]
    owner.run("ms.register_variables('n', {'x': np.zeros(2)})")
    assert child().eval("ms.Namespace('n')['x'].tolist()") == [0, 0]
    assert viewer.eval("x.sum()") == 10


def test_calls_while_another_thread_closes_are_done_or_refused(child, listed, truth):
    one = child("""
done, faults = threading.Event(), []
def work():
    while not done.is_set():
        try:
            ms.register_variables('n', {'x': np.arange(5)})
            ms.retrieve_views('n', 'x')
        except (ms.errors.RegistryBusyError, ms.PageNotFoundError): pass
        except BaseException as error: faults.append(repr(error))
threads = [threading.Thread(target=work) for _ in range(2)]
[thread.start() for thread in threads]
for _ in range(200):
    process.close()
done.set(); [thread.join() for thread in threads]
process.close(); gc.collect()
""")
    assert one.eval("faults[:3]") == []
    assert one.eval("held_here(), ms.page_list()") == ([], [])
    assert listed() == truth() == {}


@pytest.mark.slow
def test_memory_of_a_process_that_never_lists_does_not_grow(child):
    one = child(
        "x = np.ones(3)\n"
        "def many():\n    for _ in range(2000): ms.register_variables('n', {'x': x})"
    )
    one.run("many(); gc.collect(); import tracemalloc; tracemalloc.start(); many(); gc.collect()")
    before = one.eval("tracemalloc.get_traced_memory()[0]")
    one.run("many(); gc.collect()")
    assert one.eval("tracemalloc.get_traced_memory()[0]") - before < 30 * 2000


@pytest.fixture(autouse=True)
def ended():
    yield
    process.registry().gc()


def test_a_directory_that_is_opened_to_others_is_refused_at_the_next_look(child):
    owner = child("ms.register_variables('n', {'x': np.arange(3)})")
    assert [page.name for page in ms.snapshot().pages] == ["n.x"]
    time.sleep(0.1)  # the clock of files is coarse, and a look remembers what stands still
    assert [page.name for page in ms.snapshot().pages] == ["n.x"]
    directory = process.registry().directory
    directory.chmod(0o777)
    try:
        for _ in range(2):
            with pytest.raises(ms.RegistryCorruptError, match="has mode 777, so other users can"):
                ms.snapshot()
    finally:
        directory.chmod(0o700)
    assert ms.retrieve_views("n", "x")["x"][2] == 2
    ms.release_views("n", "x")
    owner.run("ms.release_variables('n', 'x')")
