"""A reader's values never change: whatever the lists say, the kernel says who has the memory."""

from __future__ import annotations

import os
import select
import shutil
import signal
import threading
import time

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core import _opened
from memshare_jupyter.core.registry import _process as process

N = 300_000  # 2.4 MB
READ = "x = ms.retrieve_views('n', 'x')['x']"
SAME = "(x == 0).all()"


@pytest.fixture(params=["memfd", "file on tmpfs"])
def pages_as(request, pages_as):
    return pages_as


@pytest.fixture
def owner(child):
    return child(f"ms.register_variables('n', {{'x': np.zeros({N})}})")


def again(owner, value=1.0):
    """Register a value of that size; whether it went into the memory that was there."""
    before = owner.eval("ms.retrieve_metadata('n', 'x')['x'].uuid")
    owner.run(f"ms.register_variables('n', {{'x': np.full({N}, {value})}})")
    return owner.eval("ms.retrieve_metadata('n', 'x')['x'].uuid") == before


@pytest.mark.usefixtures("pages_as")
class TestOnEveryBackend:
    def test_without_a_reader_the_memory_is_used_again(self, owner, child):
        assert again(owner)
        reader = child(READ)
        assert not again(owner, 2.0)
        assert reader.eval("(x == 1).all()")
        reader.kill()
        assert again(owner, 3.0)

    def test_a_reader_whose_session_file_was_removed(self, owner, child):
        reader = child(READ)
        os.unlink(reader.eval("str(process.registry().session_file)"))
        assert not again(owner)
        assert reader.eval(SAME)

    def test_a_reader_of_whom_all_files_were_removed(self, owner, child, runtime_directory):
        reader = child(READ)
        shutil.rmtree(runtime_directory)
        assert not again(owner)
        assert reader.eval(SAME)

    def test_a_reader_whose_lock_was_lost_by_a_stray_close(self, owner, child):
        reader = child(READ)
        reader.run("os.close(os.open(process.registry().session_file, os.O_RDONLY))")
        assert not again(owner)
        assert reader.eval(SAME)

    def test_a_reader_that_could_not_be_listed(self, owner, child):
        reader = child("failing('os.link', 1)")
        reader.run(READ)
        assert not again(owner)
        assert reader.eval(SAME)

    def test_a_reader_that_detached_and_kept_the_array(self, owner, child):
        reader = child(f"{READ}; ms.release_views('n', 'x')")
        assert not again(owner)
        assert reader.eval(SAME)

    def test_a_reader_that_closed_everything_and_kept_the_array(self, owner, child):
        reader = child(f"{READ}; process.close()")
        assert not again(owner)
        assert reader.eval(SAME)

    def test_a_reader_that_closed_began_anew_and_forked(self, owner, child):
        reader = child(
            f"{READ}; process.close(); ms.register_variables('m', {{'z': np.ones(1)}})\n"
            "told, tell = os.pipe(); wait, go = os.pipe()\n"
            "if (pid := os.fork()) == 0:\n"
            f"    with_parent(); os.read(wait, 1); os.write(tell, b'1' if {SAME} else b'0')\n"
            "    os._exit(0)\n"
            "del x; gc.collect()"
        )
        assert not again(owner)
        reader.run("os.write(go, b'x'); said = os.read(told, 1); os.waitpid(pid, 0)")
        assert reader.eval("said") == b"1"

    # To let go of a file ends the lock of a child that C code forked: docs, "What files cannot do".
    @pytest.mark.parametrize(
        ("fork", "pages_as"),
        [
            ("os.fork", "memfd"),
            ("os.fork", "file on tmpfs"),
            ("ctypes.CDLL(None).fork", "memfd"),
        ],
        indirect=["pages_as"],
    )
    def test_a_child_of_a_reader_that_let_go(self, owner, child, fork):
        reader = child(READ)
        reader.run(
            "told, tell = os.pipe(); wait, go = os.pipe()\n"
            f"if (pid := {fork}()) == 0:\n"
            f"    with_parent(); os.read(wait, 1); os.write(tell, b'1' if {SAME} else b'0')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "del x; ms.release_views('n', 'x'); gc.collect()"
        )
        assert reader.eval("ms.view_list()") == []
        assert not again(owner)
        reader.run("os.write(go, b'x'); said = os.read(told, 1); os.waitpid(pid, 0)")
        assert reader.eval("said") == b"1"
        assert again(owner, 2.0)

    def test_a_child_just_forked_while_the_reader_lets_go(self, owner, child):
        reader = child("ms.register_variables('m', {f'v{i}': np.ones(1) for i in range(100)})")
        for _ in range(5):
            owner.run(f"ms.register_variables('n', {{'x': np.zeros({N})}})")
            reader.run(READ)
            reader.send(
                "told, tell = os.pipe(); wait, go = os.pipe()\n"
                "if (pid := os.fork()) == 0:\n"
                f"    with_parent(); os.read(wait, 1); os.write(tell, b'1' if {SAME} else b'0')\n"
                "    os._exit(0)\n"
                "del x; ms.release_views('n', 'x'); gc.collect()"
            )
            for value in range(1, 9):
                again(owner, float(value))
            reader.result()
            reader.run("os.write(go, b'x'); said = os.read(told, 1); os.waitpid(pid, 0)")
            assert reader.eval("said") == b"1"

    def test_a_stopped_reader(self, owner, child):
        reader = child(READ)
        reader.signal(signal.SIGSTOP)
        assert not again(owner)
        reader.signal(signal.SIGCONT)
        assert reader.eval(SAME)

    def test_a_view_of_the_owners_own_after_everything_was_removed(self, owner, runtime_directory):
        owner.run(READ)
        shutil.rmtree(runtime_directory)
        assert not again(owner)
        assert owner.eval(SAME)

    def test_a_view_that_is_sent_while_its_page_is_written_anew(self, owner, child):
        sent = owner.eval("__import__('pickle').dumps(ms.Namespace('n')['x'])")
        owner.run("gc.collect()")
        assert again(owner)
        with pytest.raises(ms.PageNotFoundError):
            child().run(f"__import__('pickle').loads({sent!r})")

    def test_what_a_child_of_the_owner_lists_is_not_written_anew(self, owner):
        owner.run(
            "wait, go = os.pipe()\n"
            "if (pid := os.fork()) == 0:\n"
            "    with_parent(); os.read(wait, 1); os._exit(0)\n"
        )
        assert not again(owner)
        owner.run("os.write(go, b'x'); os.waitpid(pid, 0)")

    def test_an_owner_killed_while_its_child_has_the_page_leaves_the_old_value(self, owner, child):
        # The child shares the owner's open file, and so any lock that would be on it.
        owner.run("if (pid := os.fork()) == 0:\n    signal.pause()")
        heir = os.pidfd_open(owner.eval("pid"))
        try:
            owner.run("at_call('memshare_jupyter.core.registry._page.Page.mark', 1, 'before', die)")
            owner.send(f"ms.register_variables('n', {{'x': np.ones({N})}})")
            assert owner._ended()
            assert child().eval("float(ms.Namespace('n')['x'].sum())", timeout_s=10) == 0
        finally:
            signal.pidfd_send_signal(heir, signal.SIGKILL)
            select.select([heir], [], [], 10)  # until it has gone, and its lock with it
            os.close(heir)


