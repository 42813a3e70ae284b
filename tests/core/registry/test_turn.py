"""Turns: nobody's code runs in one, whoever comes back does not hang, nothing waits in one."""

from __future__ import annotations

import gc
import pickle
import signal
import sys
import threading
import time
import types
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.core.registry._turn import Turn
from memshare_jupyter.errors import LockTimeoutError, RegistryBusyError

CORE = "memshare_jupyter.core."


@pytest.fixture
def page():
    ms.register_variables("n", {"x": np.arange(5)})
    yield
    process.registry().gc()


# --- the lock that knows it is inside ----------------------------------------------------


class Recorded:
    """A turn that notes what happens."""

    def __init__(self, locked=()):
        self.said = []
        self.locked = list(locked)
        self.messy = False
        self.turn = Turn(
            self.begin, self.tidy, lambda: self.messy, lambda: self.note("repair"), lambda: None
        )

    def note(self, what):
        self.said.append(what)
        return what

    def begin(self):
        self.note("begin")
        return self.locked.pop(0) if self.locked else None

    def tidy(self):
        self.messy = False
        self.note("tidy")

    def act(self, what, put_off=None):
        return self.turn.take(lambda: self.note(what), put_off)


def test_an_act_inside_a_turn_is_put_off_to_its_end_or_refused():
    one = Recorded()

    def act():
        assert one.act("later", lambda: "put off") == "put off"
        with pytest.raises(RegistryBusyError, match="is done at the end of that act"):
            one.act("refused")
        one.note("act")
        return 5

    assert one.turn.take(act, None) == 5
    deeds = [what for what in one.said if what not in {"begin", "tidy"}]
    assert deeds == ["act", "later"]


