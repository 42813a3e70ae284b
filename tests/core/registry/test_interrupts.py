"""Interrupts wherever Python lets them in: nothing is lost or locked, and all goes on."""

from __future__ import annotations

import numpy as np
import pytest

import memshare_jupyter as ms

N = 200_000  # 1.6 MB, so that registering again refills

BEFORE = f"""
zeros, ones, errors = np.zeros({N}), np.ones({N}), []
def interrupt():
    untraced()
    raise KeyboardInterrupt
def counted(before, deed):
    before()
    seen = at_bytecode(-1, None)
    deed()
    untraced()
    process.registry().gc()
    return seen[0]
def struck(before, deed, event):
    '''Whether an interrupt before that bytecode came through.'''
    before()
    try:
        at_bytecode(event, interrupt)
        deed()
        return False
    except KeyboardInterrupt as error:
        errors[:] = [error]  # as a notebook keeps the last traceback
        return True
    finally:
        untraced()
def begin_anew():
    process.close()
def nothing():
    pass
def x():
    ms.register_variables('n', {{'x': zeros}})
def viewed():
    x()
    ms.retrieve_views('n', 'x')
def register():
    ms.register_variables('n', {{'x': ones, 'y': np.arange(3)}})
def attach():
    ms.retrieve_views('m', ['a', 'b'])
def take():
    ms.Namespace('m')['a']
def release():
    ms.release_variables('n', 'x')
def detach():
    ms.release_views('n', 'x')
def fill():
    ms.Namespace('n').empty('e', 5)
def look():
    ms.snapshot()
def child_reads():
    '''How a child ends that is forked now and reads what it has and what there is.'''
    if (pid := os.fork()) == 0:
        try:
            for handle in process.registry()._handles.views.values():
                handle.page.state
            for page in ms.snapshot().pages:
                if page.state == 'active':
                    ms.retrieve_views(page.namespace, page.variable)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def removed():
    x()
    os.unlink(process.registry().session_file)
    process.registry()._handles.ledger._listed_ns = 0
"""
DEEDS = {
    "begin": ("begin_anew", "register"),
    "register": ("nothing", "register"),
    "refill": ("x", "register"),
    "replace": ("viewed", "register"),
    "attach": ("nothing", "attach"),
    "take": ("nothing", "take"),
    "release": ("x", "release"),
    "detach": ("viewed", "detach"),
    "fill": ("nothing", "fill"),
    "list again": ("removed", "look"),
    "close": ("viewed", "begin_anew"),
}
SOME = 101


@pytest.fixture
def rival(child):
    """Registers the names as soon as they are free."""
    return child(
        "from memshare_jupyter.core.registry import _turn; _turn.PATIENCE_S = 2.0\n"
        "def name_is_free():\n"
        "    for name in ('x', 'y', 'e'):\n"
        "        try: ms.register_variables('n', {name: np.ones(2)})\n"
        "        except ms.PageExistsError as error: return error\n"
        "        ms.release_variables('n', name)\n"
        "    return 0"
    )


@pytest.mark.parametrize(
    "step", [SOME, pytest.param(5, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
@pytest.mark.parametrize("what", DEEDS)
def test_an_interrupt_at_any_moment_loses_and_locks_nothing(child, rival, what, step):
    ms.register_variables("m", {"a": np.arange(4), "b": [np.ones(3)]})
    before, deed = DEEDS[what]
    one = child(BEFORE)
    # The first time more happens: names are checked and remembered.
    count = min(one.eval(f"counted({before}, {deed})") for _ in range(2))
    assert count > 100
    struck = 0
    for event in range(1, count + 1, step):
        struck += one.eval(f"struck({before}, {deed}, {event})")
        one.run("gc.collect()")
        # At the next act everything is as it is listed, and others can go on.
        held, listed = one.eval("(ms.page_list(), listed_here(), held_here())[2:0:-1]")
        assert held == listed, event
        # And children have what they say they have.
        assert one.eval("child_reads()") == 0, event
        owned = one.eval("ms.page_list()")
        there = rival.eval("[(p.name, p.state) for p in ms.snapshot().pages if p.namespace == 'n']")
        assert sorted(name for name, state in there if state == "active") == owned, event
        for name in owned:
            variable = name.partition(".")[2]
            seen = rival.eval(f"set(np.asarray(ms.Namespace('n')[{variable!r}]).tolist())")
            assert seen in ({0.0}, {1.0}, {0, 1, 2}), event
        one.run("process.registry().gc(); errors.clear(); gc.collect()")
        assert one.eval("(held_here(), listed_here())") == ([], []), event
        assert rival.eval("name_is_free()") == 0, event
        names = one.eval(
            "len([f for f in os.listdir(process.registry()._handles.ledger.directory)"
            " if f.startswith(f'{os.getpid()}-')])"
        )
        assert names <= 1, event
    assert struck > count // step / 2  # the others came in callbacks, where they are lost
    ms.release_variables("m", ["a", "b"])