def test_an_array_outlives_the_close_with_its_lock(child):
    """From Python 3.13 on the mapping has no descriptor that would keep the lock."""
    ms.register_variables("n", {"x": np.zeros(3)})
    x = ms.Namespace("n")["x"]
    process.close()
    assert any(isinstance(one, _opened.Opened) and one.fd >= 0 for one in _opened.known())
    del x
    ms.snapshot()


# --- what is being written is in no table ------------------------------------------------

PAUSED = f"""
from memshare_jupyter.core import blocks
zeros, ones = np.zeros({N}), np.ones({N})
ms.register_variables('n', {{'x': zeros}})
begun, go_on = threading.Event(), threading.Event()
copy_into = blocks.copy_into
def slowly(mapping, layout):
    begun.set()
    assert go_on.wait(30)
    copy_into(mapping, layout)
def replace():
    blocks.copy_into = slowly
    thread = threading.Thread(target=lambda: ms.register_variables('n', {{'x': ones}}))
    thread.start()
    assert begun.wait(30)
    blocks.copy_into = copy_into
    return thread
def finished(thread):
    go_on.set()
    thread.join(30)
    assert not thread.is_alive()
"""


@pytest.fixture
def paused(child):
    return child(PAUSED)


def whole(one, expected):
    """The page is there with one value, or is not there; nothing is held that is not listed."""
    one.run("gc.collect()")
    held, listed = one.eval("held_here(), listed_here()")
    assert held == listed
    assert one.eval("ms.page_list()") == (["n.x"] if expected is not None else [])
    if expected is not None:
        assert one.eval("set(ms.Namespace('n')['x'].tolist())") == {expected}


