"""Forked children: sessions of their own, with what they inherited as views."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process

# The child tells by its exit code; 0 is what the parent waits for.
FORK = """
def forked(do):
    pid = os.fork()
    if pid == 0:
        try:
            do()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def start(do):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        do()
        os.write(write, b'x')
        time.sleep(60)
    os.read(read, 1)
    return pid

def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

ms.register_variables('n', {'x': np.arange(5), 'y': np.ones(2)})
x = ms.retrieve_views('n', 'x')['x']
"""


@pytest.fixture
def parent(child):
    return child(FORK)


def test_a_forked_child_lists_what_it_inherited_as_views(parent, listed, truth):
    pid = parent.eval("start(lambda: None)")
    assert listed() == truth()
    for page in ms.snapshot().pages:
        assert [h.role for h in page.holders if h.pid == pid] == ["view"]
        assert {h.label for h in page.holders if h.pid == pid} == {f"fork of {parent.pid}"}
        assert page.owner_pid == parent.pid
    parent.run(f"end({pid})")
    assert listed() == truth()
    assert {holder for holder, _ in listed()} == {parent.pid}


def test_a_forked_child_owns_nothing_and_sees_everything(parent):
    parent.run("""
def do():
    assert ms.page_list() == []
    assert ms.view_list() == ['n.x', 'n.y']
    assert x.tolist() == [0, 1, 2, 3, 4]
    assert ms.retrieve_views('n', 'y')['y'].tolist() == [1, 1]
    try:
        ms.release_variables('n', 'x')
    except ms.NotOwnerError as error:
        assert error.pid == os.getppid()
    else:
        raise AssertionError
    try:
        ms.register_variables('n', {'x': np.ones(1)})
    except ms.PageExistsError as error:
        assert error.pid == os.getppid()
    else:
        raise AssertionError
    ms.register_variables('n', {'mine': np.ones(1)})
""")
    assert parent.eval("forked(do)") == 0
    assert parent.eval("ms.page_list()") == ["n.x", "n.y"]
    assert [page.name for page in ms.snapshot().pages] == ["n.x", "n.y"]


def test_the_parents_lock_survives_the_childs_exit(parent):
    for _ in range(3):
        assert parent.eval("forked(lambda: ms.view_list())") == 0
    assert [(p.name, p.state) for p in ms.snapshot().pages] == [
        ("n.x", "active"),
        ("n.y", "active"),
    ]


def test_a_child_cannot_write_to_what_its_parent_owns(parent, listed, truth):
    address = parent.eval("process.registry()._handles.pages[('n', 'x')].page.address")
    parent.run(f"""
import faulthandler
faulthandler.disable()
def write_by_view():
    ctypes.memmove(x.ctypes.data, b'12345678', 8)
def write_by_inherited_mapping():
    ctypes.memmove({address}, b'12345678', 8)
""")
    assert parent.eval("forked(write_by_view)") == -11
    assert parent.eval("forked(write_by_inherited_mapping)") == -11
    assert parent.eval("x.tolist()") == [0, 1, 2, 3, 4]
    assert listed() == truth()


def test_a_child_keeps_the_page_when_its_parent_releases_or_dies(parent, listed, truth, eventually):
    pid = parent.eval("start(lambda: None)")
    parent.run("ms.release_variables('n', 'y')")
    assert {p.name: p.state for p in ms.snapshot().pages} == {"n.x": "active", "n.y": "draining"}
    parent.kill()
    assert {p.name: p.state for p in ms.snapshot().pages} == {
        "n.x": "orphaned",
        "n.y": "draining",
    }
    assert {holder for holder, _ in truth()} == {pid}
    assert listed() == truth()
    assert ms.Namespace("n")["x"].tolist() == [0, 1, 2, 3, 4]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not truth())
    assert listed() == {}


def test_arrays_filled_in_place_count_in_the_child_until_they_are_gone(child, listed, truth):
    parent = child(FORK.partition("ms.register")[0] + "out = ms.Namespace('n').empty('out', 3)")
    pid = parent.eval("start(lambda: None)")
    assert listed() == truth()
    assert listed().total() == 1 + 1  # the child has it as long as the array it inherited
    parent.run(f"end({pid})")
    pid = parent.eval("start(lambda: (ms.release_views('n', 'out'), globals().pop('out')))")
    assert listed() == truth()
    assert {holder for holder, _ in listed()} == {parent.pid}
    parent.run(f"end({pid})")


def test_a_child_of_a_process_with_hardly_a_descriptor_left_lists_all_pages(child, listed, truth):
    parent = child(FORK.partition("ms.register")[0])
    parent.run("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))")
    parent.run("""
