"""Results in shared memory, of workers that are killed too."""

from __future__ import annotations

import os

import numpy as np
import pytest

from memshare_jupyter.apply._collect import Results
from memshare_jupyter.core import blocks
from memshare_jupyter.worker import _writer as module
from memshare_jupyter.worker._arena import Arena
from memshare_jupyter.worker._layout import Address
from memshare_jupyter.worker._writer import NotPicklable, Writer


@pytest.fixture
def results():
    made = Results(20)
    yield made
    made.close()


@pytest.fixture
def array():
    made = Results(20, blocks.anonymous())
    yield made
    made.close()


def writer_of(results, region=0, substitute=None):
    # The queue is not asked for: any block will do.
    where = results.address, results.address, results.area_address
    return Writer(Arena(), Address(*where, results.items, 1), region, substitute)


def test_results_of_several_workers_come_to_their_places(results):
    for region, ranges in enumerate([[(0, 3), (10, 12)], [(3, 10)], [(12, 20)]]):
        writer = writer_of(results, region)
        for start, stop in ranges:
            writer.begin(start).extend(range(start, stop))
        writer.flush()
        writer.close()
    found = [None] * 20
    results.put(found, 3)
    assert found == list(range(20))
    assert results.recorded(0) == [range(3), range(10, 12)]


def test_types_are_kept(results):
    writer = writer_of(results)
    given = [np.float64(1), np.float64(2)], [1.5, 2], [np.int8(1), np.int8(2)], [True, None]
    for start, some in enumerate(given):
        writer.begin(2 * start).extend(some)
        writer.flush()
    writer.close()
    found = [None] * 20
    results.put(found, 1)
    assert [type(result) for result in found[:8]] == [type(r) for some in given for r in some]
    assert found[:8] == [result for some in given for result in some]


def test_of_a_record_that_was_cut_off_nothing_is_read(results, monkeypatch):
    writer = writer_of(results)
    writer.begin(0).extend([1, 2])
    writer.flush()
    written = []

    def dies_before_the_last(*args):
        written.append(args)
        if len(written) == 2:
            raise KeyboardInterrupt  # as if it was killed
        write_at(*args)

    write_at = blocks.write_at
    monkeypatch.setattr(blocks, "write_at", dies_before_the_last)
    writer.begin(2).extend([3, 4])
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    writer.close()
    assert results.recorded(0) == [range(2)]


def test_a_result_that_cannot_be_sent_is_named_and_those_before_it_are_kept(results):
    writer = writer_of(results)
    writer.begin(5).extend([1, (x for x in ()), 3])
    with pytest.raises(NotPicklable) as caught:
        writer.flush()
    writer.close()
    assert caught.value.index == 6
    assert results.recorded(0) == [range(5, 6)]


@pytest.mark.slow
def test_results_of_one_form_make_an_array_without_being_read(array):
    for region in range(2):
        writer = writer_of(array, region)
        for index in range(region, 20, 2):
            writer.begin(index).append(np.full(3, index, "f4"))
        writer.flush()
        writer.close()
    form = array.complete(2)
    assert form == (np.dtype("f4"), (3,))
    found = array.mapped(form)
    np.testing.assert_array_equal(found, np.repeat(np.arange(20), 3).reshape(20, 3))
    if (pid := os.fork()) == 0:
        found[:] = -1
        os._exit(0)
    os.waitpid(pid, 0)
    assert found.min() == 0  # a child has its own
    del found


def test_the_first_form_counts_and_others_are_kept_beside_it(array):
    first, second = writer_of(array, 0), writer_of(array, 1)
    first.begin(0).extend([1] * 10)
    first.flush()
    second.begin(10).extend([0.5] * 10)
    second.flush()
    first.close()
    second.close()
    assert array.form == (np.dtype(int), ())
    assert array.complete(2) is None
    found = [None] * 20
    array.put(found, 2)
    assert found == [1] * 10 + [0.5] * 10


@pytest.mark.parametrize(
    ("result", "count"), [(np.zeros(1 << 20), 1), (np.zeros(1 << 10), 1024), (1.0, 1024)]
)
def test_large_results_are_written_down_sooner(result, count):
    assert module.at_once(result) == count