def test_two_threads_that_register_one_name_leave_one_value(child):
    one = child(
        f"""
from concurrent.futures import ThreadPoolExecutor
matrix = np.empty(({N}, 2), order='C')
matrix[:, 0], matrix[:, 1] = 1, 2
ms.register_variables('n', {{'x': np.zeros({N})}})
torn = []
with ThreadPoolExecutor(2) as pool:
    for _ in range(40):
        list(pool.map(lambda i: ms.register_variables('n', {{'x': matrix[:, i]}}), [0, 1]))
        found = set(ms.Namespace('n')['x'].tolist())
        if len(found) != 1: torn.append(found)
""",
    )
    assert one.eval("torn") == []
    assert one.eval("held_here() == listed_here()")


def test_another_thread_that_registers_the_name_meanwhile_makes_a_page_of_its_own(paused):
    paused.run(f"thread = replace(); ms.register_variables('n', {{'x': np.full({N}, 7.0)}})")
    assert paused.eval("set(ms.Namespace('n')['x'].tolist())") == {7.0}
    paused.run("finished(thread)")
    whole(paused, 1.0)  # whoever ended last


def test_a_release_in_the_middle_comes_before_the_new_value(paused):
    paused.run("thread = replace()")
    assert paused.eval("ms.page_list()") == ["n.x"]
    paused.run("ms.release_variables('n', 'x')")
    assert paused.eval("[p.name for p in ms.snapshot().pages]") == []
    paused.run("finished(thread)")
    whole(paused, 1.0)
    assert paused.eval("[p.state for p in ms.snapshot().pages]") == ["active"]


@pytest.mark.parametrize("end", ["process.registry().gc()", "process.registry().gc('n')"])
def test_collecting_in_the_middle_comes_before_the_new_value(paused, end):
    paused.run(f"thread = replace(); {end}; finished(thread)")
    whole(paused, 1.0)


def test_closing_in_the_middle_leaves_nothing_that_nobody_can_end(paused, listed, truth):
    paused.run("""
failed = []
threading.excepthook = lambda told: failed.append(told.exc_value)
thread = replace(); process.close(); finished(thread)
""")
    assert [type(one).__name__ for one in paused.eval("failed")] == ["RegistryBusyError"]
    whole(paused, None)
    assert listed() == truth() == {}