with contextlib.suppress(ms.TooManyFilesError):
    for i in range(256):
        ms.register_variables('n', {f'v{i}': np.ones(1)})
for name in ms.page_list()[:2]:
    ms.release_variables('n', name.partition('.')[2])
""")
    pages = len(parent.eval("ms.page_list()"))
    assert pages > 100
    pid = parent.eval("start(lambda: None)")
    assert listed() == truth()
    assert listed().total() == 2 * pages
    parent.run(f"end({pid})")


def test_children_of_children_are_counted_too(parent, listed, truth):
    parent.run("""
def do():
    grandchild = start(lambda: None)
    held, listed = held_here(), listed_here()
    assert held == listed, (held, listed)
    end(grandchild)
""")
    assert parent.eval("forked(do)") == 0
    assert listed() == truth()


def test_a_child_of_a_process_without_a_session_has_none(child):
    one = child(FORK.partition("ms.register")[0])
    assert one.eval("forked(lambda: process._registry is None or 1 / 0)") == 0
    assert one.eval("forked(lambda: ms.register_variables('n', {'x': np.ones(1)}))") == 0
    assert ms.snapshot().pages == ()


@pytest.mark.slow
def test_a_fork_while_threads_are_at_work_leaves_a_working_child(parent, listed, truth):
    parent.run("""
done = threading.Event()
def work(i):
    while not done.is_set():
        ms.register_variables('n', {f't{i}': np.ones(3)})
        ms.Namespace('n')[f't{i}']
threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
[thread.start() for thread in threads]
def do():
    ms.register_variables('n', {f'c{os.getpid()}': np.ones(1)})
    assert ms.Namespace('n')['x'].tolist() == [0, 1, 2, 3, 4]
    gc.collect()
    # Also of what other threads were just making or opening nothing is left here. Only what one
    # was unmapping at that moment may be: numpy and mmap do that without any lock.
    held, listed = Counter(held_here()), Counter(listed_here())
    dropped = process.registry()._handles.mappings.dropped
    unmapped = Counter(p.uuid.hex() for p in dropped if not p.mapped)
    assert not held - listed - unmapped and not listed - held, (held, listed, unmapped)
try:
    codes = [forked(do) for _ in range(30)]
finally:
    done.set()
    [thread.join() for thread in threads]
""")
    assert parent.eval("codes") == [0] * 30
    assert listed() == truth()


def test_a_fork_in_the_middle_of_attaching_lists_what_the_child_has(child, eventually):
    owner = child("""
class Forks:  # when it is rebuilt
    def __reduce__(self):
        return forks, ()
def forks():
    pass
import __main__
__main__.forks = forks
forks.__module__ = '__main__'
ms.register_variables('n', {'x': np.arange(5.0), 'y': {'a': np.arange(5.0), 'b': Forks()}})
""")
    viewer = child("""
told, tell = os.pipe()
def forks():
    import pickle
    if (pid := os.fork()) == 0:
        os.write(tell, pickle.dumps((held_here(), listed_here())))
        os._exit(0)
    os.waitpid(pid, 0)
import __main__, pickle
__main__.forks = forks
""")
    for hold in (False, True):
        viewer.run(f"""
process.registry().attach_all('n', ['y', 'x'], hold={hold})
held, listed = pickle.loads(os.read(told, 60_000))
process.registry().gc()
""")
        assert viewer.eval("held == listed and len(held) == 2"), viewer.eval("held, listed")
    owner.run("process.registry().gc()")


def test_a_child_ends_what_a_thread_that_it_has_not_was_just_unmapping(child):
    owner = child("ms.register_variables('n', {'x': np.arange(5.0)})")
    # No thread can be made to stand still in munmap(2), with the mapping gone for Python. So it is
    # made again where it was, by its other descriptor, before anybody has told of its end.
    viewer = child("""