def test_what_was_put_off_is_done_although_the_act_failed(capsys):
    one = Recorded()

    def act():
        one.act("later", lambda: None)
        one.turn.take(lambda: 1 / 0, lambda: None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.turn.take(act, None)
    assert "later" in one.said
    assert one.said.index("repair") < one.said.index("later")
    assert "ZeroDivisionError" in capsys.readouterr().err  # nobody who called is there to hear
    assert one.act("next") == "next"


def test_an_error_of_ours_needs_no_repair_and_any_other_does():
    one = Recorded()

    def fail(error):
        raise error

    with pytest.raises(ms.PageNotFoundError):
        one.turn.take(lambda: fail(ms.PageNotFoundError("n.x")), None)
    assert "repair" not in one.said
    with pytest.raises(OSError, match="full"):
        one.turn.take(lambda: fail(OSError("full")), None)
    assert one.said.count("repair") == 1


def test_a_turn_that_cannot_begin_waits_outside_and_begins_again():
    one = Recorded(locked=[("n.x", 7)] * 3)
    others = []

    def other():
        others.append(one.act("other"))

    threads = [threading.Thread(target=other) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert one.act("mine") == "mine"
    for thread in threads:
        thread.join(10)
    assert others == ["other", "other"]
    assert one.said.count("begin") == 6


def test_a_turn_that_never_can_begin_names_who_has_the_name(monkeypatch):
    monkeypatch.setattr("memshare_jupyter.core.registry._turn.PATIENCE_S", 0.05)
    one = Recorded(locked=[("n.x", 7)] * 1000)
    with pytest.raises(LockTimeoutError, match="process 7 has held the lock of that name") as error:
        one.act("never")
    assert (error.value.name, error.value.pid) == ("n.x", 7)
    assert "never" not in one.said


def test_a_turn_of_another_thread_is_waited_for_and_not_refused():
    one, inside, go_on = Recorded(), threading.Event(), threading.Event()

    def slow():
        inside.set()
        go_on.wait(10)
        one.note("slow")

    thread = threading.Thread(target=lambda: one.turn.take(slow, None))
    thread.start()
    inside.wait(10)
    threading.Timer(0.05, go_on.set).start()
    one.act("after", lambda: pytest.fail("was put off"))
    thread.join(10)
    deeds = [what for what in one.said if what not in {"begin", "tidy"}]
    assert deeds == ["slow", "after"]


def test_settling_waits_for_nobody_and_is_done_by_whoever_is_in_turn():
    one, inside, go_on = Recorded(), threading.Event(), threading.Event()

    def slow():
        inside.set()
        go_on.wait(10)

    thread = threading.Thread(target=lambda: one.turn.take(slow, None))
    thread.start()
    inside.wait(10)
    one.messy = True
    begin = time.monotonic()
    one.turn.settle()  # as at the death of the last array on a page
    assert time.monotonic() - begin < 5
    go_on.set()
    thread.join(10)
    assert not one.messy


# --- values are built outside ------------------------------------------------------------

DEEDS = {
    "register": lambda: ms.register_variables("other", {"y": np.arange(3)}),
    "replace": lambda: ms.register_variables("n", {"x": np.arange(7)}),
    "attach": lambda: ms.retrieve_views("n", "x"),
    "take": lambda: ms.Namespace("n")["x"],
    "metadata": lambda: ms.retrieve_metadata("n", "x"),
    "lists": lambda: (ms.page_list(), ms.view_list(), ms.snapshot(), list(ms.Namespace("n"))),
    "empty": lambda: ms.Namespace("other").empty("e", 3),
    "release": lambda: ms.release_variables("other", "z"),
    "detach": lambda: (ms.retrieve_views("other", "z"), ms.release_views("other", "z")),
    "collect": lambda: process.registry().gc("other"),
    "send": lambda: pickle.loads(pickle.dumps(ms.Namespace("n")["x"])),
    "drop": gc.collect,
    "close": process.close,
}


class Meddler:
    """Does something with pages while it is rebuilt, as an import or a model may."""

    def __init__(self, deed):
        self.deed = deed
        self.x = np.arange(50.0)

    def __getstate__(self):
        return self.__dict__

    def __setstate__(self, state):
        self.__dict__.update(state)
        DEEDS[self.deed]()
        RAN.append(self.deed)


RAN = []


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rebuilding_a_value_may_call_everything(page, monkeypatch, deed):
    module = types.ModuleType(__name__)  # pytest's import mode keeps test modules out of it
    module.Meddler = Meddler
    monkeypatch.setitem(sys.modules, __name__, module)
    RAN.clear()
    ms.register_variables("other", {"z": np.ones(3)})
    ms.register_variables("n", {"m": Meddler(deed)})
    done = []
    thread = threading.Thread(target=lambda: done.append(ms.retrieve_views("n", "m")["m"]))
    thread.daemon = True
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "hangs"
    assert [deed] == RAN
    assert done[0].x.sum() == 1225
    done.clear()
    gc.collect()
    process.registry().gc()
    assert ms.view_list() == []


def test_a_view_inside_an_object_is_attached_with_it(page, child):
    x = ms.Namespace("n")["x"]
    ms.register_variables("n", {"box": SimpleNamespace(x=x, text="kept")})
    there = child("box = ms.retrieve_views('n', 'box')['box']")
    assert there.eval("(box.x.tolist(), box.text)") == ([0, 1, 2, 3, 4], "kept")
    here = ms.retrieve_views("n", "box")["box"]
    assert here.x.tolist() == [0, 1, 2, 3, 4]


SLOW = """
started, go_on = threading.Event(), threading.Event()
class Slow:
    def __init__(self): self.x = np.ones(5)
    def __setstate__(self, state):
        self.__dict__.update(state)
        started.set()
        assert go_on.wait(20)
sys.modules['__main__'].Slow = Slow
Slow.__module__ = '__main__'
ms.register_variables('n', {'slow': Slow(), 'x': np.arange(5)})
thread = threading.Thread(target=lambda: ms.Namespace('n')['slow'])
thread.start()
started.wait(20)
"""


def test_nobody_waits_while_a_value_is_rebuilt(child):
    one = child(SLOW)
    one.run("""
begin = time.monotonic()
ms.register_variables('n', {'y': np.ones(3)})
x = ms.retrieve_views('n', 'x')['x']
ms.snapshot(), ms.page_list(), ms.view_list()
ms.release_variables('n', 'y')
if (pid := os.fork()) == 0:
    ms.snapshot()
    os._exit(0)
status = os.waitpid(pid, 0)[1]
took = time.monotonic() - begin
go_on.set(); thread.join()
""")
    assert one.eval("(status, x.tolist())") == (0, [0, 1, 2, 3, 4])
    assert one.eval("took") < 10  # it would have been 20


# --- finalizers --------------------------------------------------------------------------


def test_objects_that_release_in_del_come_and_go_at_any_moment(child):
    one = child("""
ms.register_variables('n', {'x': np.arange(5)})
class Holder:
    def __init__(self):
        self.itself = self
        self.name = f'v{id(self)}'
        ms.register_variables('h', {self.name: np.ones(3)})
        self.x = ms.retrieve_views('h', self.name)[self.name]
    def __del__(self):
        del self.x
        ms.release_views('h', self.name)
        ms.release_variables('h', self.name)
gc.set_threshold(1)
for _ in range(300):
    Holder()
    ms.Namespace('n')['x']
    ms.snapshot()
gc.set_threshold(700, 10, 10)
gc.collect()
""")
    assert one.eval("(ms.page_list(), ms.view_list())") == (["n.x"], [])
    assert one.eval("held_here() == listed_here()")


def test_a_finalizer_that_lists_is_refused_or_answered_and_never_hangs(page):
    class Knot:
        pass

    said = []

    def look():
        try:
            said.append(ms.view_list())
        except RegistryBusyError as error:
            said.append(error)

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(200):
            knot = Knot()
            knot.itself = knot
            weakref.finalize(knot, look)
            del knot
            ms.Namespace("n")["x"]
            ms.snapshot()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(said) == 200
    assert any(isinstance(one, list) for one in said)


# --- signal handlers ---------------------------------------------------------------------

HANDLED = """
ms.register_variables('n', {'x': np.arange(5)})
handled, refused, errors = [], [], []
def handler(number, frame):
    for deed in (
        lambda: ms.release_variables('h', 'y'),
        lambda: ms.release_views('n', 'x'),
        lambda: ms.memshare_gc('g'),
        lambda: process.registry().gc('g'),
        ms.page_list, ms.view_list, ms.snapshot,
        lambda: ms.register_variables('h', {'y': np.ones(3)}),
        lambda: ms.retrieve_views('n', 'x'),
    ):
        try:
            deed()
        except ms.errors.RegistryBusyError:
            refused.append(1)
        except ms.MemshareError:
            pass
        except BaseException as error:
            errors.append(error)
    handled.append(1)
def deed():
    ms.register_variables('n', {'x': np.arange(5), 'z': np.ones(200_000)})
    ms.register_variables('n', {'z': np.zeros(200_000)})
    ms.retrieve_views('n', ['x', 'z'])
    ms.Namespace('n')['x']
    with contextlib.suppress(ms.PageNotFoundError):
        ms.release_views('n', 'x')
    ms.release_views('n', 'z')
    ms.release_variables('n', 'z')
    ms.snapshot()
sys.excepthook = lambda kind, error, tb: (
    None if issubclass(kind, ms.MemshareError) else errors.append(error))
"""


def ended_well(one):
    one.run("""
for namespace in ('n', 'h'):
    process.registry().gc(namespace)
gc.collect()
assert not errors, errors
held, listed = held_here(), listed_here()
assert held == listed == [], (held, listed)
""")


@pytest.mark.slow
def test_a_handler_that_calls_everything_hangs_nothing(child):
    one = child(HANDLED)
    one.run("""
signal.signal(signal.SIGALRM, handler)
rng = random.Random(5)
begin = time.monotonic()
while time.monotonic() - begin < 3:
    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 0.003))
    deed()
signal.setitimer(signal.ITIMER_REAL, 0)
""")
    assert one.eval("len(handled)") > 50
    ended_well(one)


EACH = """
deed(); deed()
seen = at_bytecode(-1, None)
deed()
untraced()
count = seen[0]
"""


@pytest.mark.slow
def test_a_handler_that_calls_everything_may_come_before_any_bytecode(child):
    one = child(HANDLED + EACH)
    count = one.eval("count")
    assert count > 1000
    step = 7  # some of the 10,000 each time, all in seven runs
    one.send(f"""
for event in range(1, count + 1, {step}):
    def once():
        untraced()
        handler(0, None)
    at_bytecode(event, once)
    deed()
    untraced()
""")
    one.result(110)
    # How many bytecodes a deed takes varies a little: the last ones may not be reached.
    assert one.eval("len(handled)") >= 0.9 * count / step
    assert one.eval("bool(refused)")
    ended_well(one)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["sys.exit(0)", "os._exit(0)"])
def test_a_service_that_releases_in_its_handler_ends(child, listed, truth, ending):
    for delay_s in np.linspace(0.001, 0.05, 8):
        one = child(f"""
def end(number, frame):
    ms.release_variables('s', 'y')
    ms.memshare_gc('s')
    {ending}
signal.signal(signal.SIGTERM, end)
ms.register_variables('s', {{'y': np.arange(5), 'x': np.arange(9)}})
""")
        one.send("while True: ms.retrieve_views('s', 'x'); ms.release_views('s', 'x')")
        time.sleep(delay_s)
        one.signal(signal.SIGTERM)
        if "sys" in ending:
            # An exit is lost where Python calls a weak reference's callback; pages are gone then.
            # And it may come before the child is told what to do.
            with pytest.raises((SystemExit, ms.PageNotFoundError, EOFError, ConnectionError)):
                one.result(20)
            one.exit()
        else:
            assert one._ended(20), "hangs"
            one.reap()
    assert listed() == truth() == {}


# --- nothing waits in a turn -------------------------------------------------------------


def test_only_who_needs_a_locked_name_waits_for_it(child, eventually):
    stuck = child("process.registry()")
    stuck.run(f"at_call('{CORE}registry._claims.refuse_rivals', 1, 'after', stop)")
    stuck.send("ms.register_variables('n', {'x': np.ones(2)})")
    eventually(stuck.stopped)
    one = child("""
waiting = threading.Thread(target=lambda: ms.register_variables('n', {'x': np.ones(3)}))
failed = []
threading.excepthook = lambda told: failed.append(told.exc_value)
waiting.start()
time.sleep(0.05)
begin = time.monotonic()
ms.register_variables('n', {'y': np.ones(2)})
ms.snapshot(), ms.page_list(), ms.Namespace('n')['y'].sum()
if (pid := os.fork()) == 0:
    os._exit(0)
os.waitpid(pid, 0)
ms.release_variables('n', 'y')
took = time.monotonic() - begin
""")
    assert one.eval("took") < 5
    assert one.eval("waiting.is_alive()")
    stuck.signal(signal.SIGCONT)
    stuck.result()
    one.run("waiting.join(20)")
    assert one.eval("[type(error).__name__ for error in failed]") == ["PageExistsError"]