def test_releases_and_registers_by_threads_leave_no_page_that_cannot_be_reached(child):
    one = child(f"""
ms.register_variables('n', {{'x': np.zeros({N})}})
done, faults = threading.Event(), []
def release():
    while not done.is_set():
        with contextlib.suppress(ms.PageNotFoundError):
            ms.release_variables('n', 'x')
        time.sleep(0.0005)
thread = threading.Thread(target=release); thread.start()
begin = time.monotonic()
while time.monotonic() - begin < 2:
    ms.register_variables('n', {{'x': np.ones({N})}})
    for page in ms.snapshot().pages:
        try:
            if set(ms.Namespace('n')['x'].tolist()) != {{1.0}}: faults.append('value')
        except ms.PageNotFoundError: pass
        except BaseException as error: faults.append(repr(error))
done.set(); thread.join()
gc.collect()
""")
    assert one.eval("faults") == []
    assert one.eval("held_here() == listed_here()")


# --- who attaches meanwhile waits --------------------------------------------------------


def test_a_thread_that_attaches_meanwhile_waits_and_others_go_on(paused):
    paused.run("""
thread, got = replace(), []
waiting = threading.Thread(target=lambda: got.append(ms.Namespace('n')['x'].sum()))
waiting.start()
time.sleep(0.1)
begin = time.monotonic()
ms.register_variables('n', {'y': ones}); ms.view_list(); ms.snapshot()
ms.release_variables('n', 'y')
if (pid := os.fork()) == 0: os._exit(0)
os.waitpid(pid, 0)
took, alive = time.monotonic() - begin, waiting.is_alive()
finished(thread); waiting.join(30)
""")
    assert paused.eval("(took < 5, alive, got)") == (True, True, [N])


def test_a_process_that_attaches_meanwhile_waits_longer_than_for_what_is_gone(paused, child):
    paused.run("thread = replace()")
    reader = child()
    reader.send("x = ms.Namespace('n')['x'].sum()")
    time.sleep(1.5)  # fifteen times as long
    assert not reader._connection.poll(0)
    paused.run("finished(thread)")
    reader.result()
    assert reader.eval("x") == N


def test_an_owner_stopped_in_the_middle_is_waited_for(paused, child):
    paused.run("thread = replace()")
    paused.signal(signal.SIGSTOP)
    reader = child()
    reader.send("x = ms.Namespace('n')['x'].sum()")
    time.sleep(1)
    assert not reader._connection.poll(0)
    paused.signal(signal.SIGCONT)
    paused.run("finished(thread)")
    reader.result()
    assert reader.eval("x") == N


@pytest.mark.slow
def test_an_owner_stopped_for_long_is_named(paused, child):
    paused.run("thread = replace()")
    paused.signal(signal.SIGSTOP)
    reader = child("from memshare_jupyter.core.registry import _opening; _opening.PATIENCE_S = 0.2")
    with pytest.raises(ms.errors.LockTimeoutError, match="was stopped while it writes") as error:
        reader.run("ms.Namespace('n')['x']")
    assert (error.value.name, error.value.pid) == ("n.x", paused.pid)
    paused.signal(signal.SIGCONT)
    paused.run("finished(thread)")


def test_an_owner_killed_in_the_middle_never_shows_a_torn_value(paused, child, listed, truth):
    paused.run("thread = replace()")
    reader = child()
    reader.send("ms.Namespace('n')['x']")
    time.sleep(0.1)
    paused.kill()
    with pytest.raises(ms.PageNotFoundError):
        reader.result()
    assert listed() == truth() == {}


def test_a_child_forked_in_the_middle_has_nothing_of_it(paused):
    paused.run("""
thread = replace()
told, tell = os.pipe()
if (pid := os.fork()) == 0:
    import pickle
    os.write(tell, pickle.dumps((held_here(), listed_here(), ms.view_list())))
    os._exit(0)
import pickle
said = pickle.loads(os.read(told, 60_000)); os.waitpid(pid, 0)
finished(thread)
""")
    assert paused.eval("said") == ([], [], [])
    whole(paused, 1.0)


