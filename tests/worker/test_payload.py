"""Results as bytes: they own their memory, and one can go missing without the others."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from memshare_jupyter.worker import _payload as payload
from memshare_jupyter.worker._gathering import _is_free

LINE = np.arange(6.0)
LINE.flags.writeable = False


@pytest.mark.parametrize(
    "results",
    [
        [1, 2.5, None, "a", b"b", True],
        [np.float32(1), np.float32(2)],
        [(1, 2.5), [3, "x"], {"a": np.int8(1)}],
        [LINE, LINE[::2]],
        [LINE, LINE + 1],
        [np.zeros((2, 3)), np.ones((2, 3))],
        [np.array(3), np.array(4)],
    ],
)
def test_what_any_process_can_read_travels_together_and_comes_back_the_same(results):
    made = payload.together(results)
    assert made is not None
    back = list(payload.load(payload.dumps(made)))
    assert [type(one) for one in back] == [type(one) for one in results]
    for one, other in zip(back, results, strict=True):
        np.testing.assert_equal(one, other)
        if isinstance(one, np.ndarray):
            assert one.flags.writeable
            assert one.base is None or not np.shares_memory(one.base, LINE)


@pytest.mark.parametrize("result", [(1, [object])], ids=["nested"])
@pytest.mark.parametrize("other", [{1}, np.ma.masked, np.array([None]), np.void(b"ab"), 1 + 2j])
def test_others_go_one_by_one(result, other):
    assert payload.together([result, other]) is None


def test_of_pickles_one_by_one_each_is_whole():
    each = payload.Each()
    shared = {"a": LINE}
    each.add(shared)
    with pytest.raises(TypeError):
        each.add(x for x in ())
    each.add([shared, shared])
    pickles = list(payload.loads(each.payload))
    assert len(pickles) == 2
    np.testing.assert_equal(pickle.loads(pickles[1]), [shared, shared])


def test_a_buffer_is_free_when_nothing_is_built_on_it():
    buffer = bytearray(64)
    assert _is_free(buffer)
    kept = np.frombuffer(buffer)[3:4].reshape(1, 1)
    assert not _is_free(buffer)
    del kept
    assert _is_free(buffer)
    assert len(buffer) == 64
    assert not _is_free(bytearray())
