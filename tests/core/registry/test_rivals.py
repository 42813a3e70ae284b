"""Two processes that want one name at a time, although the lock on it was lost in between."""

from __future__ import annotations

import os
import time

import pytest

import memshare_jupyter as ms

PAUSES = """
from memshare_jupyter.core.ledger import Ledger
from memshare_jupyter.core.registry import _claims as claims, _register as registering
def pausing(owner, name, turns):
    step = getattr(owner, name)
    left = [turns]
    def paused(*args, **options):
        left[0] -= 1
        if left[0]:
            return step(*args, **options)
        setattr(owner, name, step)
        found = step(*args, **options) if owner is claims else None
        lose()
        Path(flag).touch()
        while Path(flag).exists():
            time.sleep(0.001)
        return step(*args, **options) if owner is not claims else found
    setattr(owner, name, paused)
"""
TAKE = "ms.register_variables('n', {'x': np.ones(4)})"
LOSES = {
    "a cleaner": "def lose(): os.unlink(lock)",
    "a close": "def lose(): os.close(os.open(lock, os.O_RDWR))",
}


@pytest.fixture(params=LOSES.values(), ids=LOSES.keys())
def pausing(request, child, tmp_path, runtime_directory):
    """A process that stands still when it has looked for rivals, its lock lost, until told."""
    flag, lock = tmp_path / "flag", runtime_directory / "names.lock"
    one = child(f"{PAUSES}flag, lock = {str(flag)!r}, {str(lock)!r}\n{request.param}")

    def reached():
        while not flag.exists():
            time.sleep(0.001)

    one.reached, one.go_on = reached, flag.unlink
    return one


@pytest.fixture
def rival(child):
    """A process that has nothing of ours open yet."""
    return child()


def owners():
    return [(p.name, p.owner_pid) for p in ms.snapshot().pages if p.state == "active"]


def test_of_two_that_register_a_name_the_later_is_refused(pausing, rival, listed, truth):
    pausing.run("pausing(claims, 'refuse_rivals', 1)")
    pausing.send("ms.register_variables('n', {'x': np.zeros(3), 'y': np.zeros(3)})")
    pausing.reached()
    rival.run(TAKE)
    pausing.go_on()
    with pytest.raises(ms.PageExistsError, match=rf"process {rival.pid} owns a page of that"):
        pausing.result()
    assert owners() == [("n.x", rival.pid)]
    assert pausing.eval("(ms.Namespace('n')['x'].sum(), held_here())") == (4.0, [])
    assert listed() == truth()


def test_one_that_steps_back_begins_again(pausing, rival, listed, truth):
    pausing.run("pausing(claims, 'refuse_rivals', 1); pausing(registering, 'wait_for', 1)")
    pausing.send("ms.register_variables('n', {'x': np.zeros(3)})")
    pausing.reached()
    rival.run(TAKE)
    pausing.go_on()
    pausing.reached()  # it has listed its page, seen the other, and taken it back
    assert owners() == [("n.x", rival.pid)]
    rival.run("ms.release_variables('n', 'x')")
    pausing.go_on()
    pausing.result()
    assert owners() == [("n.x", pausing.pid)]
    assert listed() == truth()


def test_a_name_whose_page_is_written_anew_stays_taken(pausing, rival, listed, truth):
    pausing.run(
        "ms.register_variables('n', {'x': np.zeros(3)}); pausing(claims, 'refuse_rivals', 1)"
    )
    pausing.send("ms.register_variables('n', {'x': np.full(3, 2.0)})")
    pausing.reached()
    with pytest.raises(ms.PageExistsError):  # it is still the owner, and listed as such
        rival.run(TAKE)
    pausing.go_on()
    pausing.result()
    assert pausing.eval("ms.Namespace('n')['x'].tolist()") == [2.0] * 3
    assert listed() == truth()


def test_one_that_writes_its_page_anew_while_another_takes_the_name_is_refused(
    child, rival, listed, truth
):
    one = child("ms.register_variables('n', {'x': np.zeros(200_000)})")
    one.run(
        "from memshare_jupyter.core.registry._page import Page\n"
        "refill, told, go = Page.refill, os.pipe(), os.pipe()\n"
        "def slowly(page, plan):\n"
        "    refill(page, plan); os.write(told[1], b'x'); os.read(go[0], 1)\n"
        "Page.refill = slowly\n"
        "os.unlink(process.registry().session_file)\n"
        "def again():\n"
        "    global error\n"
        "    try: ms.register_variables('n', {'x': np.ones(200_000)})\n"
        "    except ms.MemshareError as caught: error = caught\n"
        "ms.page_list(); where = process.registry().session_file\n"
        "thread = threading.Thread(target=again); thread.start()\n"
        "os.read(told[0], 1); os.unlink(where)"
    )
    rival.run(TAKE)
    one.run("os.write(go[1], b'x'); thread.join()")
    assert one.eval("type(error).__name__") == "PageExistsError"
    assert owners() == [("n.x", rival.pid)]
    assert one.eval("ms.page_list(), held_here()") == ([], [])
    assert listed() == truth()


