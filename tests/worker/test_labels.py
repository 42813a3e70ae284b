"""An item that failed is called by its label, where that says more than its number."""

from __future__ import annotations

import pytest

from memshare_jupyter.worker import Failure


@pytest.mark.parametrize(
    ("label", "place"),
    [(None, "index 7 on"), ("7", "index 7 on"), ("TP53", r"index 7 \('TP53'\) on")],
)
def test_a_label_that_is_the_number_is_not_said_twice(label, place):
    failure = Failure.of(ValueError("too large"), range(7, 8), 0, "score", __file__)
    error = failure.as_error(lambda _: label)
    assert error.label == label
    with pytest.raises(type(error), match=rf"score failed at {place}"):
        raise error