def test_what_a_broken_off_refill_hid_from_children_is_not_touched_by_one(child):
    owner = child(
        """
ms.register_variables('n', {'x': np.zeros(1000), 'y': np.zeros(1000)})
handles = process.registry()._handles
handles.pages[names.page_name('n', 'x')].page.refill(values.Plan.of(np.ones(1000)))
def held_by_a_child():
    if (pid := os.fork()) == 0:
        os._exit([str(h.entry.name) for h in handles.views.values()] != ['n.y'] or
                 ms.snapshot() is None)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
""".replace("ms.register", "from memshare_jupyter.core import names, values\nms.register", 1)
    )
    assert owner.eval("held_by_a_child()") == 0  # -11 if it touched what it has not got
    # Registered again, it is whole, and inherited.
    owner.run("ms.register_variables('n', {'x': np.ones(1000)})")
    assert owner.eval("held_by_a_child()") == 1


def test_an_owner_killed_in_the_middle_whose_child_lives_keeps_nobody_waiting(paused, child):
    paused.run("thread = replace()\nif (pid := os.fork()) == 0: signal.pause()")
    pid = paused.eval("pid")
    try:
        paused.kill()
        with pytest.raises(ms.PageNotFoundError):
            child().run("ms.Namespace('n')['x']", timeout_s=10)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_child_forked_while_another_thread_fills_keeps_nothing(child):
    one = child("""
from memshare_jupyter.core import blocks
begun, go_on = threading.Event(), threading.Event()
fill = blocks.fill
def slowly(*arguments):
    fill(*arguments); begun.set(); assert go_on.wait(30)
blocks.fill = slowly
thread = threading.Thread(target=lambda: ms.register_variables('n', {'x': np.ones(100_000)}))
thread.start(); begun.wait(30)
told, tell = os.pipe()
if (pid := os.fork()) == 0:
    os.write(tell, repr((held_here(), listed_here())).encode())
    os._exit(0)
said = os.read(told, 60_000); os.waitpid(pid, 0)
go_on.set(); thread.join()
""")
    assert one.eval("said") == b"([], [])"
    assert one.eval("held_here() == listed_here() != []")


def test_an_interrupt_in_the_middle_whose_traceback_is_kept_keeps_nobody_waiting(child):
    one = child(PAUSED)
    one.run("""
def interrupt(*arguments):
    del arguments
    raise KeyboardInterrupt
blocks.copy_into = interrupt
try:
    ms.register_variables('n', {'x': ones})
except KeyboardInterrupt as error:
    kept = error
""")
    with pytest.raises(ms.PageNotFoundError):
        child().run("ms.Namespace('n')['x']", timeout_s=10)
    whole(one, None)


def test_a_failure_in_another_thread_takes_no_page_off_the_list(paused, child):
    paused.run("""
thread = replace()
undo = failing('memshare_jupyter.core.blocks.map_block', 1, OSError(5, 'broken'))
try: ms.register_variables('n', {'z': np.ones(2)})
except OSError: pass
undo()
""")
    assert paused.eval("[p.name for p in ms.snapshot().pages]") == ["n.x"]
    reader = child()
    reader.send("x = ms.Namespace('n')['x'].sum()")
    time.sleep(0.5)
    paused.run("finished(thread)")
    reader.result()
    assert reader.eval("x") == N
    whole(paused, 1.0)


def test_a_rival_that_comes_in_the_middle_is_refused(paused, child):
    paused.run("thread = replace()")
    rival = child()
    with pytest.raises(ms.PageExistsError):
        rival.run("ms.register_variables('n', {'x': np.ones(2)})")
    paused.run("finished(thread)")


def test_lent_memory_is_never_written_anew(child):
    one = child(f"out = ms.Namespace('n').empty('x', {N}); out[:] = 1")
    for value in (2.0, 3.0):
        assert again(one, value) is (value == 3.0)
        assert one.eval("(out == 1).all()")
    assert threading.active_count() >= 1