def test_one_that_adopts_a_page_steps_back_for_who_registers_its_name(pausing, rival, child):
    owner = child("ms.register_variables('n', {'x': np.zeros(3)})")
    view = ms.retrieve_views("n", "x")["x"]
    owner.kill()
    pausing.run("pausing(claims, 'refuse_rivals', 2)")  # it looks once without the lock
    pausing.send("ms.adopt('n', 'x')")
    pausing.reached()
    rival.run(TAKE)
    pausing.go_on()
    with pytest.raises(ms.PageExistsError, match=r"cannot adopt n\.x"):
        pausing.result()
    assert owners() == [("n.x", rival.pid)]
    assert pausing.eval("ms.page_list(), held_here()") == ([], [])
    assert view.tolist() == [0.0] * 3
    del view
    ms.release_views("n", "x")


def test_of_two_that_list_a_name_again_the_later_gives_it_up(pausing, rival, listed, truth):
    pausing.run("ms.register_variables('n', {'x': np.zeros(3), 'y': np.zeros(3)})")
    os.unlink(pausing.eval("str(process.registry().session_file)"))
    pausing.run("import warnings; warnings.simplefilter('ignore'); pausing(Ledger, 'relist', 1)")
    pausing.send("ms.page_list()")
    pausing.reached()
    rival.run(TAKE)
    pausing.go_on()
    pausing.result()
    assert owners() == [("n.x", rival.pid), ("n.y", pausing.pid)]
    assert pausing.eval("ms.page_list()") == ["n.y"]
    assert listed() == truth()


def test_the_second_look_is_made_up_for_when_there_was_no_descriptor(pausing, rival, listed, truth):
    pausing.run(
        "ms.register_variables('n', {'x': np.zeros(3)})\n"
        "import errno, warnings; warnings.simplefilter('ignore')\n"
        "from memshare_jupyter.core.registry._handles import Handles\n"
        "pausing(Ledger, 'relist', 1)\n"
        "sessions, poor = Handles.sessions, []\n"
        "def looking(self):\n"
        "    if poor:\n        raise OSError(errno.EMFILE, 'none is left')\n"
        "    return sessions(self)\n"
        "Handles.sessions = looking"
    )
    os.unlink(pausing.eval("str(process.registry().session_file)"))
    pausing.run("poor.append(1)")
    pausing.send("ms.view_list()")
    pausing.reached()
    rival.run(TAKE)
    pausing.go_on()
    pausing.result()
    assert {pid for _, pid in owners()} == {
        rival.pid,
        pausing.pid,
    }  # there was nothing to look with
    pausing.run("poor.clear()")
    assert pausing.eval("ms.page_list()") == []
    assert owners() == [("n.x", rival.pid)]
    assert listed() == truth()


def test_pages_are_not_listed_where_nobody_looks_for_rivals(child, rival, listed, truth):
    one = child(f"{TAKE}\nimport warnings; warnings.simplefilter('ignore')")
    one.run("process.registry()._handles.ledger.unlist()")
    rival.run(TAKE)
    assert not one.eval("process.registry()._handles.be_listed()")
    assert one.eval("ms.page_list()") == []
    assert owners() == [("n.x", rival.pid)]
    assert listed() == truth()


def test_the_last_descriptor_goes_into_the_list(child, listed, truth):
    one = child(
        "import resource\nms.register_variables('n', {'x': np.zeros(3)})\n"
        "y = ms.Namespace('n')['x']\n"
    )
    os.unlink(one.eval("str(process.registry().session_file)"))
    one.run(
        "held = [os.open('/dev/null', os.O_RDONLY) for _ in range(100)]\n"
        "limits = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, max(held) + 1))\n"
        "process.registry()._handles.ledger.unlist()\n"  # whose descriptor is the one to be had
        "ms.view_list()\n"
        "again = process.registry().session_file"
    )
    assert one.eval("again is not None and again.exists()")
    assert listed() == truth()