x = ms.retrieve_views('n', 'x')['x']
(page,) = [handle.page for handle in process.registry()._handles.views.values()]
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
fd = os.dup(page.block.fd)
gone = page._mappings.gone.append
process.registry()._handles.turn.settle = page._mappings._settle = lambda: None
page._mapping = type(page._mapping)(page._held)  # without those that tell
page._settle = None
process.registry()._handles.views[page.uuid, 'r'].held = False
page.drop()
del x; gc.collect()
assert not page.mapped
at = libc.mmap(page.address, 4096, 1, 1 | 0x10, fd, 0)  # PROT_READ, MAP_SHARED | MAP_FIXED
assert at == page.address
told, tell = os.pipe()
if (pid := os.fork()) == 0:
    maps = Path('/proc/self/maps').read_text().count('memfd:memshare')
    files = sum('memshare:' in os.readlink(f'/proc/self/fd/{n}')
                for n in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{n}'))
    os.write(tell, bytes((maps, files)))
    os._exit(0)
os.waitpid(pid, 0)
libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(4096))
""")
    assert viewer.eval("list(os.read(told, 2))") == [0, 0]
    owner.run("process.registry().gc()")


LOADS = """
import os, signal, sys, threading
import memshare_jupyter as ms

begun = threading.Event()

class Slow:  # finds nothing, and takes its time
    def find_spec(self, name, path=None, target=None):
        if name == "memshare_jupyter.core.api":
            begun.set()
            threading.Event().wait(0.3)

sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=lambda: ms.page_list())
thread.start(); begun.wait()
if (pid := os.fork()) == 0:
    signal.alarm(20)  # a lock that nobody will release
    os._exit(0 if ms.page_list() == [] else 1)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_fork_while_a_thread_loads_the_package_leaves_a_working_child(interpreter):
    assert interpreter(LOADS) == "0\n"


def test_a_fork_of_this_process_ends_without_a_trace(listed, truth):
    ms.register_variables("n", {"x": np.arange(5)})
    view = ms.Namespace("n")["x"]
    pid = os.fork()
    if pid == 0:
        os._exit(0 if view.sum() == 10 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert listed() == truth()
    ms.release_variables("n", "x")
    del view
    gc.collect()
    assert listed() == truth() == {}


SCRIPT = """
import multiprocessing, sys
import numpy as np
import memshare_jupyter as ms

def total(part):
    return float(part.sum()), type(part).__name__

def by_name(name):
    return float(ms.Namespace('n')[name].sum())

if __name__ == '__main__':
    context = multiprocessing.get_context(sys.argv[1])
    ms.register_variables('n', {'x': np.arange(1e6)})
    x = ms.Namespace('n')['x']
    with context.Pool(2) as pool:
        assert pool.map(total, [x[:10], x[10:], x]) == [
            (45.0, 'View'), (499999499955.0, 'View'), (499999500000.0, 'View')]
        assert pool.map(by_name, ['x'] * 4) == [499999500000.0] * 4
        pool.close()
        pool.join()
    assert len(ms.snapshot().pages[0].holders) == 2
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_shares_by_reference(child_environment, tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), method]
    done = subprocess.run(
        command, env=child_environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ms.snapshot().pages == ()
    assert process.registry().pages() == []


@pytest.mark.parametrize("hook", ["before", "in the parent", "in the child"])
def test_what_a_handler_does_in_the_middle_of_a_fork_is_done_after_it_or_refused(
    parent, listed, truth, hook
):
    """It finds the parent's state in the child, and would change that."""
    parent.run(f"""
from memshare_jupyter.core.registry._registry import Registry
step = {{"before": "before_fork", "in the parent": "after_fork_in_parent",
        "in the child": "after_fork_in_child"}}[{hook!r}]
plain, refused = getattr(Registry, step), []
def stepping(self):
    def comes_back():
        ms.release_variables('n', 'y')
        ms.release_views('n', 'x')
        try:
            ms.page_list()
        except ms.RegistryBusyError as error:
            refused.append(str(error))
    comes_back()
    plain(self)
    comes_back()
setattr(Registry, step, stepping)
read, write = os.pipe()
stay, go = os.pipe()
pid = os.fork()
setattr(Registry, step, plain)
if pid == 0:
    os.close(go)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the parent's page is not the child's to release
    is_listed = process.registry()._handles.ledger.is_listed()
    told = (len(refused), ms.page_list(), ms.view_list(), is_listed)
    os.write(write, repr(told).encode())
    os.read(stay, 1)  # until the parent goes on, or is gone
    os._exit(0)
""")
    told = parent.eval("eval(os.read(read, 1000))")
    mine = parent.eval("(len(refused), ms.page_list(), len(ms.view_list()))")
    in_child = hook == "in the child"
    assert mine == ((0, ["n.x", "n.y"], 1) if in_child else (2, ["n.x"], 1))
    assert told == (2 if in_child else 2 * (hook == "before"), [], told[2], True)
    assert {*told[2]} == {"n.x", "n.y"}  # x is an array on it, here as there
    assert listed() == truth()
    assert parent.eval("(os.close(go), os.waitpid(pid, 0)[1])") == (None, 0)
