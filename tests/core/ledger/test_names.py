"""The lock on a name: short, in one order, dropped by death, and never waited for in vain."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import numpy as np
import pytest

import memshare_jupyter as ms
from memshare_jupyter.core.ledger import _names
from memshare_jupyter.core.ledger._names import NameLocks
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.errors import LockTimeoutError, NotEnoughMemoryError

NAMES = [PageName("n", f"v{i}") for i in range(20)]
LOCKS = """
from pathlib import Path
from memshare_jupyter.core.ledger._names import NameLocks
from memshare_jupyter.core.names import PageName
locks = NameLocks(Path({!r}))
"""


@pytest.fixture
def locks(tmp_path):
    made = NameLocks(tmp_path)
    yield made
    made.close()


@pytest.fixture
def other(child, tmp_path):
    return child(LOCKS.format(str(tmp_path)))


def test_a_locked_name_is_refused_at_once_and_its_holder_named(locks, other):
    other.run("assert locks.try_lock([PageName('n', 'x')]) is None")
    begin = time.monotonic()
    assert locks.try_lock([PageName("n", "x")]) == (PageName("n", "x"), other.pid)
    assert time.monotonic() - begin < 5
    assert locks.try_lock([PageName("n", "y")]) is None


def test_an_unlocked_name_can_be_had_at_once(locks, other):
    other.run("locks.try_lock([PageName('n', 'x')]); locks.unlock()")
    assert locks.try_lock([PageName("n", "x")]) is None
    locks.unlock()
    assert other.eval("locks.try_lock([PageName('n', 'x')])") is None


def test_a_name_that_cannot_be_locked_for_want_of_room_says_what_is_full(other, tmp_path):
    other.run("undo = failing('os.open', 1, OSError(28, 'No space left on device'))")
    with pytest.raises(NotEnoughMemoryError, match=f"runtime directory {tmp_path} is full"):
        other.run("locks.try_lock([PageName('n', 'x')])")
    other.run("undo(); locks.try_lock([PageName('n', 'x')])")


def test_a_killed_process_holds_no_name(locks, other):
    other.run("locks.try_lock([PageName('n', 'x')])")
    assert locks.try_lock([PageName("n", "x")]) is not None
    other.kill()
    assert locks.try_lock([PageName("n", "x")]) is None


def test_of_several_names_all_are_locked_or_none(locks, other, child, tmp_path):
    other.run("locks.try_lock([PageName('n', 'v7')])")
    assert locks.try_lock(NAMES) == (PageName("n", "v7"), other.pid)
    third = child(LOCKS.format(str(tmp_path)))
    names = "[PageName('n', f'v{i}') for i in range(20) if i != 7]"
    assert third.eval(f"locks.try_lock({names})") is None


def test_many_names_locked_in_opposite_orders_never_deadlock(child, tmp_path):
    workers = [child(LOCKS.format(str(tmp_path))) for _ in range(3)]
    for i, one in enumerate(workers):
        one.send(
            f"names = [PageName('n', f'v{{i}}') for i in range(20)][::{1 if i % 2 else -1}]\n"
            "for _ in range(100):\n"
            "    while locks.try_lock(names) is not None: time.sleep(0.0001)\n"
            "    locks.unlock()"
        )
    for one in workers:
        assert one.result() is None


def test_a_removed_lock_file_is_noticed(locks, other, tmp_path):
    assert locks.try_lock(NAMES) is None
    locks.unlock()
    (tmp_path / _names.FILE_NAME).unlink()
    other.run("locks.try_lock([PageName('n', 'v1')])")
    assert locks.try_lock(NAMES) == (PageName("n", "v1"), other.pid)


def test_names_that_share_a_byte_only_wait_for_each_other(locks, monkeypatch):
    monkeypatch.setattr(_names, "_byte", lambda _: 5)
    assert locks.try_lock(NAMES) is None
    assert locks.unlock() is None


def test_registering_while_a_stopped_process_has_the_name_is_a_clear_error(child, eventually):
    stuck = child("process.registry()")
    stuck.run("at_call('memshare_jupyter.core.registry._claims.refuse_rivals', 1, 'after', stop)")
    stuck.send("ms.register_variables('n', {'x': np.ones(2)})")
    eventually(stuck.stopped)
    rival = child("process.registry()")
    rival.run("from memshare_jupyter.core.registry import _turn; _turn.PATIENCE_S = 0.1")
    begin = time.monotonic()
    with pytest.raises(LockTimeoutError, match="it may be stopped, resume or end it") as error:
        rival.run("ms.register_variables('n', {'x': np.ones(2)})")
    assert 0.1 <= time.monotonic() - begin < 5
    assert (str(error.value.name), error.value.pid) == ("n.x", stuck.pid)
    assert isinstance(error.value, TimeoutError)
    rival.run("ms.register_variables('n', {'y': np.ones(2)})")
    assert rival.eval("ms.page_list()") == ["n.y"]
    stuck.signal(signal.SIGCONT)
    stuck.result()
    assert ms.retrieve_metadata("n", "x")["x"].owner_pid == stuck.pid


def test_of_many_that_register_a_name_at_once_one_gets_it(child):
    rivals = [child("process.registry()") for _ in range(6)]
    for round_ in range(15):
        for one in rivals:
            one.send(f"ms.register_variables('n', {{'x{round_}': np.full(3, os.getpid())}})")
        winners = []
        for one in rivals:
            with contextlib.suppress(ms.PageExistsError):
                one.result()
                winners.append(one.pid)
        assert len(winners) == 1
        assert ms.Namespace("n")[f"x{round_}"].tolist() == winners * 3


def test_the_name_lock_is_not_held_while_data_is_copied(child, eventually):
    # The lock is for the look and the publication; the data is in place before.
    one = child("process.registry()")
    one.run("at_call('memshare_jupyter.core.blocks.fill', 1, 'after', stop)")
    one.send("ms.register_variables('n', {'x': np.ones(2)})")
    eventually(one.stopped)
    ms.register_variables("n", {"x": np.zeros(2)})
    one.signal(signal.SIGCONT)
    with pytest.raises(ms.PageExistsError, match=f"process {os.getpid()}"):
        one.result()
    process.registry().gc()
