"""What this package says is wrong points at the user's line, without its own insides."""

from __future__ import annotations

from collections.abc import Mapping
from traceback import walk_tb

import numpy as np
import pytest

import memshare_jupyter as ms


def frames_of(error: BaseException) -> list[str]:
    return [frame.f_globals["__name__"] for frame, _ in walk_tb(error.__traceback__)]


@pytest.mark.parametrize(
    "act",
    [
        lambda: ms.release_variables("nowhere", "X"),
        lambda: ms.register_variables("rna", {"X": np.array([None])}),
        lambda: ms.Namespace("rna")["X"],
        lambda: ms.Namespace("rna").empty("X", (2,), order="Z"),
        lambda: ms.memapply(np.eye(2), 3, np.sum),
        lambda: ms.memapply(np.eye(2), 2, np.sum, cluster=object()),
        lambda: ms.memapply(np.eye(2), MARGIN=2, FUN=np.sum),
        lambda: ms.mutual_info_matrix(np.eye(3), [1, 2]),
        lambda: ms.memApply,
    ],
)
def test_a_traceback_ends_at_the_door(act):
    with pytest.raises((ms.MemshareError, TypeError, ValueError, AttributeError)) as caught:
        act()
    ours = [name for name in frames_of(caught.value) if name.startswith("memshare_jupyter")]
    assert ours == ["memshare_jupyter.errors.pointing"]
    assert caught.value.__context__ is None or caught.value.__suppress_context__


class Bad(Mapping):
    """A mapping whose own code fails."""

    def __iter__(self):
        return iter("X")

    def __len__(self):
        return 1

    def __getitem__(self, key):
        raise ZeroDivisionError


def test_what_the_users_code_raises_inside_is_shown_to_its_end():
    with pytest.raises(ZeroDivisionError) as caught:
        ms.register_variables("rna", Bad())
    assert frames_of(caught.value)[-1] == __name__
    assert frames_of(caught.value).count("memshare_jupyter.core.api") == 1


def test_a_fault_of_this_package_is_shown_whole(monkeypatch):
    monkeypatch.setattr("memshare_jupyter.core.api.registry", lambda: None)
    with pytest.raises(AttributeError, match="NoneType") as caught:
        ms.release_variables("rna", "X")
    assert frames_of(caught.value)[-1] == "memshare_jupyter.core.api"
