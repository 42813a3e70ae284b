"""The lock on a name: short, in one order, dropped by death, and never waited for in vain."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import numpy as np
import pytest
from memshare_jupyter.core.ledger._namelock import NameLocks

import memshare_jupyter as ms
from memshare_jupyter.core.ledger import _namelock
from memshare_jupyter.core.names import PageName
from memshare_jupyter.core.registry import _process as process
from memshare_jupyter.errors import LockTimeoutError

NAMES = [PageName("n", f"v{i}") for i in range(20)]
LOCKS = """
from pathlib import Path
from memshare_jupyter.core.ledger._namelock import NameLocks
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


def test_a_locked_name_is_refused_in_time_and_its_holder_named(locks, other):
    other.run("locks.lock([PageName('n', 'x')])")
    begin = time.monotonic()
    with pytest.raises(LockTimeoutError, match=f"process {other.pid} has held the lock") as error:
        locks.lock([PageName("n", "x")], timeout_s=0.1)
    assert 0.1 <= time.monotonic() - begin < 5
    assert (error.value.pid, error.value.name) == (other.pid, PageName("n", "x"))
    assert isinstance(error.value, TimeoutError)
    locks.lock([PageName("n", "y")], timeout_s=0)


def test_an_unlocked_name_can_be_had_at_once(locks, other):
    other.run("locks.lock([PageName('n', 'x')]); locks.unlock()")
    locks.lock([PageName("n", "x")], timeout_s=0)
    locks.unlock()
    other.run("locks.lock([PageName('n', 'x')], 0)")


def test_a_killed_process_holds_no_name(locks, other):
    other.run("locks.lock([PageName('n', 'x')])")
    other.kill()
    locks.lock([PageName("n", "x")], timeout_s=0)


def test_a_failed_lock_of_several_can_be_undone(locks, other, child, tmp_path):
    other.run("locks.lock([PageName('n', 'v7')])")
    with pytest.raises(LockTimeoutError):
        locks.lock(NAMES, timeout_s=0.05)
    locks.unlock()
    third = child(LOCKS.format(str(tmp_path)))
    third.run("locks.lock([PageName('n', f'v{i}') for i in range(20) if i != 7], 0)")


def test_many_names_locked_in_opposite_orders_never_deadlock(child, tmp_path):
    workers = [child(LOCKS.format(str(tmp_path))) for _ in range(3)]
    for i, one in enumerate(workers):
        one.send(
            f"names = [PageName('n', f'v{{i}}') for i in range(20)][::{1 if i % 2 else -1}]\n"
            "for _ in range(100):\n    locks.lock(names)\n    locks.unlock()"
        )
    for one in workers:
        assert one.result() is None


def test_a_removed_lock_file_is_noticed(locks, other, tmp_path):
    locks.lock(NAMES)
    locks.unlock()
    (tmp_path / _namelock.FILE_NAME).unlink()
    other.run("locks.lock([PageName('n', 'v1')])")
    with pytest.raises(LockTimeoutError):
        locks.lock(NAMES, timeout_s=0.05)


def test_names_that_share_a_byte_only_wait_for_each_other(locks, monkeypatch):
    monkeypatch.setattr(_namelock, "_byte", lambda _: 5)
    locks.lock(NAMES)
    assert locks.unlock() is None


def test_registering_while_a_stopped_process_has_the_name_is_a_clear_error(child, eventually):
    stuck = child("process.registry()")
    stuck.run("at_call('memshare_jupyter.core.registry._claims.refuse_rivals', 1, 'after', stop)")
    stuck.send("ms.register_variables('n', {'x': np.ones(2)})")
    eventually(stuck.stopped)
    rival = child("process.registry()")
    rival.run("import functools; locks = process.registry()._names")
    rival.run("locks.lock = functools.partial(locks.lock, timeout_s=0.1)")
    with pytest.raises(LockTimeoutError, match="it may be stopped, resume or end it"):
        rival.run("ms.register_variables('n', {'x': np.ones(2)})")
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
    one.run("at_call('memshare_jupyter.core.blocks._memfd.MemfdSegment.seal', 1, 'after', stop)")
    one.send("ms.register_variables('n', {'x': np.ones(2)})")
    eventually(one.stopped)
    ms.register_variables("n", {"x": np.zeros(2)})
    one.signal(signal.SIGCONT)
    with pytest.raises(ms.PageExistsError, match=f"process {os.getpid()}"):
        one.result()
    process.registry().gc()
